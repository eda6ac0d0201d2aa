"""Who decides: approvers, requesters, admins for the whole network, and the holders of signed links."""

import re
from urllib.parse import urlsplit

import pytest

from engine.records import Role
from flows.values import Json
from tests.principals import token_of
from tests.receivers import receiving
from tests.unit.ui.api.conftest import Api

PUBLIC = "https://stepbox.example.com/base"
ASKS = """\
flow: asks
steps:
  - id: ask
    approval:
      message: Ship <b>it</b>?
      approvers: [ann, bob]
      own: refuse
      form: {type: object, required: [count], properties: {count: {type: integer, maximum: 9}}}
    with: {note: "<script>alert(1)</script>"}
"""
FULL = """\
flow: full
steps:
  - {id: send, shell: echo sent, network: full}
"""


@pytest.fixture(autouse=True)
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPBOX_PUBLIC_URL", PUBLIC)
    monkeypatch.setenv("STEPBOX_NOTIFY", "ops")


async def be(api: Api, name: str, role: Role) -> dict[str, str]:
    """The headers of a principal."""
    parts = api.serving._parts
    return {"Authorization": f"Bearer {await token_of(await parts.store(), name, role)}"}


async def asked(api: Api, headers: dict[str, str], text: str = ASKS) -> str:
    """The id of the question of a run that a principal has started."""
    run = (await api.call("POST", "/runs", 202, json={"flow": {"text": text}}, headers=headers))["run_id"]
    await api.until(f"/runs/{run}", lambda found: found["status"] == "waiting")
    (one,) = (await api.call("GET", "/approvals", params={"run": run}))["items"]
    return str(one["id"])


async def link(api: Api, approval: str, principal: str, **more: Json) -> str:
    """The path of a link."""
    made = await api.call("POST", f"/approvals/{approval}/links", json={"principal": principal, **more})
    assert made["url"].startswith(f"{PUBLIC}/decide/{approval}/")
    return str(urlsplit(made["url"]).path).removeprefix("/base")


async def test_requesters_and_others_are_refused_and_a_link_is_used_once(api: Api) -> None:
    ann, bob, cid = [await be(api, name, "approver") for name in ("ann", "bob", "cid")]
    approval = await asked(api, ann)
    own = await api.call("POST", f"/approvals/{approval}/approve", 403, json={"values": {"count": 1}}, headers=ann)
    assert (own["code"], "ann asks for this" in own["detail"]) == ("own_approval", True)
    other = await api.call("POST", f"/approvals/{approval}/approve", 403, json={"values": {"count": 1}}, headers=cid)
    assert (other["code"], "ann or bob" in other["detail"]) == ("not_an_approver", True)
    assert (await api.call("POST", f"/approvals/{approval}/links", 403, json={"principal": "ann"}))["code"] == own[
        "code"
    ]
    assert (await api.call("POST", f"/approvals/{approval}/links", 403, json={"principal": "bob"}, headers=bob))[
        "code"
    ] == "forbidden"
    assert (await api.call("GET", f"/approvals/{approval}", headers=bob))["refusal"] is None

    path = await link(api, approval, "bob")
    stranger = {"Authorization": ""}
    page = await api.client.get(path, headers=stranger)
    assert page.status_code == 200
    assert "&lt;script&gt;" in page.text
    assert "<script" not in page.text
    assert "<b>it</b>" not in page.text
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert (await api.call("GET", f"/approvals/{approval}"))["decision"] is None

    wrong = await api.client.post(path, data={"decision": "approved", "value.count": "70"}, headers=stranger)
    assert (wrong.status_code, "70" in wrong.text) == (422, True)
    assert (await api.client.post(path, data={"comment": "hm"}, headers=stranger)).status_code == 400
    yes = await api.client.post(
        path, data={"decision": "approved", "value.count": "7", "comment": "go"}, headers=stranger
    )
    assert (yes.status_code, "You said yes" in yes.text) == (200, True)
    found = await api.call("GET", f"/approvals/{approval}")
    assert (found["decision"], found["by"], found["via"], found["values"], found["comment"]) == (
        "approved",
        "bob",
        "link",
        {"count": 7},
        "go",
    )
    again = await api.client.post(path, data={"decision": "rejected"}, headers=stranger)
    assert again.status_code == 409
    assert re.search(r"approved by bob at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", again.text)
    assert "<form" not in again.text
    assert (await api.call("GET", f"/approvals/{approval}"))["decision"] == "approved"


async def test_links_that_open_nothing(api: Api) -> None:
    await be(api, "bob", "approver")
    eve = await be(api, "eve", "editor")
    approval = await asked(api, eve)
    path = await link(api, approval, "bob")
    second = await asked(api, eve)
    _, _, _, token = path.split("/")
    content, mac = token.split(".")
    changed = f"{content}.{'A' if mac[0] != 'A' else 'B'}{mac[1:]}"
    for bad in (
        f"{approval}/{changed}",
        f"{approval}/{content}x.{mac}",
        f"{approval}/x",
        f"{second}/{token}",
        f"{approval}/{token}A",
    ):
        answer = await api.client.post(f"/decide/{bad}", data={"decision": "rejected"}, headers={"Authorization": ""})
        assert answer.status_code == 404, bad
    late = await link(api, approval, "bob", lasts=0.001)
    expired = await api.client.post(late, data={"decision": "rejected"})
    assert (expired.status_code, "expired" in expired.text) == (410, True)
    assert (await api.call("POST", f"/approvals/{approval}/links", 422, json={"principal": "zoe"}))[
        "code"
    ] == "invalid_call"

    # Another key ends the links of the one before, in a service that goes on too.
    await api.call("PUT", "/secrets/any", json={"value": "a value of some length"})
    await api.call("POST", "/secret-key/rotate", json={"prepare": False})
    assert (await api.client.get(path)).status_code == 404
    path = await link(api, approval, "bob")
    assert (await api.client.get(path)).status_code == 200

    # The link is no more than its principal, who is no approver any more.
    await api.serving.service().set_role("bob", "viewer")
    assert (await api.client.get(path)).status_code == 403
    refused = await api.client.post(path, data={"decision": "rejected"})
    assert refused.status_code == 403
    assert (await api.call("GET", f"/approvals/{approval}"))["decision"] is None
    many = [(await api.client.get("/decide/x/y")).status_code for _ in range(25)]
    assert (many[0], many[-1]) == (404, 429)
    assert (await api.client.get(path)).status_code == 403


async def test_the_whole_network_is_for_another_admin_once_a_version(api: Api) -> None:
    bob = await be(api, "bob", "admin")
    eve = await be(api, "eve", "editor")
    applied = await api.put(FULL)
    approval = applied["approval"]
    own = await api.call("POST", f"/approvals/{approval}/approve", 403, json={})
    assert own["code"] == "own_approval"
    shown = await api.call("GET", f"/approvals/{approval}", headers=bob)
    assert shown["details"]["steps"] == [{"step": "send", "kind": "shell", "code": "echo sent"}]
    run = (await api.call("POST", "/flows/full/runs", 202, json={}, headers=eve))["run_id"]
    await api.until(f"/runs/{run}", lambda found: found["status"] == "waiting")
    await api.call("POST", f"/approvals/{run}/approve", json={}, headers=bob)
    await api.until(f"/runs/{run}", lambda found: found["status"] == "succeeded")

    edited = await api.client.put(
        "/api/v1/flows/full", json={"text": FULL.replace("echo sent", "echo more")}, headers=eve
    )
    anew = edited.json()["approval"]
    assert anew not in {None, approval}
    later = (await api.call("POST", "/flows/full/runs", 202, json={}, headers=eve))["run_id"]
    await api.until(f"/runs/{later}", lambda found: found["status"] == "waiting")
    assert "+  - {id: send, shell: echo more" in (await api.call("GET", f"/approvals/{anew}"))["details"]["diff"]
    refused = await api.call(
        "POST", f"/approvals/{anew}/reject", 403, json={}, headers=await be(api, "ann", "approver")
    )
    assert refused["code"] == "forbidden"
    await api.call("POST", f"/approvals/{anew}/reject", json={"comment": "too much"})
    ended = await api.until(f"/runs/{later}", lambda found: found["status"] == "failed")
    assert ended["steps"]["send"]["error"]["code"] == "network_unapproved"
    assert "too much" in ended["steps"]["send"]["error"]["message"]

    # Back to what was approved; then that is taken back.
    assert (await api.put(FULL))["approval"] is None
    await api.call("POST", f"/approvals/{approval}/revoke", headers=bob)
    (entry,) = (await api.call("GET", "/audit?action=approval.revoke"))["items"]
    assert (entry["actor"]["name"], entry["target"]["id"]) == ("bob", approval)
    assert (await api.put(FULL))["approval"] not in {None, approval, anew}
    for name in ("python", "shell"):
        body = {"language": name, "code": "", "network": "full"}
        assert (await api.call("POST", "/execute", 403, json=body, headers=eve))["code"] == "forbidden"


async def test_approvers_who_are_not_there_are_refused_when_a_flow_is_applied(api: Api) -> None:
    answer = await api.client.put("/api/v1/flows/asks", json={"text": ASKS})
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_approver")
    assert "'ann' is no principal" in answer.json()["detail"]


async def test_people_are_told_until_it_arrives_with_a_link_of_their_own(api: Api) -> None:
    with receiving() as receiver:
        receiver.answers = [503]
        await be(api, "bob", "approver")
        eve = await be(api, "eve", "editor")
        await api.call(
            "PUT", "/secrets/ops", json={"value": f"json://someuser:topsecret@127.0.0.1:{receiver.port}/hook"}
        )
        approval = await asked(api, eve)
        failed = await api.until(
            f"/approvals/{approval}", lambda found: found["notices"] and found["notices"][0]["attempts"]
        )
        (notice,) = failed["notices"]
        assert (notice["to"], notice["sent_at"]) == ("ops", None)
        assert "503" in notice["error"]
        assert "topsecret" not in notice["error"]
        sent = await api.until(f"/approvals/{approval}", lambda found: found["notices"][0]["sent_at"])
        assert (sent["notices"][0]["attempts"], sent["notices"][0]["error"]) == (2, None)
        (came,) = receiver.came
        assert "Ship <b>it</b>?" in came["title"]
        text = came["message"]
        assert "<script>alert(1)</script>" in text
        assert "ann:" not in text
        path = urlsplit(re.search(r"^bob: (https://\S+)$", text, re.MULTILINE)[1]).path.removeprefix("/base")  # type: ignore[index]
        assert (await api.client.post(path, data={"decision": "rejected"})).status_code == 200
    found = await api.call("GET", f"/approvals/{approval}")
    assert (found["decision"], found["by"]) == ("rejected", "bob")

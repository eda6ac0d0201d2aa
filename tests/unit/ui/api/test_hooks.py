"""Requests of other systems: they start runs, verified and once, and are answered as the flow says."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Mapping

import httpx
import pytest

from flows.values import Json
from tests.unit.ui.api.conftest import Api

KEY = b"a key of 24 bytes, or so"
GITHUB = "a-github-secret"
ORDERS = """\
flow: orders
inputs: {n: {type: integer}}
triggers:
  - id: hook
    webhook: {path: orders/new, WEBHOOK}
    if: event.body.n > 0
    with: {n: "${{ event.body.n }}"}
steps:
  - id: double
    shell: echo $((INPUT_N * 2))
    with: {n: "${{ inputs.n }}"}
output: {twice: "${{ steps.double.result }}"}
"""
EVENT: Mapping[str, Json] = {
    "specversion": "1.0",
    "id": "1",
    "source": "/shop",
    "type": "order.created",
    "data": {"n": 3},
}


def orders(webhook: str) -> str:
    return ORDERS.replace("WEBHOOK", webhook)


def standard(body: bytes, identity: str = "m1", at: int | None = None) -> dict[str, str]:
    moment = at or int(time.time())
    signature = base64.b64encode(hmac.digest(KEY, b"%s.%d.%s" % (identity.encode(), moment, body), hashlib.sha256))
    return {
        "Content-Type": "application/json",
        "webhook-id": identity,
        "webhook-timestamp": str(moment),
        "webhook-signature": f"v1,{signature.decode()}",
    }


def github(body: bytes, identity: str = "d1") -> dict[str, str]:
    signature = hmac.digest(GITHUB.encode(), body, hashlib.sha256).hex()
    return {
        "Content-Type": "application/json",
        "X-Hub-Signature-256": f"sha256={signature}",
        "X-GitHub-Delivery": identity,
    }


async def send(api: Api, path: str, content: bytes | AsyncIterator[bytes], **headers: str) -> httpx.Response:
    """As another system does, without a token."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api.app), base_url="http://stepbox") as anybody:
        return await anybody.post(f"/hooks/{path}", content=content, headers=headers)


async def set_secret(api: Api, name: str, value: str) -> None:
    await api.serving.service().set_secret(name, value)


async def test_a_signed_request_starts_a_run_and_a_duplicate_gets_its_answer(api: Api) -> None:
    await set_secret(api, "hook_key", f"whsec_{base64.b64encode(KEY).decode()}")
    await api.put(orders("secret: hook_key"))
    body = json.dumps({"n": 4}).encode()
    first = await send(api, "orders/new", body, **standard(body))
    assert first.status_code == 202, first.text
    taken = first.json()
    assert taken["status"] == "started"
    assert first.headers["Location"] == f"/api/v1/runs/{taken['run']}"
    run = await api.until(f"/runs/{taken['run']}", lambda run: run["status"] == "succeeded")
    assert run["output"] == {"twice": "8"}
    assert run["trigger"] == {"id": "hook", "kind": "webhook"}
    again = await send(api, "orders/new", body, **standard(body))
    assert (again.status_code, again.json(), again.headers["Location"]) == (202, taken, first.headers["Location"])
    assert len((await api.call("GET", "/runs"))["items"]) == 1


async def test_what_is_not_verified_gets_401_and_starts_nothing(api: Api) -> None:
    await set_secret(api, "hook_key", f"whsec_{base64.b64encode(KEY).decode()}")
    await api.put(orders("secret: hook_key"))
    body = b'{"n": 4}'
    for headers in ({}, standard(b'{"n": 5}'), standard(body, at=int(time.time()) - 600)):
        answer = await send(api, "orders/new", body, **headers)
        assert answer.status_code == 401
        problem = answer.json()
        assert (problem["code"], problem["detail"]) == ("unverified", "the request isn't verified")
        assert answer.headers["WWW-Authenticate"] == 'Webhook verify="standard"'
    assert (await api.call("GET", "/runs"))["items"] == []


async def test_a_token_opens_no_webhook_and_a_signature_no_api(api: Api) -> None:
    await set_secret(api, "hook_key", GITHUB)
    await api.put(orders("verify: github, secret: hook_key"))
    answer = await api.client.post("/hooks/orders/new", json={"n": 1})
    assert answer.status_code == 401
    for path in ("/api/v1/events", "/api/v1/hooks/orders/new", "/hooks", "//hooks/orders/new"):
        assert (await send(api, f"..{path}", b"{}", **github(b"{}"))).status_code in {401, 404}, path


async def test_a_filtered_event_is_taken_and_named(api: Api) -> None:
    await api.put(orders("verify: none"))
    answer = await send(api, "orders/new", b'{"n": 0}', **{"Content-Type": "application/json"})
    assert answer.status_code == 202
    taken = answer.json()
    assert (taken["status"], taken["run"], "Location" in answer.headers) == ("filtered", None, False)


@pytest.mark.parametrize("path", ["orders", "orders/new/", "ORDERS/new", "other/orders/new", "", "%2e%2e/x"])
async def test_another_path_is_unknown(api: Api, path: str) -> None:
    await api.put(orders("verify: none"))
    answer = await send(api, path, b"{}")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_webhook")


async def test_the_workspace_may_be_named_and_its_own_paths_come_first(api: Api) -> None:
    await api.put(orders("verify: none"))
    await api.put(orders("verify: none").replace("flow: orders", "flow: other").replace("orders/new", "default/x"))
    named = await send(api, "default/orders/new", b'{"n": 1}', **{"Content-Type": "application/json"})
    own = await send(api, "default/x", b'{"n": 1}', **{"Content-Type": "application/json"})
    runs = [await api.call("GET", f"/runs/{answer.json()['run']}") for answer in (named, own)]
    assert [run["flow"] for run in runs] == ["orders", "other"]


async def test_a_body_is_read_no_further_than_the_webhook_takes(api: Api) -> None:
    await api.put(orders("verify: none, max_body: 1kB"))
    given = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            given += 400
            yield b"x" * 400

    answer = await send(api, "orders/new", endless())
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert given <= 2000
    declared = await send(api, "orders/new", b"x" * 1001)
    assert declared.status_code == 413


async def test_more_than_its_rate_is_told_when_to_come_again(api: Api) -> None:
    await api.put(orders("verify: none, rate: {limit: 1, per: 1h}"))
    headers = {"Content-Type": "application/json"}
    assert (await send(api, "orders/new", b'{"n": 1}', **headers)).status_code == 202
    answer = await send(api, "orders/new", b'{"n": 1}', **headers)
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests")
    assert 3500 < int(answer.headers["Retry-After"]) <= 3600


async def test_other_methods_are_named(api: Api) -> None:
    await api.put(orders("verify: none, methods: [POST, PUT]"))
    answer = await api.client.get("/hooks/orders/new")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST, PUT")


async def test_what_is_no_json_is_400_and_what_is_compressed_415(api: Api) -> None:
    await api.put(orders("verify: none"))
    assert (await send(api, "orders/new", b"{", **{"Content-Type": "application/json"})).status_code == 400
    assert (await send(api, "orders/new", b"x", **{"Content-Encoding": "gzip"})).status_code == 415


async def test_a_webhook_without_its_secret_says_so_in_the_log_only(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    await api.put(orders("secret: hook_key"))
    answer = await send(api, "orders/new", b"{}", **standard(b"{}"))
    assert (answer.status_code, answer.json()["code"]) == (503, "webhook_unavailable")
    assert "hook_key" not in answer.text
    assert "there is no secret 'hook_key'" in caplog.text


async def test_the_result_is_the_answer_where_that_is_asked(api: Api) -> None:
    await api.put(orders("verify: none, respond: result"))
    answer = await send(api, "orders/new", b'{"n": 21}', **{"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()) == (200, {"twice": "42"})
    run = answer.headers["Location"].rpartition("/")[2]
    assert (await api.call("GET", f"/runs/{run}"))["status"] == "succeeded"


async def test_an_answer_of_ones_own_sees_the_run(api: Api) -> None:
    body = "{doubled: '${{ output.twice }}', by: '${{ steps.double.status }}', of: '${{ event.body.n }}'}"
    await api.put(orders(f"verify: none, respond: {{status: 201, body: {body}}}"))
    answer = await send(api, "orders/new", b'{"n": 21}', **{"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()) == (201, {"doubled": "42", "by": "succeeded", "of": 21})


async def test_a_run_that_fails_is_no_result(api: Api) -> None:
    await api.put(orders("verify: none, respond: result").replace("echo $((INPUT_N * 2))", "exit 3"))
    answer = await send(api, "orders/new", b'{"n": 21}', **{"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (500, "run_failed")
    assert answer.headers["Location"].startswith("/api/v1/runs/")


async def test_a_result_that_takes_too_long_is_accepted(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.intake.hooks.RESULT_WITHIN", 0.1)
    await api.put(orders("verify: none, respond: result").replace("echo $", "sleep 60; echo $"))
    answer = await send(api, "orders/new", b'{"n": 21}', **{"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["status"]) == (202, "started")
    await api.call("POST", f"/runs/{answer.json()['run']}/cancel", 202)
    await api.until(f"/runs/{answer.json()['run']}", lambda run: run["status"] == "cancelled")


async def test_a_disabled_flow_has_no_webhook_and_an_enabled_one_at_once(api: Api) -> None:
    await api.put(orders("verify: none"))
    headers = {"Content-Type": "application/json"}
    await api.call("POST", "/flows/orders/disable")
    assert (await send(api, "orders/new", b'{"n": 1}', **headers)).status_code == 404
    await api.call("POST", "/flows/orders/enable")
    assert (await send(api, "orders/new", b'{"n": 1}', **headers)).status_code == 202


async def test_a_flow_that_can_not_run_here_is_a_dead_letter(api: Api) -> None:
    await api.put("flow: child\nsteps:\n  - id: one\n    shell: echo first\n")
    await api.put(orders("verify: none").split("steps:")[0] + "steps:\n  - id: sub\n    flow: child\n")
    await api.call("DELETE", "/flows/child", 204)
    answer = await send(api, "orders/new", b'{"n": 1}', **{"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["status"]) == (202, "dead")
    assert await api.call("GET", "/runs") == {"items": [], "next": None}


async def test_a_flow_whose_concurrency_skips_says_so(api: Api) -> None:
    text = orders("verify: none").replace("echo $", "sleep 60; echo $")
    await api.put(text.replace("steps:", "concurrency: {limit: 1, policy: skip}\nsteps:", 1))
    headers = {"Content-Type": "application/json"}
    first = await send(api, "orders/new", b'{"n": 1}', **headers)
    second = await send(api, "orders/new", b'{"n": 1}', **headers)
    assert [answer.json()["status"] for answer in (first, second)] == ["started", "skipped"]
    await api.call("POST", f"/runs/{first.json()['run']}/cancel", 202)
    await api.until("/runs", lambda runs: [run["status"] for run in runs["items"]] == ["cancelled"])


async def test_a_subflow_of_a_triggered_run_keeps_the_version_it_began_with(api: Api) -> None:
    await api.put("flow: child\nsteps:\n  - id: one\n    shell: echo first\noutput: ${{ steps.one.result }}\n")
    parent = orders("verify: none, respond: result").split("steps:")[0]
    steps = "steps:\n  - id: sub\n    flow: child\noutput: ${{ steps.sub.result }}\n"
    await api.put(parent + steps)
    headers = {"Content-Type": "application/json"}
    assert (await send(api, "orders/new", b'{"n": 1}', **headers)).json() == "first"
    await api.put("flow: child\nsteps:\n  - id: one\n    shell: echo second\noutput: ${{ steps.one.result }}\n")
    assert (await send(api, "orders/new", b'{"n": 1}', **headers)).json() == "second"


FORM = """\
flow: papers
triggers:
  - id: hook
    webhook: {path: papers, verify: none, max_body: 2MB, respond: result}
steps:
  - id: sums
    shell: cd event; sha256sum */*
    files: ["event/*"]
    with: {name: "${{ event.files[0].filename }}"}
output: ${{ steps.sums.result }}
"""


async def test_the_files_of_a_form_are_there_for_the_run_and_for_people(api: Api) -> None:
    await api.put(FORM)
    contents = [b"a,b\n1,2\n", bytes(range(256)) * 4000]
    binary = "application/octet-stream"
    files = [("t", ("table.csv", contents[0], "text/csv")), ("t", ("../../evil name.bin", contents[1], binary))]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api.app), base_url="http://stepbox") as anybody:
        answer = await anybody.post("/hooks/papers", files=files, data={"note": "both"})
    assert answer.status_code == 200, answer.text
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    assert answer.json().splitlines() == [f"{digests[0]}  0/table.csv", f"{digests[1]}  1/evil name.bin"]
    service = api.serving.service()
    records = await service.run_artifacts(answer.headers["Location"].rpartition("/")[2])
    assert [(one.name, one.size, one.superseded) for one in records] == [
        ("event/0/table.csv", 8, False),
        ("event/1/evil name.bin", 1_024_000, False),
    ]
    fetched = await service.fetch_artifacts([one.artifact for one in records])
    assert [path.read_bytes() for path in fetched] == contents


async def test_a_form_that_is_refused_leaves_no_files(api: Api) -> None:
    await api.put(FORM.replace("verify: none", "verify: token, secret: hook_key"))
    await set_secret(api, "hook_key", "a-token")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api.app), base_url="http://stepbox") as anybody:
        answer = await anybody.post("/hooks/papers", files={"table": b"x"})
        assert answer.status_code == 401
        cut = b'--b\r\nContent-Disposition: form-data; name="t"; filename="t"\r\n\r\nhalf'
        headers = {"Authorization": "Bearer a-token", "Content-Type": "multipart/form-data; boundary=b"}
        answer = await anybody.post("/hooks/papers", content=cut, headers=headers)
        assert answer.status_code == 400
    kept = [path for path in (api.home / "artifacts").rglob("*") if path.is_file()]
    assert kept == []


async def test_a_run_without_a_form_has_no_files_of_its_event(api: Api) -> None:
    await api.put(
        FORM.replace("cd event; sha256sum */*", "ls").replace(
            '    with: {name: "${{ event.files[0].filename }}"}\n', ""
        )
    )
    run = await api.call("POST", "/flows/papers/runs?wait=30", json={})
    assert (run["status"], "event" in run["output"]) == ("succeeded", False)


LISTENER = """\
flow: listener
inputs: {n: {type: integer}}
triggers:
  - id: created
    event: {type: "order.*"}
    with: {n: "${{ event.data.n }}"}
steps:
  - id: one
    shell: echo $INPUT_N
    with: {n: "${{ inputs.n }}"}
output: ${{ steps.one.result }}
"""


async def test_an_event_starts_the_flows_it_is_for_once(api: Api) -> None:
    await api.put(LISTENER)
    headers = {"Content-Type": "application/cloudevents+json"}
    answer = await api.client.post("/api/v1/events", content=json.dumps(EVENT), headers=headers)
    assert answer.status_code == 202, answer.text
    (taken,) = answer.json()["items"]
    assert (taken["key"], taken["duplicate"], len(taken["deliveries"])) == ("/shop 1", False, 1)
    await api.until("/runs", lambda runs: [run["status"] for run in runs["items"]] == ["succeeded"])
    again = await api.client.post("/api/v1/events", content=json.dumps(EVENT), headers=headers)
    (repeated,) = again.json()["items"]
    assert (repeated["event"], repeated["duplicate"]) == (taken["event"], True)
    assert repeated["deliveries"][0]["status"] == "started"


async def test_events_come_in_a_batch_and_in_binary(api: Api) -> None:
    await api.put(LISTENER)
    batch = [dict(EVENT), {**EVENT, "id": "2", "type": "other"}]
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    answer = await api.client.post("/api/v1/events", content=json.dumps(batch), headers=headers)
    assert [len(each["deliveries"]) for each in answer.json()["items"]] == [1, 0]
    binary = {f"ce-{name}": str(EVENT[name]) for name in ("specversion", "source", "type")}
    answer = await api.client.post("/api/v1/events", json={"n": 5}, headers={**binary, "ce-id": "3"})
    assert answer.status_code == 202, answer.text
    await api.until("/runs", lambda runs: [run["status"] for run in runs["items"]] == ["succeeded"] * 2)


async def test_what_is_no_event_is_refused_and_nothing_of_its_batch_is_kept(api: Api) -> None:
    await api.put(LISTENER)
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    batch = [dict(EVENT), {"id": "2"}]
    answer = await api.client.post("/api/v1/events", content=json.dumps(batch), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_event")
    assert "event 1" in answer.json()["detail"]
    await asyncio.sleep(0.1)
    assert (await api.call("GET", "/runs"))["items"] == []


async def test_events_need_a_token(api: Api) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api.app), base_url="http://stepbox") as anybody:
        answer = await anybody.post("/api/v1/events", json=dict(EVENT))
    assert answer.status_code == 401


async def test_nothing_is_taken_once_the_service_ends(api: Api) -> None:
    await api.put(orders("verify: none"))
    await api.serving.stop()
    answer = await send(api, "orders/new", b'{"n": 1}', **{"Content-Type": "application/json"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    checks = (await api.client.get("/readyz")).json()["checks"]
    assert checks["intake"] == "the service is shutting down"

"""What is refused leaves an entry in the audit: tools, tokens, approvals and links."""

from urllib.parse import urlsplit

import pytest

from engine.principals import GrantPatterns
from flows.values import Json
from tests.principals import token_of
from tests.unit.ui.api.conftest import Api

CALLS = """\
flow: calls
steps:
  - id: code
    tools: [workspace.create_task]
    python: |
      try:
          tools.create_task(title="t", statusId="open")
      except Exception as error:
          return str(error)
"""
ASKS = """\
flow: asks
steps:
  - {id: ask, approval: {message: may I?, own: refuse}}
"""


@pytest.fixture(autouse=True)
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPBOX_PUBLIC_URL", "https://stepbox.example.com")


async def be(api: Api, name: str, role: str) -> dict[str, str]:
    token = await token_of(await api.serving._parts.store(), name, role)  # type: ignore[arg-type]
    return {"Authorization": f"Bearer {token}"}


async def refused(api: Api, action: str) -> list[tuple[Json, Json, Json]]:
    """Of the refusals of an action, the newest first: who, what it was done to, and the code."""
    page = await api.call("GET", f"/audit?action={action}&limit=100")
    return [
        (one["actor"]["name"], (one["target"] or {}).get("id"), one["details"]["code"])
        for one in page["items"]
        if one["outcome"] == "refused"
    ]


async def test_a_tool_that_the_principal_is_not_granted(api: Api) -> None:
    eve = await be(api, "eve", "editor")
    service = api.serving.service()
    await service.ungrant("eve", GrantPatterns(tools=("*",)))
    await service.grant("eve", GrantPatterns(tools=("http.*",)))
    run = await api.call("POST", "/runs?wait=60", json={"flow": {"text": CALLS}}, headers=eve)
    assert "not granted the tool workspace.create_task" in run["steps"]["code"]["result"]
    assert await refused(api, "tool.call") == [("eve", "workspace.create_task", "forbidden")]
    (entry,) = (await api.call("GET", "/audit?action=tool.call"))["items"]
    assert (entry["actor"]["kind"], entry["run"]) == ("run", run["run_id"])


async def test_tokens_that_open_nothing_any_more(api: Api) -> None:
    service = api.serving.service()
    await service.create_principal("ci", role="editor", kind="service")
    token = await service.create_token("ci")
    await service.revoke_token(token.record.id)
    answer = await api.client.get("/api/v1/runs", headers={"Authorization": f"Bearer {token.text}"})
    assert answer.status_code == 401
    ((who, what, _code),) = await refused(api, "sign_in")
    assert (who, what) == ("stranger", token.record.id)


async def test_one_s_own_question_and_a_link_that_was_used(api: Api) -> None:
    ann = await be(api, "ann", "approver")
    await be(api, "bob", "approver")
    run = (await api.call("POST", "/runs", 202, json={"flow": {"text": ASKS}}, headers=ann))["run_id"]
    await api.until(f"/runs/{run}", lambda found: found["status"] == "waiting")
    (asked,) = (await api.call("GET", "/approvals", params={"run": run}))["items"]
    await api.call("POST", f"/approvals/{asked['id']}/approve", 403, json={}, headers=ann)
    assert await refused(api, "approval.decide") == [("ann", asked["id"], "own_approval")]

    made = await api.call("POST", f"/approvals/{asked['id']}/links", json={"principal": "bob"})
    path = urlsplit(made["url"]).path
    yes = {"decision": "approved"}
    assert (await api.client.post(path, data=yes)).status_code == 200
    assert (await api.client.post(path, data=yes)).status_code == 409
    assert await refused(api, "approval.decide") == [
        ("bob", asked["id"], "already_decided"),
        ("ann", asked["id"], "own_approval"),
    ]
    assert (await api.client.get(f"{path}x")).status_code == 404
    assert await refused(api, "link.open") == [("stranger", None, "invalid_link")]

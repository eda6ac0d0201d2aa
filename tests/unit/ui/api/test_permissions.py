"""What a token, a grant and a role let through over the API, and whom what triggers start acts for."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from engine.principals import TokenScope
from engine.tokens import issue
from flows.values import Json
from tests.unit.ui.api.conftest import QUICK, Api

TASKS = """\
flow: NAME
triggers: [{id: told, event: {type: order.*}}]
steps:
  - id: tasks
    tool: workspace.search_tasks
"""
EVENT = {"specversion": "1.0", "source": "/shop", "type": "order.created"}


async def token_of(api: Api, name: str, **scope: Json) -> dict[str, str]:
    made = await api.call("POST", "/tokens", 201, json={"name": name, **scope})
    return {"Authorization": f"Bearer {made['token']}"}


async def principal(api: Api, name: str, role: str = "editor", **grants: Json) -> None:
    await api.call("POST", "/principals", 201, json={"name": name, "role": role, **grants})


async def test_a_token_of_somebody_unknown_is_not_made(api: Api) -> None:
    refused = await api.call("POST", "/tokens", 404, json={"name": "nobody"})
    assert refused["fix"] == "make it: stepbox principals create nobody --role ROLE"
    await api.call("POST", "/tokens", 422, json={"name": "admin", "scopes": ["run.start"]})


async def test_a_revoked_and_an_expired_token_are_refused_with_the_reason(api: Api) -> None:
    await principal(api, "ann")
    stolen = await token_of(api, "ann")
    await api.call("GET", "/flows", headers=stolen)
    (token,) = (await api.call("GET", "/tokens", headers=stolen))["items"]
    assert (token["name"], token["last_used_at"] is None) == ("ann", False)
    # Its own principal may revoke it, and sees no other.
    await api.call("DELETE", "/tokens/admin", 404, headers=stolen)
    await api.call("DELETE", f"/tokens/{token['token_id']}", headers=stolen)
    refused = await api.call("GET", "/flows", 401, headers=stolen)
    assert (refused["code"], "was revoked at" in refused["detail"]) == ("unauthenticated", True)
    store = api.serving._store
    past = TokenScope(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    old = await issue(store, await store.principals.find("ann"), past)
    refused = await api.call("GET", "/flows", 401, headers={"Authorization": f"Bearer {old.text}"})
    assert "has expired at" in refused["detail"]


async def test_a_token_is_for_its_scopes_and_its_flows_only(api: Api) -> None:
    await api.put(QUICK)
    await api.put(QUICK.replace("quick", "other"))
    await principal(api, "ci")
    small = await token_of(api, "ci", scopes=["runs.*"], only_flows=["qu*"])
    started = await api.call("POST", "/flows/quick/runs?wait=60", json={}, headers=small)
    assert (started["status"], started["principal"]) == ("succeeded", "ci")
    refused = await api.call("POST", "/flows/other/runs", 403, json={}, headers=small)
    assert "the token of ci is not for the flow 'other', only for qu*" in refused["detail"]
    refused = await api.call("GET", "/flows", 403, headers=small)
    assert "is not for flows.read, only for runs.*" in refused["detail"]
    # Code that is handed over is more than a flow that is there.
    await api.call("POST", "/runs", 403, json={"flow": {"text": QUICK}}, headers=small)
    await api.call("GET", "/tokens", 403, headers=small)


async def test_a_token_makes_none_that_opens_more(api: Api) -> None:
    small = await token_of(api, "admin", scopes=["tokens.*", "runs.*"], only_flows=["a_*"])
    for body in ({}, {"scopes": ["runs.*"]}, {"scopes": ["flows.read"], "only_flows": ["a_*"]}):
        await api.call("POST", "/tokens", 403, json={"name": "admin", **body}, headers=small)
    await api.call(
        "POST", "/tokens", 201, json={"name": "admin", "scopes": ["runs.read"], "only_flows": ["a_b*"]}, headers=small
    )


async def test_only_granted_flows_are_seen_started_and_changed_with_all_that_hangs_on_them(api: Api) -> None:
    await api.put(TASKS.replace("NAME", "a_one"))
    await api.put(TASKS.replace("NAME", "b_one"))
    runs = {name: await api.call("POST", f"/flows/{name}/runs?wait=60", json={}) for name in ("a_one", "b_one")}
    sent = await api.call("POST", "/events", 202, json=[{**EVENT, "id": "1"}], headers=BATCH)
    await api.until("/runs", lambda page: len(page["items"]) == 4)
    await principal(api, "ann", flows=["a_*"])
    ann = await token_of(api, "ann")
    assert [flow["flow"] for flow in (await api.call("GET", "/flows", headers=ann))["items"]] == ["a_one"]
    assert {run["flow"] for run in (await api.call("GET", "/runs", headers=ann))["items"]} == {"a_one"}
    hidden = runs["b_one"]["run_id"]
    for path in ("", "/steps", "/logs", "/tool-calls", "/egress", "/artifacts", "/events", "/flow"):
        await api.call("GET", f"/runs/{hidden}{path}", 404, headers=ann)
        if path != "/events":
            await api.call("GET", f"/runs/{runs['a_one']['run_id']}{path}", headers=ann)
    for action in ("cancel", "resume", "retry"):
        await api.call(
            "POST", f"/runs/{hidden}/{action}", 404, headers=ann, **({"json": {}} if action == "retry" else {})
        )
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/enable"), ("POST", "/redrive"), ("GET", "/versions")):
        refused = await api.call(method, f"/flows/b_one{path}", 403, headers=ann)
        assert refused["detail"] == "ann is not granted the flow 'b_one'"
    await api.call("PUT", "/flows/b_two", 403, json={"text": TASKS.replace("NAME", "b_two")}, headers=ann)
    await api.call("PUT", "/flows/a_two", 201, json={"text": TASKS.replace("NAME", "a_two")}, headers=ann)
    event = await api.call("GET", f"/events/{sent['items'][0]['event']}", headers=ann)
    assert [each["flow"] for each in event["deliveries"]] == ["a_one"]
    assert (
        "all flows"
        in (await api.call("POST", "/events", 403, json={**EVENT, "id": "2"}, headers={**ann, **ONE}))["detail"]
    )
    await api.call("POST", "/execute", 403, json={"language": "shell", "code": "echo"}, headers=ann)


ONE = {"Content-Type": "application/cloudevents+json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}


@pytest.mark.parametrize("change", ["disable", "role", "revoke"])
async def test_what_a_trigger_starts_acts_for_who_applied_the_flow(api: Api, change: str) -> None:
    await principal(api, "ann")
    ann = await token_of(api, "ann")
    await api.call("PUT", "/flows/a_one", 201, json={"text": TASKS.replace("NAME", "a_one")}, headers=ann)
    assert await _told(api, "1") == ("started", None)
    (run,) = (await api.until("/runs", lambda page: page["items"] and page["items"][0]["ended_at"]))["items"]
    assert (run["principal"], run["status"]) == ("ann", "succeeded")
    if change == "role":
        await api.call("PUT", "/principals/ann/role", json={"role": "viewer"})
    elif change == "disable":
        await api.call("POST", "/principals/ann/disable")
    else:
        await api.call("POST", "/principals/ann/revoke", json={"flows": ["*"]})
    assert await _told(api, "2") == ("dead", "forbidden")
    # Whoever applies it now is the one for whom it acts; nothing was lost.
    await api.put(TASKS.replace("NAME", "a_one"))
    (dead,) = (await api.call("GET", "/events?status=dead"))["items"]
    await api.call("POST", f"/events/{dead['id']}/redrive")
    page = await api.until("/runs", lambda page: len(page["items"]) == 2)
    assert page["items"][0]["principal"] == "admin"


async def _told(api: Api, event: str) -> tuple[str, str | None]:
    sent = await api.call("POST", "/events", 202, content=json.dumps({**EVENT, "id": event}), headers=ONE)
    found = await api.until(
        f"/events/{sent['items'][0]['event']}", lambda event: event["deliveries"][0]["status"] != "pending"
    )
    (delivery,) = found["deliveries"]
    return delivery["status"], (delivery["error"] or {}).get("code")


async def test_who_retries_a_run_is_the_one_for_whom_the_new_one_acts(api: Api) -> None:
    await api.put(QUICK)
    await principal(api, "ann")
    first = await api.call("POST", "/flows/quick/runs?wait=60", json={})
    ann = await token_of(api, "ann")
    second = await api.call("POST", f"/runs/{first['run_id']}/retry?wait=60", json={"from": "one"}, headers=ann)
    assert (first["principal"], second["principal"]) == ("admin", "ann")

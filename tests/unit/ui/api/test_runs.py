"""Runs over the API: started once, waited for, read, cancelled, refused."""

import asyncio
import time

from tests.unit.ui.api.conftest import QUICK, SLOW, Api


async def test_a_run_is_waited_for_and_read(api: Api) -> None:
    await api.put(QUICK)
    run = await api.call("POST", "/flows/quick/runs?wait=60", json={"inputs": {"n": 7}})
    assert (run["status"], run["output"], run["inputs"]) == ("succeeded", "n is 7", {"n": 7})
    assert run["trigger"] == {"kind": "api", "principal": "admin"}
    run_id = run["run_id"]
    assert await api.call("GET", f"/runs/{run_id}") == run
    assert await api.call("GET", f"/runs/{run_id[:20].lower()}") == run
    steps = await api.call("GET", f"/runs/{run_id}/steps")
    assert [(step["step"], step["status"], step["result"], step["isolation"]) for step in steps["items"]] == [
        ("one", "succeeded", "n is 7", "jail")
    ]
    logs = await api.call("GET", f"/runs/{run_id}/logs")
    assert [(line["step"], line["stream"], line["line"]) for line in logs["items"]] == [("one", "stdout", "n is 7")]
    for listing in ("tool-calls", "egress"):
        assert await api.call("GET", f"/runs/{run_id}/{listing}") == {"items": [], "next": None}
    listed = await api.call("GET", "/runs?flow=quick&status=succeeded")
    assert [one["run_id"] for one in listed["items"]] == [run_id]
    assert (await api.call("GET", "/runs?status=failed"))["items"] == []


async def test_a_key_starts_one_run_however_often_it_is_used(api: Api) -> None:
    await api.put(QUICK)
    key, body = {"Idempotency-Key": "order-4711"}, {"inputs": {"n": 1}}
    answers = await asyncio.gather(
        *(api.client.post("/api/v1/flows/quick/runs", json=body, headers=key) for _ in range(5))
    )
    assert [answer.status_code for answer in answers] == [202] * 5
    assert len({answer.json()["run_id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 4
    other = await api.call("POST", "/flows/quick/runs", 422, json={"inputs": {"n": 2}}, headers=key)
    assert other["code"] == "idempotency_key_reused"
    await api.call("POST", "/flows/quick/runs", 422, json=body, headers={"Idempotency-Key": "two words"})
    ended = await api.client.post("/api/v1/flows/quick/runs?wait=60", json=body, headers=key)
    assert (ended.status_code, ended.json()["status"]) == (200, "succeeded")
    assert ended.headers["location"] == f"/api/v1/runs/{ended.json()['run_id']}"
    assert len((await api.call("GET", "/runs"))["items"]) == 1


async def test_a_flow_is_tried_without_being_put_into_service(api: Api) -> None:
    await api.put(QUICK)
    trial = {"flow": {"text": QUICK.replace("n is", "tried")}, "inputs": {"n": 2}}
    run = await api.call("POST", "/runs?wait=60", json=trial)
    assert run["output"] == "tried 2"
    assert (await api.call("GET", "/flows/quick"))["version"] == 1
    assert (await api.call("POST", "/flows/quick/runs?wait=60", json={}))["output"] == "n is 1"


async def test_what_cannot_run_is_refused_before_anything_is_recorded(api: Api) -> None:
    await api.put(QUICK)
    for body, code in (({"inputs": {"n": "x"}}, "invalid_input"), ({"inputs": {"m": 1}}, "invalid_input")):
        refused = await api.call("POST", "/flows/quick/runs", 422, json=body)
        assert (refused["code"], bool(refused["fix"])) == (code, True)
    assert (await api.call("POST", "/flows/other/runs", 404, json={}))["code"] == "unknown_flow"
    secret = {"text": "flow: parked\nsteps: [{id: w, shell: ls, secrets: [key]}]\n"}
    assert (await api.call("POST", "/runs", 404, json={"flow": secret}))["code"] == "unknown_secret"
    assert (await api.call("GET", "/runs"))["items"] == []


async def test_waiting_ends_before_the_run_does_and_cancelling_ends_it(api: Api) -> None:
    await api.put(SLOW)
    begun = time.monotonic()
    run = await api.call("POST", "/flows/slow/runs?wait=0.5", 202, json={})
    assert time.monotonic() - begun < 30
    assert run["status"] in {"queued", "running"}
    path = f"/runs/{run['run_id']}"
    await api.until(f"{path}/logs", lambda logs: bool(logs["items"]))
    await api.call("POST", f"{path}/cancel", 202)
    ended = await api.until(path, lambda run: run["status"] != "running")
    assert (ended["status"], ended["error"]["code"]) == ("cancelled", "run_cancelled")
    assert {name: step["status"] for name, step in ended["steps"].items()} == {
        "nap": "cancelled",
        "after": "skipped",
        "last": "succeeded",
    }
    again = await api.call("POST", f"{path}/cancel", 409)
    assert again["code"] == "already_finished"


async def test_a_queued_run_is_cancelled_before_it_begins(api: Api) -> None:
    await api.put(QUICK)
    await api.serving._dispatcher._end_loop()
    run = await api.call("POST", "/flows/quick/runs", 202, json={})
    assert run["status"] == "queued"
    cancelled = await api.call("POST", f"/runs/{run['run_id']}/cancel", 202)
    assert (cancelled["status"], cancelled["error"]["code"]) == ("cancelled", "run_cancelled")


async def test_a_service_that_stops_starts_nothing_more_and_says_so(api: Api) -> None:
    await api.put(QUICK)
    await api.serving.stop()
    refused = await api.client.post("/api/v1/flows/quick/runs", json={})
    assert (refused.status_code, refused.json()["code"]) == (503, "shutting_down")
    assert refused.headers["retry-after"]
    assert (await api.client.get("/readyz")).json()["checks"]["dispatcher"] == "the service is shutting down"
    assert (await api.call("GET", "/runs"))["items"] == []


async def test_listings_go_on_where_the_page_before_ended(api: Api) -> None:
    await api.put(
        "flow: many\nsteps: [{id: s, shell: 'for i in 1 2 3; do echo $i; done', for_each: {in: [1, 2, 3]}}]\n"
    )
    run = await api.call("POST", "/flows/many/runs?wait=60", json={})
    for listing, count in (("steps", 4), ("logs", 9)):
        seen, cursor = [], ""
        while True:
            page = await api.call("GET", f"/runs/{run['run_id']}/{listing}?limit=2{cursor}")
            seen += page["items"]
            if page["next"] is None:
                break
            assert len(page["items"]) == 2
            cursor = f"&cursor={page['next']}"
        whole = await api.call("GET", f"/runs/{run['run_id']}/{listing}")
        assert (seen, len(seen)) == (whole["items"], count)
    first = (await api.call("GET", "/runs?limit=1"))["next"]
    assert first is None
    await api.call("GET", f"/runs/{run['run_id']}/logs?cursor=x", 422)
    await api.call("GET", "/runs/7ZZ", 404)

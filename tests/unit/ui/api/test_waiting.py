"""Runs of a service that wait: for a person, for a time, for an event. The service continues them by itself."""

import asyncio

import pytest

from engine.store.errors import DecidedError, UnknownRecordError
from flows.values import Json
from tests.unit.ui.api.conftest import Api

ASKS = """\
flow: asks
steps:
  - {id: ask, approval: {message: Go on?}}
  - {id: then, tool: workspace.create_task, with: {title: went on, statusId: open}}
finally:
  - {id: last, shell: echo cleaned up}
"""
PAID = """\
flow: paid
steps:
  - {id: w, wait: {event: "shop.*", match: event.data.order == 7}}
output: ${{ steps.w.result.data.amount }}
"""


async def waits(api: Api, flow: str) -> str:
    """The id of a run that is parked."""
    run: str = (await api.call("POST", "/runs", 202, json={"flow": {"text": flow}}))["run_id"]
    found = await api.until(f"/runs/{run}", lambda found: found["status"] == "waiting")
    assert all(step["error"]["code"] == "waiting" for step in found["steps"].values())
    return run


async def ended(api: Api, run: str) -> Json:
    return await api.until(f"/runs/{run}", lambda found: found["status"] not in {"queued", "waiting", "running"})


async def send(api: Api, identity: str, **data: Json) -> None:
    event = {"specversion": "1.0", "id": identity, "source": "/shop", "type": "shop.paid", "data": data}
    headers = {"Content-Type": "application/cloudevents+json"}
    answer = await api.client.post("/api/v1/events", json=event, headers=headers)
    assert answer.status_code == 202, answer.text


async def test_a_run_that_waits_is_not_driven_and_goes_on_after_the_decision(api: Api) -> None:
    run = await waits(api, ASKS)
    assert "last" not in (await api.call("GET", f"/runs/{run}"))["steps"]
    assert api.serving.active == 0
    service = api.serving.service()
    both = await asyncio.gather(
        *(service.decide(run, "approved", pairs={}, comment=None) for _ in range(2)), return_exceptions=True
    )
    assert [type(one) for one in both if isinstance(one, BaseException)] in ([DecidedError], [])
    found = await ended(api, run)
    assert (found["status"], found["steps"]["last"]["status"]) == ("succeeded", "succeeded")
    assert [call.tool for call in await service.run_calls(run)] == ["workspace.create_task"]


async def test_a_run_goes_on_when_nobody_has_decided_in_time(api: Api) -> None:
    run = await waits(api, ASKS.replace("on?", "on?, timeout: 300ms"))
    found = await ended(api, run)
    assert (found["status"], found["steps"]["ask"]["error"]["code"]) == ("failed", "approval_timed_out")
    assert found["steps"]["last"]["status"] == "succeeded"


async def test_a_run_that_waits_is_cancelled(api: Api) -> None:
    run = await waits(api, ASKS)
    assert (await api.call("POST", f"/runs/{run}/cancel", 202))["status"] == "cancelled"
    assert (await api.call("GET", f"/runs/{run}"))["steps"]["last"]["status"] == "succeeded"
    with pytest.raises(UnknownRecordError, match="no run that waits"):
        await api.serving.service().decide(run, "approved", pairs={}, comment=None)


async def test_a_run_that_waits_is_cancelled_where_another_process_was_asked_to(api: Api) -> None:
    run = await waits(api, ASKS)
    await api.serving._store.runs.request_cancel(run)
    found = await ended(api, run)
    assert (found["status"], found["steps"]["last"]["status"]) == ("cancelled", "succeeded")


async def test_a_run_that_waits_for_a_time_goes_on_then(api: Api) -> None:
    flow = "flow: nap\nsteps:\n  - {id: w, wait: 300ms}\n  - {id: then, shell: echo woken}\n"
    run = (await api.call("POST", "/runs", 202, json={"flow": {"text": flow}}))["run_id"]
    found = await api.until(f"/runs/{run}", lambda found: found["status"] == "succeeded")
    assert found["steps"]["w"]["result"]["until"] <= found["steps"]["w"]["result"]["at"]


async def test_a_run_that_waits_for_an_event_goes_on_with_it_and_several_take_one(api: Api) -> None:
    runs = [await waits(api, PAID) for _ in range(2)]
    await send(api, "1", order=8)
    await send(api, "2", order=7, amount=5)
    await send(api, "3", order=7, amount=6)
    for run in runs:
        found = await ended(api, run)
        assert (found["status"], found["output"]) == ("succeeded", 5)


async def test_an_event_that_comes_before_the_step_but_after_the_run_began_is_taken(api: Api) -> None:
    flow = PAID.replace("steps:\n", "steps:\n  - {id: nap, shell: sleep 1}\n")
    await send(api, "1", order=7, amount=4)
    run = (await api.call("POST", "/runs", 202, json={"flow": {"text": flow}}))["run_id"]
    await api.until(f"/runs/{run}", lambda found: found["status"] == "running")
    await send(api, "2", order=7, amount=5)
    found = await api.until(f"/runs/{run}", lambda found: found["status"] == "succeeded")
    assert found["output"] == 5


TIMES_OUT = """\
flow: times_out
timeout: 1s
steps:
  - {id: ask, approval: {message: Go on?}}
  - {id: then, shell: echo went on}
on_failure:
  - {id: sorry, approval: {message: Seen?}}
"""


@pytest.mark.parametrize("kind", ["ask", "wait", "part"])
async def test_a_flow_that_waits_times_out_by_itself(api: Api, kind: str) -> None:
    flow = TIMES_OUT
    if kind == "wait":
        flow = flow.replace("approval: {message: Go on?}", "wait: {event: shop.paid, timeout: 1h}")
    if kind == "part":
        await api.put(flow.replace("times_out", "part").partition("on_failure")[0])
        flow = "flow: whole\nsteps:\n  - {id: ask, flow: part}\n"
    run = (await api.call("POST", "/runs", 202, json={"flow": {"text": flow}}))["run_id"]
    if kind == "part":
        found = await ended(api, run)
        assert "timeout of 1 s" in found["error"]["message"]
        return
    found = await api.until(f"/runs/{run}", lambda found: "sorry" in found["steps"])
    assert (found["steps"]["ask"]["status"], found["steps"]["ask"]["error"]["code"]) == ("cancelled", "run_timed_out")
    # What handles the failure is under no timeout, so it waits, and isn't looked at again and again.
    await api.until(f"/runs/{run}", lambda found: found["status"] == "waiting")
    asked = {one["step"]: one["id"] for one in (await api.call("GET", f"/approvals?run={run}"))["items"]}
    await api.call("POST", f"/approvals/{asked['sorry']}/approve", json={})
    found = await ended(api, run)
    assert (found["status"], found["error"]["code"]) == ("failed", "run_timed_out")
    attempts = (await api.call("GET", f"/runs/{run}/steps"))["items"]
    assert [one["step"] for one in attempts].count("sorry") == 2


async def test_a_wait_for_an_event_that_does_not_come_times_out_by_itself(api: Api) -> None:
    run = await waits(api, PAID.replace("order == 7", "order == 7, timeout: 500ms"))
    found = await ended(api, run)
    assert (found["status"], found["steps"]["w"]["error"]["code"]) == ("failed", "wait_timed_out")

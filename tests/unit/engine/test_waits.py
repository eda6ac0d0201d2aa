"""Steps that wait for a time or for an event: the run is parked, and goes on in any engine."""

from datetime import UTC, datetime

import pytest

from engine.waiting import EventWaits
from flows.events import Event
from flows.values import Json, RunStatus, StepStatus
from tests.unit.engine.conftest import Engine, RunEngine
from tests.unit.engine.test_parking import cancelled, resumed, statuses

LONG = "flow: f\nsteps:\n  - {id: w, wait: 1h}\n  - {id: then, probe: echo, with: {of: '${{ steps.w.result }}'}}\n"


async def sent(engine: Engine, number: int = 1, kind: str = "paid", **data: Json) -> None:
    """Let the runs see an event that nobody keeps."""
    document: dict[str, Json] = {"id": str(number), "type": kind, "time": "2026-01-01T00:00:00Z", "data": data}
    event = Event(kind="event", key=f"s {number}", occurred_at=datetime.now(UTC), data=document)
    async with engine.store.transaction():
        await EventWaits(engine.store, lambda: None).saw("default", event)


async def due(engine: Engine) -> list[str]:
    return [run for run, _ in await engine.store.undriven.due(workspace="default")]


async def test_a_run_waits_until_a_time_and_says_until_when(engine: RunEngine) -> None:
    made = engine()
    report = await made.run(LONG)
    assert (report.run.status, report.run.owner) == (RunStatus.WAITING, None)
    final = report.steps["w"].final
    assert final.status is StepStatus.WAITING
    assert final.error is not None
    ((_, left),) = await made.store.undriven.due(workspace="default", within=3600)
    assert 0 < left <= 3600
    again = await resumed(made, report.run, LONG)
    assert again.steps["w"].final.error == final.error
    assert await due(made) == []
    assert made.probes.calls == []


async def test_when_it_is_time_the_result_says_the_times(engine: RunEngine) -> None:
    made, flow = engine(), LONG.replace("1h", "0s")
    report = await made.run(flow)
    ended = report if report.run.status is RunStatus.SUCCEEDED else await resumed(made, report.run, flow)
    result = ended.steps["w"].final.result
    assert ended.steps["then"].final.result == {"of": result}
    since, until, at = (datetime.fromisoformat(result[name]) for name in ("since", "until", "at"))
    assert since == until <= at


@pytest.mark.parametrize(
    ("until", "status"),
    [
        ("'2020-01-01T00:00:00+01:00'", "succeeded"),
        ("'${{ inputs.at }}'", "succeeded"),
        ("'${{ inputs.none }}'", "failed"),
        ("'${{ inputs.early }}'", "failed"),
    ],
)
async def test_a_time_may_come_from_an_expression_and_must_be_one(engine: RunEngine, until: str, status: str) -> None:
    flow = f"""
flow: f
inputs: {{at: {{default: "2020-01-01T00:00:00Z"}}, none: {{default: tomorrow}}, early: {{default: "0001-01-01T00:00:00+09:00"}}}}
steps: [{{id: w, wait: {{until: {until}}}}}]
"""
    report = await engine().run(flow)
    assert report.run.status.value == status
    if status == "failed":
        error = report.steps["w"].final.error
        assert error is not None
        assert error.code == "invalid_time"
        assert error.fix


async def test_items_wait_each_for_their_own_time(engine: RunEngine) -> None:
    flow = """
flow: f
steps:
  - id: w
    for_each: {in: ["2020-01-01T00:00:00Z", "9000-01-01T00:00:00Z"], as: at}
    wait: {until: "${{ at }}"}
"""
    made = engine()
    report = await made.run(flow)
    final = report.steps["w"].final
    assert final.status is StepStatus.WAITING
    assert final.error is not None
    assert "9000-01-01" in final.error.message
    attempts = {row.item: row.status for row in await made.attempts(report)}
    assert attempts == {0: StepStatus.SUCCEEDED, 1: StepStatus.WAITING}


async def test_a_subflow_waits_and_a_cancelled_one_does_no_more(engine: RunEngine) -> None:
    outer = "flow: outer\nsteps: [{id: s, flow: f}]\nfinally: [{id: bye, probe: echo}]\n"
    made = engine()
    report = await made.run(outer, LONG)
    ((waits, _),) = await made.store.undriven.due(workspace="default", within=3600)
    assert waits == report.run.id
    ended = await cancelled(made, report.run, outer, LONG)
    assert ended.run.status is RunStatus.CANCELLED
    assert statuses(ended)["bye"] == "succeeded"
    assert await made.store.undriven.due(workspace="default", within=3600) == ()


async def test_finally_can_not_wait(engine: RunEngine) -> None:
    made = engine()
    report = await made.run("flow: f\nsteps: [{id: a, probe: echo}]\nfinally: [{id: w, wait: 1h}]\n")
    error = report.steps["w"].final.error
    assert report.run.status is RunStatus.FAILED
    assert error is not None
    assert error.code == "cannot_wait"


EVENT = """
flow: f
inputs: {order: {type: integer, default: 7}}
steps:
  - {id: a, probe: echo, with: {kind: card}}
  - id: w
    wait: {event: paid, match: "event.data.id == inputs.order && event.data.by == steps.a.result.kind", timeout: 1h}
output: ${{ steps.w.result.data.amount }}
"""


async def test_an_event_that_matches_is_the_result(engine: RunEngine) -> None:
    made = engine()
    report = await made.run(EVENT)
    final = report.steps["w"].final
    assert report.run.status is RunStatus.WAITING
    assert final.error is not None
    for said in ("paid", "inputs.order", "until"):
        assert said in final.error.message
    await sent(made, 1, id=7)
    await sent(made, 2, id=8, by="card")
    await sent(made, 3, kind="refunded", id=7, by="card")
    assert await due(made) == []
    await sent(made, 4, id=7, by="card", amount=5)
    await sent(made, 5, id=7, by="card", amount=6)
    assert await due(made) == [report.run.id]
    ended = await resumed(made, report.run, EVENT)
    assert ended.run.output == 5
    result = ended.steps["w"].final.result
    assert (result["id"], result["type"], result["time"]) == ("4", "paid", "2026-01-01T00:00:00Z")


@pytest.mark.parametrize("on_timeout", ["fail", "continue"])
async def test_no_event_in_time_fails_the_step_or_gives_null(engine: RunEngine, on_timeout: str) -> None:
    flow = EVENT.replace("timeout: 1h", f"timeout: 0s, on_timeout: {on_timeout}").partition("output")[0]
    made = engine()
    report = await made.run(flow)
    if report.run.status is RunStatus.WAITING:
        assert await due(made) == [report.run.id]
        report = await resumed(made, report.run, flow)
    final = report.steps["w"].final
    if on_timeout == "continue":
        assert (final.status, final.result, report.run.status) == (StepStatus.SUCCEEDED, None, RunStatus.SUCCEEDED)
    else:
        assert final.error is not None
        assert (final.status, final.error.code) == (StepStatus.TIMED_OUT, "wait_timed_out")


async def test_items_wait_each_for_their_own_event(engine: RunEngine) -> None:
    flow = """
flow: f
steps:
  - id: w
    for_each: {in: [1, 2], concurrency: 2}
    wait: {event: "pa*", match: event.data.id == item}
output: ${{ steps.w.result.map(one, one.id) }}
"""
    made = engine()
    report = await made.run(flow)
    await sent(made, 8, id=2)
    again = await resumed(made, report.run, flow)
    assert again.run.status is RunStatus.WAITING
    await sent(made, 9, id=1)
    assert (await resumed(made, report.run, flow)).run.output == ["9", "8"]


async def test_what_match_sees_has_a_limit(engine: RunEngine) -> None:
    flow = """
flow: f
inputs: {big: {type: string}}
steps:
  - {id: w, wait: {event: paid, match: inputs.big.contains(event.data.id)}}
"""
    report = await engine().run(flow, big="x" * 11_000_000)
    assert report.run.status is RunStatus.FAILED
    assert report.steps["w"].final.status is StepStatus.LIMIT_EXCEEDED

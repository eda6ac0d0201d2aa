"""Runs that wait for a person: nothing of them stays in an engine, and any engine continues them."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text

from engine.questions import Approval
from engine.records import Run
from engine.report import RunReport
from engine.store.errors import AlreadyFinishedError, DecidedError, UnknownRecordError
from flows.contracts import StepCall
from flows.values import Json, RunStatus, StepStatus
from tests.unit.engine.conftest import Engine, Flows, RunEngine, open_engine

SHIP = "flow: release\nsteps:\n  - {id: ship, approval: {message: Ship it?}, with: {version: 1.2}}\n"


async def resumed(engine: Engine, run: Run, flow: str, *others: str) -> RunReport:
    found = {one.flow.flow: one for one in map(engine.load, others)}
    plan = await engine.runs.plan(engine.load(flow), run.inputs, Flows(found), workspace="default")
    return await engine.runs.resume(plan, await engine.store.runs.get(run.id), observer=engine.observer)


async def cancelled(engine: Engine, run: Run, flow: str, *others: str) -> RunReport:
    found = {one.flow.flow: one for one in map(engine.load, others)}
    plan = await engine.runs.plan(engine.load(flow), run.inputs, Flows(found), workspace="default")
    return await engine.runs.resume(plan, await engine.store.runs.get(run.id), observer=engine.observer, cancel=True)


async def questions(engine: Engine, *, undecided: bool = True) -> dict[str, Approval]:
    return {one.label: one for one in await engine.store.approvals.list(undecided=undecided)}


async def decide(engine: Engine, label: str, decision: str = "approved", values: Json = None) -> Approval:
    asked = (await questions(engine))[label]
    assert decision in {"approved", "rejected"}
    return await engine.store.approvals.decide(
        asked.id, "approved" if decision == "approved" else "rejected", by="ann", values=values
    )


async def first(engine: Engine, status: RunStatus) -> None:
    """Wait until a run has that status."""
    found = False
    while not found:
        found = bool((await engine.store.runs.list(status=status)).items)


def statuses(report: RunReport) -> dict[str, str]:
    return {step_id: step.final.status.value for step_id, step in report.steps.items()}


async def test_a_run_waits_without_an_owner_and_says_what_for(engine: RunEngine) -> None:
    made = engine()
    report = await made.run(SHIP)
    assert (report.run.status, report.run.owner, report.run.lease_until) == (RunStatus.WAITING, None, None)
    assert report.run.ended_at is None
    step = report.steps["ship"]
    assert (step.final.status, step.attempts) == (StepStatus.WAITING, 0)
    assert step.final.error is not None
    assert "Ship it?" in step.final.error.message
    asked = (await questions(made))["ship"]
    assert (asked.details, asked.decision, asked.run_id) == ({"version": 1.2}, None, report.run.id)
    assert step.final.error.fix == f"stepbox approve {asked.id}"


async def test_a_yes_is_the_result_in_another_engine(engine: RunEngine, tmp_path: Path) -> None:
    flow = SHIP + "  - {id: then, probe: echo, with: {by: '${{ steps.ship.result.by }}'}}\n"
    report = await engine().run(flow)
    async with open_engine(tmp_path) as make:
        other = make()
        await decide(other, "ship", values={"channel": "beta"})
        ended = await resumed(other, report.run, flow)
    assert ended.run.status is RunStatus.SUCCEEDED
    assert ended.steps["then"].final.result == {"by": "ann"}
    result = ended.steps["ship"].final.result
    assert (result["approved"], result["by"], result["values"]) == (True, "ann", {"channel": "beta"})
    assert result["at"].endswith("+00:00")
    assert ended.steps["ship"].attempts == 1


async def test_resumed_before_the_decision_it_waits_again_and_asks_once(engine: RunEngine) -> None:
    made = engine()
    report = await made.run(SHIP)
    again = await resumed(made, report.run, SHIP)
    assert again.run.status is RunStatus.WAITING
    assert len(await made.store.approvals.list()) == 1


async def test_a_no_fails_the_step_for_good(engine: RunEngine) -> None:
    flow = SHIP.replace("}, with", "}, retry: {attempts: 3, delay: 0}, with")
    made = engine()
    report = await made.run(flow)
    await decide(made, "ship", "rejected")
    ended = await resumed(made, report.run, flow)
    assert ended.run.status is RunStatus.FAILED
    error = ended.steps["ship"].final.error
    assert error is not None
    assert error.code == "approval_rejected"
    assert "ann said no" in error.message
    assert ended.steps["ship"].attempts == 1


async def test_other_steps_go_on_and_those_that_need_it_are_held(engine: RunEngine) -> None:
    flow = """
flow: f
steps:
  - {id: ask, approval: {message: Go?}}
  - {id: free, probe: echo, needs: []}
  - {id: bad, probe: boom, needs: []}
  - {id: held, probe: echo, needs: [ask, free]}
  - {id: further, probe: echo, needs: [held]}
on_failure: [{id: sorry, probe: echo}]
finally: [{id: bye, probe: echo}]
"""

    async def boom(call: StepCall) -> Json:
        raise RuntimeError(call.step_id)

    made = engine(boom=boom)
    report = await made.run(flow)
    assert report.run.status is RunStatus.WAITING
    assert statuses(report) == {"ask": "waiting", "free": "succeeded", "bad": "failed"}
    await decide(made, "ask")
    ended = await resumed(made, report.run, flow)
    assert ended.run.status is RunStatus.FAILED
    expected = {"ask", "free", "held", "further", "sorry", "bye"}
    assert statuses(ended) == {**dict.fromkeys(expected, "succeeded"), "bad": "failed"}
    assert sorted(made.probes.calls) == ["bad", "bye", "free", "further", "held", "sorry"]


async def test_each_item_asks_and_the_others_are_not_made_again(engine: RunEngine) -> None:
    flow = """
flow: f
steps:
  - id: ask
    for_each: {in: [a, b, c], concurrency: 1}
    approval: {message: Go?}
    with: {name: "${{ item }}"}
output: ${{ steps.ask.result.map(one, one.values) }}
"""
    made = engine()
    report = await made.run(flow)
    assert report.steps["ask"].final.status is StepStatus.WAITING
    assert sorted(await questions(made)) == ["ask[0]", "ask[1]", "ask[2]"]
    await decide(made, "ask[2]", values=2)
    await decide(made, "ask[0]", values=0)
    again = await resumed(made, report.run, flow)
    assert again.run.status is RunStatus.WAITING
    await decide(made, "ask[1]", values=1)
    ended = await resumed(made, report.run, flow)
    assert (ended.run.status, ended.run.output) == (RunStatus.SUCCEEDED, [0, 1, 2])


async def test_an_item_that_waits_is_given_up_where_another_one_failed(engine: RunEngine) -> None:
    flow = "flow: f\nsteps: [{id: ask, for_each: {in: [a, b], concurrency: 2}, approval: {message: Go?}}]\n"
    made = engine()
    report = await made.run(flow)
    await decide(made, "ask[1]", "rejected")
    ended = await resumed(made, report.run, flow)
    assert ended.run.status is RunStatus.FAILED
    assert (await questions(made, undecided=False))["ask[0]"].decision == "withdrawn"
    last = {row.item: row for row in await made.attempts(ended)}
    assert (last[0].status, last[1].status) == (StepStatus.CANCELLED, StepStatus.FAILED)


PARENT = """
flow: parent
steps:
  - {id: before, probe: echo}
  - {id: part, flow: release}
output: ${{ steps.part.result }}
"""
CHILD = SHIP + "output: ${{ steps.ship.result.by }}\nfinally: [{id: bye, probe: echo}]\n"


async def test_a_subflow_waits_and_goes_on_in_its_own_run(engine: RunEngine) -> None:
    made = engine()
    report = await made.run(PARENT, CHILD)
    assert report.run.status is RunStatus.WAITING
    (child,) = await made.store.runs.children(report.run.id)
    assert (child.status, child.owner) == (RunStatus.WAITING, None)
    assert made.probes.calls == ["before"]
    await decide(made, "ship")
    ended = await resumed(made, report.run, PARENT, CHILD)
    assert (ended.run.status, ended.run.output) == (RunStatus.SUCCEEDED, "ann")
    assert [one.status for one in await made.store.runs.children(report.run.id)] == [RunStatus.SUCCEEDED]
    assert made.probes.calls == ["before", "bye"]


async def test_a_waiting_run_is_cancelled_with_its_subflow_and_its_questions(engine: RunEngine) -> None:
    made = engine()
    flow = PARENT + "finally: [{id: last, probe: echo}]\n"
    report = await made.run(flow, CHILD)
    ended = await cancelled(made, report.run, flow, CHILD)
    assert ended.run.status is RunStatus.CANCELLED
    assert statuses(ended) == {"before": "succeeded", "part": "cancelled", "last": "succeeded"}
    assert [one.status for one in await made.store.runs.children(report.run.id)] == [RunStatus.CANCELLED]
    assert sorted(made.probes.calls) == ["before", "bye", "last"]
    (asked,) = await made.store.approvals.list()
    assert asked.decision == "withdrawn"
    with pytest.raises(DecidedError, match="the run ended"):
        await made.store.approvals.decide(asked.id, "approved", by="ann")
    with pytest.raises(AlreadyFinishedError):
        await cancelled(made, report.run, flow, CHILD)


async def test_cancelled_while_another_step_runs_the_parked_subflow_ends_too(engine: RunEngine) -> None:
    reached = asyncio.Event()

    async def stay(_call: StepCall) -> Json:
        reached.set()
        await asyncio.sleep(600)

    flow = "flow: f\nsteps:\n  - {id: part, flow: release}\n  - {id: long, probe: stay, needs: []}\n"
    made = engine(stay=stay)
    running = asyncio.create_task(made.run(flow, CHILD))
    await asyncio.wait_for(reached.wait(), 60)
    async with asyncio.timeout(60):
        await first(made, RunStatus.WAITING)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert {one.status for one in (await made.store.runs.list()).items} == {RunStatus.CANCELLED}


async def test_a_flow_times_out_while_it_waits(engine: RunEngine) -> None:
    made = engine()
    flow = SHIP + "timeout: 1h\nfinally: [{id: bye, probe: echo}]\n"
    report = await made.run(flow)
    async with made.store.transaction():
        await made.store._database.execute(text("UPDATE run SET started_at = '2020-01-01 00:00:00.000000'"), {})
    ended = await resumed(made, report.run, flow)
    assert ended.run.status is RunStatus.FAILED
    assert ended.run.error is not None
    assert ended.run.error.code == "run_timed_out"
    assert made.probes.calls == ["bye"]


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [("fail", "timed_out", "approval_timed_out"), ("reject", "failed", "approval_rejected")],
)
async def test_no_decision_in_time_has_its_outcome(engine: RunEngine, outcome: str, status: str, code: str) -> None:
    made = engine()
    flow = f"flow: f\nsteps: [{{id: ask, approval: {{message: Go?, timeout: 1ms, on_timeout: {outcome}}}}}]\n"
    report = await made.run(flow)
    assert report.run.status is RunStatus.WAITING
    (asked,) = await made.store.approvals.list()
    assert asked.decision == "timed_out"
    with pytest.raises(DecidedError, match="its time was over"):
        await made.store.approvals.decide(asked.id, "approved", by="ann")
    final = (await resumed(made, report.run, flow)).steps["ask"].final
    assert (final.status.value, final.error.code if final.error else None) == (status, code)


async def test_a_question_is_decided_once(engine: RunEngine) -> None:
    made = engine()
    await made.run(SHIP)
    asked = (await questions(made))["ship"]
    both = await asyncio.gather(
        made.store.approvals.decide(asked.id, "approved", by="ann"),
        made.store.approvals.decide(asked.id, "rejected", by="bob"),
        return_exceptions=True,
    )
    (refused,) = [one for one in both if isinstance(one, BaseException)]
    assert isinstance(refused, DecidedError)
    with pytest.raises(UnknownRecordError):
        await made.store.approvals.decide("0" * 26, "approved", by="ann")


async def test_finally_can_not_wait(engine: RunEngine) -> None:
    made = engine()
    report = await made.run("flow: f\nsteps: [{id: a, probe: echo}]\nfinally: [{id: ask, approval: {message: Go?}}]\n")
    assert report.run.status is RunStatus.FAILED
    error = report.steps["ask"].final.error
    assert error is not None
    assert error.code == "cannot_wait"


async def test_on_failure_may_wait(engine: RunEngine) -> None:
    async def boom(_call: StepCall) -> Json:
        raise RuntimeError

    flow = """
flow: f
steps: [{id: a, probe: boom}]
on_failure: [{id: ask, approval: {message: Undo?}}, {id: undo, probe: echo}]
finally: [{id: bye, probe: echo}]
"""
    made = engine(boom=boom)
    report = await made.run(flow)
    assert report.run.status is RunStatus.WAITING
    await decide(made, "ask")
    ended = await resumed(made, report.run, flow)
    assert ended.run.status is RunStatus.FAILED
    assert made.probes.calls == ["a", "undo", "bye"]

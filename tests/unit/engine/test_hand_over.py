"""An engine that ends lets go of its runs: it writes nothing more of them, and any engine goes on with them at once."""

import asyncio

import pytest

from engine.flow_sources import RecordedFlows
from engine.heartbeat import HandedOverError, Heartbeat, is_abandoned
from engine.report import RunReport
from engine.store.errors import RunDrivenError
from flows.contracts import StepCall
from flows.values import Json, RunStatus
from tests.unit.engine.conftest import Engine, Flows, ProbeError, Recorder, RunEngine
from tests.unit.engine.test_cancel_requests import FLOW, Probes, soon
from tests.unit.engine.test_parking import resumed, statuses

MAIN = """
flow: main
steps: [{id: before, probe: echo}, {id: sub, flow: part}]
finally: [{id: main_tidy, probe: echo}]
"""
PART = """
flow: part
steps: [{id: done, probe: echo}, {id: long, probe: long}]
finally: [{id: tidy, probe: tidy}]
"""


async def driven(made: Engine, flow: str, *others: str) -> tuple[asyncio.Task[RunReport], str]:
    """A queued run, as a dispatcher drives it."""
    found = {one.flow.flow: one for one in map(made.load, others)}
    plan = await made.runs.plan(made.load(flow), {}, Flows(found), workspace="default")
    version, *parts = await made.store.flows.put_versions("default", [plan.definition, *plan.subflows.values()])
    run = await made.store.runs.create(version, {}, subflows={part.flow: part.id for part in parts})
    return asyncio.create_task(made.runs.resume(plan, run, observer=Recorder())), run.id


async def let_go(made: Engine, driving: asyncio.Task[RunReport], run: str, *, cancellations: int = 1) -> None:
    assert made.runs.hand_over([run]) == [run]
    for _each in range(cancellations):
        driving.cancel()
        await asyncio.sleep(0.05)
    with pytest.raises(HandedOverError):
        await soon(driving)
    left = await made.store.runs.get(run)
    assert (left.status, left.owner, is_abandoned(left)) == (RunStatus.RUNNING, None, True)


async def test_it_goes_on_at_the_first_unfinished_step_in_the_next_engine(engine: RunEngine) -> None:
    probes = Probes()
    made = engine(long=probes.long, tidy=probes.tidy)
    driving, run = await driven(made, MAIN, PART)
    await soon(probes.begun.wait())
    await let_go(made, driving, run)
    assert not probes.tidying.is_set(), "finally is for the end of a run"
    assert made.probes.calls == ["before", "done", "long"]
    rows = [(row.step_id, row.status.value) for row in await made.store.steps.list(run)]
    assert rows == [("before", "succeeded"), ("sub", "killed")]

    async def quick(call: StepCall) -> Json:
        return call.attempt

    nexts = engine(long=quick, tidy=quick)
    found = await nexts.store.runs.get(run)
    plan = await nexts.runs.plan(
        nexts.load(MAIN), {}, RecordedFlows(nexts.store, nexts.language, found), workspace="default"
    )
    report = await nexts.runs.resume(plan, found, observer=Recorder())
    assert (report.run.status, nexts.probes.calls) == (RunStatus.SUCCEEDED, ["long", "tidy", "main_tidy"])
    assert len((await nexts.store.runs.list()).items) == 2


async def test_what_its_code_has_just_printed_is_kept(engine: RunEngine) -> None:
    probes = Probes()

    async def prints(call: StepCall) -> Json:
        await call.log("stdout", "before")
        try:
            return await probes.long(call)
        finally:
            await call.log("stdout", "as it is ended")

    part = PART.replace("probe: long", "probe: prints")
    made = engine(prints=prints, tidy=probes.tidy)
    driving, run = await driven(made, MAIN, part)
    await soon(probes.begun.wait())
    await let_go(made, driving, run)
    (child,) = await made.store.runs.children(run)
    lines = (await made.store.logs.list(child.id)).items
    assert [one.line for one in lines] == ["before", "as it is ended"]
    assert [(row.step_id, row.status.value) for row in await made.store.steps.list(child.id)] == [
        ("done", "succeeded"),
        ("long", "killed"),
    ]


async def test_one_that_was_cleaning_up_after_itself_does_only_that(engine: RunEngine) -> None:
    probes = Probes()

    async def quick(call: StepCall) -> Json:
        return call.attempt

    made = engine(long=quick, tidy=probes.tidy)
    driving, run = await driven(made, FLOW)
    await soon(probes.tidying.wait())
    await let_go(made, driving, run, cancellations=2)
    made.probes.calls.clear()
    probes.may_end.set()
    report = await resumed(made, await made.store.runs.get(run), FLOW)
    assert (report.run.status, made.probes.calls) == (RunStatus.SUCCEEDED, ["tidy", "swept"])


async def test_one_that_is_to_be_cancelled_is_kept(engine: RunEngine) -> None:
    probes = Probes()
    made = engine(long=probes.long, tidy=probes.tidy)
    made.runs._heartbeat = Heartbeat(made.store, look=0.02)
    driving, run = await driven(made, FLOW)
    await soon(probes.begun.wait())
    await made.store.runs.request_cancel(run)
    await soon(probes.tidying.wait())
    assert made.runs.hand_over([run]) == []
    probes.may_end.set()
    report = await soon(driving)
    assert (report.run.status, statuses(report)["tidy"]) == (RunStatus.CANCELLED, "succeeded")


async def test_one_that_is_just_taken_up_does_not_begin(engine: RunEngine) -> None:
    probes = Probes()
    made = engine(long=probes.long, tidy=probes.tidy)
    driving, run = await driven(made, FLOW)
    assert made.runs.hand_over([run]) == [run]
    with pytest.raises(HandedOverError):
        await soon(driving)
    assert (made.probes.calls, await made.store.steps.list(run)) == ([], ())
    assert is_abandoned(await made.store.runs.get(run))


async def test_no_other_engine_has_it_before_this_one_has_stopped(engine: RunEngine) -> None:
    """What it was doing has ended by then."""
    ended, held = asyncio.Event(), asyncio.Event()
    begun = asyncio.Event()

    async def slow_to_end(call: StepCall) -> Json:
        begun.set()
        try:
            await asyncio.sleep(600)
        finally:
            await held.wait()
            ended.set()

    made = engine(long=slow_to_end, tidy=Probes().tidy)
    driving, run = await driven(made, FLOW)
    await soon(begun.wait())
    made.runs.hand_over([run])
    driving.cancel()
    await asyncio.sleep(0.1)
    other = engine()
    with pytest.raises(RunDrivenError):
        await other.store.leases.take_over(run)
    held.set()
    with pytest.raises(HandedOverError):
        await soon(driving)
    assert ended.is_set()
    await other.store.leases.take_over(run)


async def test_however_often_its_engines_are_stopped_a_step_is_no_suspect_and_has_its_retries(
    engine: RunEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.attempts.MAX_LOST", 2)
    flow = "flow: f\nsteps: [{id: long, probe: long, retry: {attempts: 2, delay: 0}}]\n"
    probes = Probes()
    made = engine(long=probes.long)
    driving, run = await driven(made, flow)
    await soon(probes.begun.wait())
    await let_go(made, driving, run)
    for _each in range(2):
        probes.begun.clear()
        again = engine(long=probes.long)
        driving = asyncio.create_task(resumed(again, await again.store.runs.get(run), flow))
        begun = asyncio.create_task(probes.begun.wait())
        await soon(asyncio.wait({driving, begun}, return_when=asyncio.FIRST_COMPLETED))
        assert begun.done(), "the step was given up"
        await let_go(again, driving, run)
    tried: list[int] = []

    async def failing(call: StepCall) -> Json:
        tried.append(call.attempt)
        raise ProbeError

    last = engine(long=failing)
    report = await resumed(last, await last.store.runs.get(run), flow)
    assert (report.run.status, tried) == (RunStatus.FAILED, [4, 5])
    rows = [(row.status.value, row.error and row.error.code) for row in await last.store.steps.list(run)]
    assert rows == [("killed", "engine_stopped")] * 3 + [("failed", "failed")] * 2

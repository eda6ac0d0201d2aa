"""Runs that somebody asks to cancel, from wherever: the engine that drives one hears of it, as does the next one."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from engine.heartbeat import Heartbeat
from engine.report import RunReport
from engine.store.errors import StoreUnavailableError
from flows.contracts import StepCall
from flows.values import Json, RunStatus
from tests.unit.engine.conftest import Engine, RunEngine
from tests.unit.engine.test_parking import resumed, statuses

Result = TypeVar("Result")

FLOW = """
flow: asked
steps:
  - {id: long, probe: long}
  - {id: later, probe: echo}
finally:
  - {id: tidy, probe: tidy}
  - {id: swept, probe: echo}
"""
MAIN = """
flow: main
steps: [{id: sub, flow: part}]
finally: [{id: main_tidy, probe: echo}]
"""
PART = """
flow: part
steps: [{id: long, probe: long}]
finally: [{id: tidy, probe: tidy}]
"""
ENDED = {"long": "cancelled", "later": "skipped", "tidy": "succeeded", "swept": "succeeded"}


@dataclass
class Probes:
    """A step that goes on for ever, and a ``finally`` that goes on until it may end."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    tidying: asyncio.Event = field(default_factory=asyncio.Event)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    async def long(self, call: StepCall) -> Json:
        self.begun.set()
        await asyncio.sleep(600)

    async def tidy(self, call: StepCall) -> Json:
        self.tidying.set()
        await self.may_end.wait()


async def soon(what: Awaitable[Result]) -> Result:
    async with asyncio.timeout(60):
        return await what


def engine_of(make: RunEngine, probes: Probes) -> Engine:
    made = make(long=probes.long, tidy=probes.tidy)
    made.runs._heartbeat = Heartbeat(made.store, look=0.02)
    return made


async def begin(made: Engine, probes: Probes, flow: str = FLOW, *others: str) -> tuple[asyncio.Task[RunReport], str]:
    driving = asyncio.create_task(made.run(flow, *others))
    await soon(probes.begun.wait())
    (run,) = [run for run in (await made.store.runs.list()).items if run.parent_id is None]
    return driving, run.id


async def test_whoever_drives_it_has_it_ended_and_goes_on_itself(engine: RunEngine) -> None:
    probes = Probes()
    probes.may_end.set()
    made = engine_of(engine, probes)
    driving, run = await begin(made, probes)
    await made.store.runs.request_cancel(run)
    report = await soon(driving)
    assert (report.run.status, statuses(report)) == (RunStatus.CANCELLED, ENDED)
    assert report.run.error is not None
    assert report.run.error.code == "run_cancelled"
    assert driving.cancelling() == 0


async def test_asked_once_finally_runs_to_its_end_and_asked_twice_it_is_cut_short(engine: RunEngine) -> None:
    probes = Probes()
    made = engine_of(engine, probes)
    driving, run = await begin(made, probes)
    await made.store.runs.request_cancel(run)
    await soon(probes.tidying.wait())
    await asyncio.sleep(0.2)
    assert not driving.done()
    await made.store.runs.request_cancel(run)
    report = await soon(driving)
    assert report.run.status is RunStatus.CANCELLED
    assert statuses(report) == {**ENDED, "tidy": "cancelled", "swept": "skipped"}


async def test_who_asks_and_who_interrupts_are_counted_together(engine: RunEngine) -> None:
    probes = Probes()
    made = engine_of(engine, probes)
    driving, run = await begin(made, probes)
    driving.cancel()
    await soon(probes.tidying.wait())
    await made.store.runs.request_cancel(run)
    with pytest.raises(asyncio.CancelledError):
        await soon(driving)
    assert (await made.store.runs.get(run)).status is RunStatus.CANCELLED
    assert probes.may_end.is_set() is False


async def test_subflows_end_with_the_run_that_started_them(engine: RunEngine) -> None:
    probes = Probes()
    probes.may_end.set()
    made = engine_of(engine, probes)
    driving, run = await begin(made, probes, MAIN, PART)
    (part,) = await made.store.runs.children(run)
    await made.store.runs.request_cancel(part.id)
    await asyncio.sleep(0.2)
    assert not driving.done()
    await made.store.runs.request_cancel(run)
    report = await soon(driving)
    assert (report.run.status, statuses(report)) == (
        RunStatus.CANCELLED,
        {"sub": "cancelled", "main_tidy": "succeeded"},
    )
    assert (await made.store.runs.get(part.id)).status is RunStatus.CANCELLED
    assert probes.tidying.is_set()


async def test_one_that_nobody_drives_ends_where_it_is_taken_over(engine: RunEngine) -> None:
    """Its ``finally`` is not cut short by the request that had it taken over."""
    probes = Probes()
    made = engine_of(engine, probes)
    flow = "flow: parked\nsteps: [{id: ask, approval: {message: Go on?}}]\n" + FLOW[FLOW.index("finally") :]
    parked = await made.run(flow)
    assert parked.run.status is RunStatus.WAITING
    await made.store.runs.request_cancel(parked.run.id)
    assert await made.store.undriven.cancelled() == (parked.run.id,)
    ending = asyncio.create_task(resumed(made, parked.run, flow))
    await soon(probes.tidying.wait())
    await asyncio.sleep(0.2)
    assert not ending.done()
    probes.may_end.set()
    report = await soon(ending)
    assert report.run.status is RunStatus.CANCELLED
    assert statuses(report) == {"ask": "cancelled", "tidy": "succeeded", "swept": "succeeded"}
    assert await made.store.undriven.cancelled() == ()


async def test_one_that_is_taken_over_to_be_cancelled_is_cut_short_when_asked_again(engine: RunEngine) -> None:
    probes = Probes()
    made = engine_of(engine, probes)
    flow = "flow: parked\nsteps: [{id: ask, approval: {message: Go on?}}]\n" + FLOW[FLOW.index("finally") :]
    parked = await made.run(flow)
    await made.store.runs.request_cancel(parked.run.id)
    ending = asyncio.create_task(resumed(made, parked.run, flow))
    await soon(probes.tidying.wait())
    await made.store.runs.request_cancel(parked.run.id)
    report = await soon(ending)
    assert statuses(report) == {"ask": "cancelled", "tidy": "cancelled", "swept": "skipped"}


async def test_a_database_that_fails_for_one_run_is_asked_again_for_the_others(engine: RunEngine) -> None:
    """The run with which the heartbeat had begun is lost; the heartbeat is not."""
    probes = Probes()
    probes.may_end.set()
    fails = asyncio.Event()

    async def losing(call: StepCall) -> Json:
        await fails.wait()
        return await made.store.runs._database.read(gone)

    made = engine(long=probes.long, tidy=probes.tidy, losing=losing)
    made.runs._heartbeat = Heartbeat(made.store, look=0.02)
    lost = asyncio.create_task(made.run("flow: lost\nsteps: [{id: lost, probe: losing}]\n"))
    async with asyncio.timeout(60):
        while "lost" not in made.probes.calls:  # noqa: ASYNC110 - the probe's own list
            await asyncio.sleep(0.01)
    staying = asyncio.create_task(made.run(FLOW))
    await soon(probes.begun.wait())
    fails.set()
    with pytest.raises(StoreUnavailableError):
        await soon(lost)
    (run,) = (await made.store.runs.list(flow="asked")).items
    await made.store.runs.request_cancel(run.id)
    assert (await soon(staying)).run.status is RunStatus.CANCELLED


def gone(_connection: object) -> None:
    raise StoreUnavailableError("the database is gone")

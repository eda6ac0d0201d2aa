"""Runs that another engine takes over: what had ended is not done again, and the first engine writes nothing more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from engine.flow_sources import RecordedFlows, UnrecordedFlowError
from engine.heartbeat import Heartbeat, TakenOverError, is_abandoned
from engine.progress import StepEnded
from engine.records import Run
from engine.report import RunReport
from engine.runs import Runs
from engine.store import Store
from engine.store.errors import AlreadyFinishedError, RunDrivenError
from engine.tool_calls import ToolCaller
from flows.contracts import StepCall
from flows.definition import Definition
from flows.values import Json, RunStatus, StepStatus
from steps.tools.contract import ToolServices
from tests.unit.engine.conftest import Engine, Flows, ProbeError, Recorder, RunEngine

LOST = 3
"""Attempts that engines may end during, instead of the many that it takes otherwise."""


@dataclass
class Gate:
    """A probe that waits in the first engine, and goes on in the next one."""

    open: bool = False
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    waiting_for: str = "wait"
    """The value of the input ``n`` with which it waits, where there is one."""

    async def __call__(self, call: StepCall) -> Json:
        if not self.open and call.inputs.get("n", self.waiting_for) == self.waiting_for:
            self.reached.set()
            await asyncio.sleep(600)
        return f"{call.step_id} {call.inputs.get('n', '')} {call.attempt}"


class Site:
    """A database with engines on it, one after the other, that share their probes."""

    def __init__(self, directory: Path, make: RunEngine) -> None:
        self.gate = Gate()
        self.first = make(gate=self.gate, boom=boom)
        self._directory = directory
        self._opened = AsyncExitStack()
        self._driving: list[asyncio.Task[RunReport]] = []

    async def begin(self, flow: str, *others: str) -> Run:
        """Run a flow in the first engine, up to the gate."""
        driving = asyncio.create_task(self.first.run(flow, *others))
        self._driving.append(driving)
        await asyncio.wait_for(self.gate.reached.wait(), 60)
        return await self.run()

    async def run(self) -> Run:
        (found,) = [run for run in (await self.first.store.runs.list()).items if run.parent_id is None]
        return await self.first.store.runs.get(found.id)

    async def next_engine(self) -> Engine:
        engine = self.first
        opening = await Store.open(f"sqlite:///{self._directory}/test.db", files=self._directory / "files")
        store = await self._opened.enter_async_context(opening)
        from engine.orchestrator.prefect_gears import Orchestrator  # noqa: PLC0415 - after its settings

        driver = await self._opened.enter_async_context(Orchestrator(api_url=None, cache_dir=self._directory / "cache"))
        services = ToolServices(content=store.content, shared=str(self._directory / "shared"))
        runs = Runs(
            store=store,
            executors=engine.runs._executors,
            tools=ToolCaller(catalogue=engine.language.catalogue, services=services, store=store),
            secrets=engine.secrets,
            driver=driver,
        )
        return Engine(
            runs=runs,
            store=store,
            secrets=engine.secrets,
            language=engine.language,
            probes=engine.probes,
            observer=Recorder(),
        )

    async def resume(self, engine: Engine, flow: str, *others: str) -> RunReport:
        """Take the run over, since the lease of its engine has ended, and bring it to its end."""
        run = await self.run()
        await expire(engine.store, run.id)
        found: dict[str, Definition] = {one.flow.flow: one for one in map(engine.load, others)}
        plan = await engine.runs.plan(engine.load(flow), run.inputs, Flows(found), workspace="default")
        return await engine.runs.resume(plan, run, observer=engine.observer)

    async def begin_again(self, flow: str, *others: str) -> None:
        """Resume in an engine that gets stuck in its turn."""
        self.gate.reached.clear()
        engine = await self.next_engine()
        self._driving.append(asyncio.create_task(self.resume(engine, flow, *others)))
        await asyncio.wait_for(self.gate.reached.wait(), 60)

    async def close(self) -> None:
        for driving in self._driving:
            driving.cancel()
            with suppress(asyncio.CancelledError, TakenOverError):
                await driving
        await self._opened.aclose()


async def boom(call: StepCall) -> Json:
    raise ProbeError


async def expire(store: Store, run_id: str) -> None:
    """Let the leases of a run and of those it started have ended."""
    past = (datetime.now(UTC) - timedelta(seconds=1)).replace(tzinfo=None)
    statement = text("UPDATE run SET lease_until = :past WHERE owner IS NOT NULL")
    await store._database.write(lambda connection: connection.execute(statement, {"past": past}))


@pytest.fixture
async def site(engine: RunEngine, tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path, engine)
    yield site
    await site.close()


FLOW = """
flow: taken
steps:
  - {id: first, probe: gate, with: {n: one}}
  - {id: second, probe: gate, retry: {attempts: 2, delay: 1ms, jitter: false}}
  - {id: third, probe: gate, with: {n: "${{ steps.first.result }}"}}
output: ${{ steps.third.result }}
finally:
  - {id: tidy, probe: gate, with: {n: tidy}}
"""


async def test_a_run_goes_on_at_its_first_unfinished_step(site: Site) -> None:
    run = await site.begin(FLOW)
    site.gate.open = True
    second = await site.next_engine()
    report = await site.resume(second, FLOW)
    assert report.run.status is RunStatus.SUCCEEDED
    assert report.run.id == run.id
    assert report.run.started_at == run.started_at
    assert report.run.output == "third first one 1 1"
    assert site.first.probes.calls == ["first", "second", "second", "third", "tidy"]
    rows = [(row.step_id, row.attempt, row.status) for row in await second.attempts(report)]
    assert rows == [
        ("first", 1, StepStatus.SUCCEEDED),
        ("second", 1, StepStatus.KILLED),
        ("second", 2, StepStatus.SUCCEEDED),
        ("third", 1, StepStatus.SUCCEEDED),
        ("tidy", 1, StepStatus.SUCCEEDED),
    ]
    ended = [seen.attempt.step_id for seen in second.observer.seen if isinstance(seen, StepEnded)]
    assert ended == ["first", "second", "third", "tidy"]


async def test_a_lost_attempt_does_not_count_against_retry(site: Site) -> None:
    flow = FLOW.replace("{id: second, probe: gate", "{id: second, probe: flaky")
    seen: list[int] = []

    async def flaky(call: StepCall) -> Json:
        if call.attempt == 1:
            return await site.gate(call)
        seen.append(call.attempt)
        raise ProbeError

    site.first.probes.probes = {**site.first.probes.probes, "flaky": flaky}
    await site.begin(flow)
    site.gate.open = True
    report = await site.resume(await site.next_engine(), flow)
    assert report.run.status is RunStatus.FAILED
    assert seen == [2, 3]
    assert report.steps["second"].attempts == 3


async def test_an_engine_that_has_lost_its_run_stops_and_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.runs.is_dead", lambda engine: engine == site.first.store.engine)
    site.first.runs._heartbeat = Heartbeat(site.first.store, interval=0.5)
    await site.begin(FLOW)
    (driving,) = site._driving
    site.gate.open = True
    second = await site.next_engine()
    report = await site.resume(second, FLOW)
    with pytest.raises(TakenOverError, match=f"has taken run {report.run.id} over"):
        await asyncio.wait_for(driving, 30)
    assert site.first.probes.calls.count("tidy") == 1
    assert (await site.run()).status is RunStatus.SUCCEEDED


async def test_of_engines_that_resume_the_same_run_one_does(site: Site) -> None:
    await site.begin(FLOW)
    site.gate.open = True
    engines = [await site.next_engine() for _ in range(3)]
    run = await site.run()
    await expire(site.first.store, run.id)
    plans = [await engine.runs.plan(engine.load(FLOW), {}, Flows({}), workspace="default") for engine in engines]
    outcomes = await asyncio.gather(
        *(engine.runs.resume(plan, run, observer=Recorder()) for engine, plan in zip(engines, plans, strict=True)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes].count(RunDrivenError) == 2
    (report,) = [outcome for outcome in outcomes if isinstance(outcome, RunReport)]
    assert report.run.status is RunStatus.SUCCEEDED
    assert site.first.probes.calls == ["first", "second", "second", "third", "tidy"]


async def test_an_engine_whose_next_write_is_refused_stops_too(site: Site) -> None:
    """It was stopped, and goes on before it looks after its leases."""
    await site.begin(FLOW)
    (driving,) = site._driving
    second = await site.next_engine()
    run = await site.run()
    await second.store.leases.take_over(run.id, dead=site.first.store.engine)
    driving.cancel()  # its attempt ends and is to be recorded
    with pytest.raises(TakenOverError):
        await asyncio.wait_for(driving, 30)
    assert site.first.probes.calls == ["first", "second"], "neither another step nor finally"
    rows = await second.store.steps.list(run.id)
    assert [row.status for row in rows] == [StepStatus.SUCCEEDED, StepStatus.KILLED]
    assert (await site.run()).status is RunStatus.RUNNING


async def test_a_heartbeat_keeps_the_lease(site: Site) -> None:
    site.first.runs._heartbeat = Heartbeat(site.first.store, interval=0.5)
    run = await site.begin(FLOW)
    await expire(site.first.store, run.id)
    assert is_abandoned(await site.run())
    async with asyncio.timeout(30):
        while is_abandoned(await site.run()):  # noqa: ASYNC110 - it is another engine that does it
            await asyncio.sleep(0.02)
    second = await site.next_engine()
    plan = await second.runs.plan(second.load(FLOW), {}, Flows({}), workspace="default")
    with pytest.raises(RunDrivenError, match="process"):
        await second.runs.resume(plan, await site.run(), observer=Recorder())
    assert second.probes.calls == ["first", "second"]


async def test_a_step_during_which_engines_end_again_and_again_fails(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.attempts.MAX_LOST", 3)
    flow = FLOW + "on_failure:\n  - {id: tell, probe: echo, with: {why: '${{ steps.second.error.code }}'}}\n"
    await site.begin(flow)
    for _ in range(LOST - 1):
        await site.begin_again(flow)
    site.gate.open = True
    report = await site.resume(await site.next_engine(), flow)
    assert report.run.status is RunStatus.FAILED
    final = report.steps["second"].final
    assert final.status is StepStatus.KILLED
    assert final.error is not None
    assert (final.error.code, report.steps["second"].attempts) == ("engine_ended", LOST)
    assert f"{LOST} attempts" in final.error.message
    assert report.steps["tell"].final.result == {"why": "engine_ended"}
    assert site.first.probes.calls == ["first", *["second"] * LOST, "tell", "tidy"]


EACH = """
flow: each
steps:
  - id: each
    probe: gate
    for_each: {in: [a, wait, c, d], concurrency: 2}
    with: {n: "${{ item }}"}
output: ${{ steps.each.result }}
"""


async def test_items_that_have_ended_are_not_executed_again(site: Site) -> None:
    await site.begin(EACH)
    async with asyncio.timeout(30):
        while len(await site.first.store.steps.list((await site.run()).id)) < 4:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
    site.gate.open = True
    report = await site.resume(await site.next_engine(), EACH)
    assert report.run.output == ["each a 1", "each wait 2", "each c 1", "each d 1"]
    assert site.first.probes.calls == ["each"] * 5


MAIN = """
flow: main
timeout: 1h
steps:
  - {id: sub, flow: part, for_each: {in: [x, wait]}, with: {name: "${{ item }}"}}
output: ${{ steps.sub.result }}
"""
PART = """
flow: part
inputs: {name: {type: string}}
steps:
  - {id: before, probe: gate, with: {n: "b ${{ inputs.name }}"}}
  - {id: during, probe: gate, with: {n: "${{ inputs.name }}"}}
finally:
  - {id: part_tidy, probe: gate, with: {n: tidy}}
output: ${{ steps.during.result }}
"""


async def test_a_subflow_is_resumed_with_its_parent(site: Site) -> None:
    await site.begin(MAIN, PART)
    before = {run.id for run in (await site.first.store.runs.list()).items}
    await site.begin_again(MAIN, PART)
    site.gate.open = True
    second = await site.next_engine()
    report = await site.resume(second, MAIN, PART)
    assert report.run.output == ["during x 1", "during wait 3"]
    after = (await second.store.runs.list()).items
    assert {run.id for run in after} == before
    assert {run.status for run in after} == {RunStatus.SUCCEEDED}
    assert site.first.probes.calls.count("before") == 2
    assert site.first.probes.calls.count("part_tidy") == 2


async def test_a_subflow_that_ended_with_its_engine_is_not_started_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run has ended, and the engine did before it could write that in the parent's."""
    site.gate.open = True
    finish = site.first.store.steps.finish

    async def stuck(step_run_id: str, result: object) -> None:
        rows = [row for run in (await site.first.store.runs.list()).items for row in await rows_of(run.id)]
        if next(row for row in rows if row.id == step_run_id).step_id == "sub":
            site.gate.reached.set()
            await asyncio.sleep(600)
        await finish(step_run_id, result)  # type: ignore[arg-type]

    rows_of = site.first.store.steps.list
    monkeypatch.setattr(site.first.store.steps, "finish", stuck)
    await site.begin(MAIN, PART)
    report = await site.resume(await site.next_engine(), MAIN, PART)
    assert report.run.output == ["during x 1", "during wait 1"]
    assert site.first.probes.calls.count("during") == 2


async def test_the_timeout_of_a_flow_counts_from_its_first_start(site: Site) -> None:
    run = await site.begin(MAIN, PART)
    started = (datetime.now(UTC) - timedelta(hours=2)).replace(tzinfo=None)
    statement = text("UPDATE run SET started_at = :started WHERE id = :run")
    await site.first.store._database.write(
        lambda connection: connection.execute(statement, {"started": started, "run": run.id})
    )
    site.gate.open = True
    second = await site.next_engine()
    report = await site.resume(second, MAIN, PART)
    assert report.run.status is RunStatus.FAILED
    assert report.run.error is not None
    assert report.run.error.code == "run_timed_out"
    assert report.steps["sub"].final.status is StepStatus.CANCELLED
    statuses = {run.status for run in (await second.store.runs.list()).items if run.parent_id is not None}
    assert statuses == {RunStatus.SUCCEEDED, RunStatus.CANCELLED}, "what it had started is cancelled, and cleans up"
    assert site.first.probes.calls.count("during") == 2
    assert site.first.probes.calls.count("part_tidy") == 2


CANCELLED = """
flow: stopped
steps:
  - {id: long, probe: long}
  - {id: later, probe: gate, with: {n: x}}
finally:
  - {id: tidy, probe: gate}
  - {id: swept, probe: gate, with: {n: swept}}
"""


async def test_a_cancelled_run_stays_cancelled(site: Site) -> None:
    begun = asyncio.Event()

    async def long(call: StepCall) -> Json:
        begun.set()
        await asyncio.sleep(600)

    site.first.probes.probes = {**site.first.probes.probes, "long": long}
    driving = asyncio.create_task(site.first.run(CANCELLED))
    site._driving.append(driving)
    await asyncio.wait_for(begun.wait(), 30)
    driving.cancel()
    await asyncio.wait_for(site.gate.reached.wait(), 30)
    site.gate.open = True
    report = await site.resume(await site.next_engine(), CANCELLED)
    assert report.run.status is RunStatus.CANCELLED
    assert report.run.error is not None
    assert report.run.error.code == "run_cancelled"
    assert {name: step.final.status.value for name, step in report.steps.items()} == {
        "long": "cancelled",
        "later": "skipped",
        "tidy": "succeeded",
        "swept": "succeeded",
    }
    assert site.first.probes.calls == ["long", "tidy", "tidy", "swept"]


async def test_a_run_that_has_ended_is_not_taken_over(site: Site) -> None:
    site.gate.open = True
    report = await site.first.run(FLOW)
    second = await site.next_engine()
    plan = await second.runs.plan(second.load(FLOW), {}, Flows({}), workspace="default")
    with pytest.raises(AlreadyFinishedError):
        await second.runs.resume(plan, report.run, observer=Recorder())


async def test_a_run_that_does_not_say_what_it_starts_is_refused(site: Site) -> None:
    """It was begun by an older Stepbox."""
    await site.begin(MAIN, PART)
    second = await site.next_engine()
    run = replace(await site.run(), subflows={})
    source = RecordedFlows(second.store, second.language, run)
    with pytest.raises(UnrecordedFlowError, match="which version of flow 'part'"):
        await second.runs.plan(second.load(MAIN), run.inputs, source, workspace="default")

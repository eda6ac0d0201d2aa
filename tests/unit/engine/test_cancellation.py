"""A run that is cancelled, wherever it has come to, leaves a record that is complete and true."""

import asyncio
import importlib
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from engine.bootstrap.parts import LateOrchestrator
from engine.execution import Execution, RunOutcome
from engine.progress import AttemptEnded, Progress, RunEnded, RunStarted, StepEnded
from engine.records import Run, StepRun, StepSummary
from engine.report import report
from engine.settings import Settings
from engine.store import Store
from engine.store.database import Database
from flows.contracts import StepCall
from flows.definition import Definition
from flows.errors import StepboxError
from flows.values import Json, RunStatus, StepStatus
from tests.unit.engine.conftest import Engine, ProbeError, Recorder, RunEngine

FLOW = """
flow: stages
steps:
  - {id: first, probe: work}
  - {id: left, probe: work, needs: [first], if: steps.first.status == "failed"}
  - {id: flaky, probe: flaky, needs: [first], retry: {attempts: 3, delay: 5ms, jitter: false}}
  - id: each
    needs: [first]
    probe: odd
    for_each: {in: [0, 1, 2, 3], concurrency: 2, on_item_error: continue}
    with: {n: "${{ item }}"}
  - {id: sub, flow: middle, needs: [left]}
  - {id: bad, probe: boom, needs: [flaky, each, sub]}
on_failure:
  - {id: tell, probe: work}
finally:
  - {id: tidy, probe: work, with: {why: "${{ run.error.code }}", seen: "${{ steps.tell.status }}"}}
  - {id: swept, probe: work}
"""
MIDDLE = """
flow: middle
steps: [{id: inner, flow: innermost}]
finally: [{id: middle_tidy, probe: work}]
"""
INNERMOST = """
flow: innermost
steps: [{id: deep, probe: work}]
finally: [{id: deep_tidy, probe: work}]
"""
TIDY = {"stages": ["tidy", "swept"], "middle": ["middle_tidy"], "innermost": ["deep_tidy"]}


@dataclass
class Journal:
    """What the probes know of what they did."""

    begun: Counter[tuple[str, str, Json, int]] = field(default_factory=Counter)
    completed: Counter[tuple[str, str, Json, int]] = field(default_factory=Counter)

    def probe(self, then: Callable[[StepCall], Awaitable[Json]]) -> Callable[[StepCall], Awaitable[Json]]:
        async def probed(call: StepCall) -> Json:
            key = (call.run_id, call.step_id, call.inputs.get("n"), call.attempt)
            self.begun[key] += 1
            await call.log("stdout", f"{call.attempt} begins")
            await asyncio.sleep(0.001)
            await call.log("stdout", f"{call.attempt} ends")
            result = await then(call)
            self.completed[key] += 1
            return result

        return probed


async def give(call: StepCall) -> Json:
    return call.step_id


async def flaky(call: StepCall) -> Json:
    if call.attempt < 3:
        raise ProbeError
    return "third time"


async def odd(call: StepCall) -> Json:
    if call.inputs["n"] % 2:
        raise ProbeError
    return call.inputs["n"]


async def boom(call: StepCall) -> Json:
    raise ProbeError


def prepared(make: RunEngine) -> tuple[Engine, Journal]:
    journal = Journal()
    probes = {"work": give, "flaky": flaky, "odd": odd, "boom": boom}
    return make(**{name: journal.probe(probe) for name, probe in probes.items()}), journal


async def family(store: Store, run_id: str) -> list[Run]:
    """A run and those that it started, directly or not."""
    found = [await store.runs.get(run_id)]
    for one in reversed((await store.runs.list(limit=200)).items):
        if one.parent_id in {run.id for run in found}:
            found.append(await store.runs.get(one.id))
    return found


async def examine(engine: Engine, journal: Journal, *, cancellations: int) -> Run:
    """Everything that must hold of the record of a run, however it was ended; gives the run."""
    begun = [seen.run.id for seen in engine.observer.seen if isinstance(seen, RunStarted)]
    assert len(begun) == 1
    runs = await family(engine.store, begun[0])
    for run in runs:
        assert run.status in {RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED}, run.flow
        assert (run.error is None) == (run.status is RunStatus.SUCCEEDED)
        assert run.ended_at is not None
        steps = report(run, await engine.store.steps.summaries(run.id)).steps
        examine_rows(engine, run, await engine.store.steps.list(run.id), steps, journal)
        await examine_log(engine, run, journal)
        if cancellations < 2:
            done = [key[1] for key in journal.completed if key[0] == run.id]
            assert [step for step in done if step in TIDY[run.flow]] == TIDY[run.flow], run.flow
    examine_progress(engine.observer, runs[0], await engine.store.steps.list(runs[0].id))
    return runs[0]


def examine_rows(
    engine: Engine, run: Run, rows: tuple[StepRun, ...], steps: Mapping[str, StepSummary], journal: Journal
) -> None:
    definition = engine.load({"stages": FLOW, "middle": MIDDLE, "innermost": INNERMOST}[run.flow])
    wanted = {step.id for step in (*definition.flow.steps, *definition.flow.finally_)}
    assert wanted <= set(steps) <= set(definition.steps)
    keys = Counter((row.step_id, row.item, row.attempt) for row in rows)
    assert set(keys.values()) <= {1}
    for row in rows:
        assert row.status is not StepStatus.RUNNING, row.label
        assert row.ended_at is not None
        assert row.ended_at >= row.started_at
        assert row.duration < 60
        if row.status in {StepStatus.CANCELLED, StepStatus.SKIPPED, StepStatus.FAILED} and row.step_id != "left":
            assert row.error is not None, row.label
    by_key = {(row.step_id, row.item, row.attempt): row for row in rows if row.attempt}
    of_run = [key for key in journal.begun if key[0] == run.id]
    for _run, step, item, attempt in of_run:
        assert journal.begun[run.id, step, item, attempt] == 1
        row = by_key[step, item, attempt]
        completed = journal.completed[run.id, step, item, attempt] == 1
        assert (row.status is StepStatus.SUCCEEDED) == completed, row
    for step_id, one in steps.items():
        last = [row for row in rows if row.step_id == step_id and row.item is None and row.attempt]
        if last and last[-1].status is StepStatus.SUCCEEDED:
            assert one.final == last[-1], step_id


async def examine_log(engine: Engine, run: Run, journal: Journal) -> None:
    lines = Counter(
        (line.step_id, line.item, line.attempt, line.line) for line in (await engine.store.logs.list(run.id)).items
    )
    assert set(lines.values()) <= {1}
    for run_id, step, item, attempt in journal.completed:
        if run_id == run.id:
            assert lines[step, item, attempt, f"{attempt} begins"] == 1
            assert lines[step, item, attempt, f"{attempt} ends"] == 1


def examine_progress(observer: Recorder, run: Run, rows: tuple[StepRun, ...]) -> None:
    """What an observer was told is what was recorded."""
    ended = [seen.attempt for seen in observer.seen if isinstance(seen, AttemptEnded)]
    stored = {row.id: row for row in rows}
    for attempt in ended:
        assert stored[attempt.id].status is attempt.status
        assert stored[attempt.id].result == attempt.result
    finals = Counter(seen.attempt.step_id for seen in observer.seen if isinstance(seen, StepEnded))
    assert finals == dict.fromkeys({row.step_id for row in rows}, 1)
    assert [seen.run.status for seen in observer.seen if isinstance(seen, RunEnded)] == [run.status]


@dataclass
class Canceller:
    """Cancels a run at moments, counted from 0, that come to its notice."""

    at: tuple[int, ...]
    task: "asyncio.Task[Any] | None" = None
    count: int = 0
    made: int = 0

    def moment(self) -> None:
        if self.count in self.at and self.task is not None:
            self.made += 1
            asyncio.get_running_loop().call_soon(self.task.cancel)
        self.count += 1

    async def run(self, engine: Engine) -> None:
        self.task = asyncio.create_task(engine.run(FLOW, MIDDLE, INNERMOST))
        async with asyncio.timeout(60):
            await asyncio.wait({self.task})
        assert self.task.cancelled() == (self.made > 0)


def watch_writes(monkeypatch: pytest.MonkeyPatch, store: Store, canceller: Canceller) -> None:
    """Make each write of the store a moment: the cancellation comes while it is going on."""
    write = Database.write

    async def watched(database: Database, body: Callable[..., Any]) -> Any:
        canceller.moment()
        return await write(database, body)

    monkeypatch.setattr(Database, "write", watched)


class Interrupting(Recorder):
    """An observer for whom each notice is a moment."""

    def __init__(self, canceller: Canceller) -> None:
        super().__init__()
        self.canceller = canceller

    def notice(self, progress: Progress) -> None:
        super().notice(progress)
        self.canceller.moment()


async def test_cancelled_while_anything_is_written(engine: RunEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    canceller = Canceller(())
    moment = 0
    while canceller.made or not canceller.count:
        moment += 1  # the first write is that of the flow's version: there is no run yet
        probed, journal = prepared(engine)
        canceller = Canceller((moment,))
        with monkeypatch.context() as patch:
            watch_writes(patch, probed.store, canceller)
            await canceller.run(probed)
        run = await examine(probed, journal, cancellations=canceller.made)
        # The last write is that of the end, which stands.
        was_over = canceller.count <= moment + 1
        assert run.status is (RunStatus.FAILED if was_over else RunStatus.CANCELLED)
    assert moment > 50


async def test_cancelled_when_anything_has_happened(engine: RunEngine) -> None:
    canceller = Canceller(())
    moments = 0
    while canceller.made or not canceller.count:
        probed, journal = prepared(engine)
        canceller = Canceller((moments,))
        probed.observer = Interrupting(canceller)
        await canceller.run(probed)
        await examine(probed, journal, cancellations=canceller.made)
        moments += 1
    assert moments > 50


@pytest.mark.parametrize("distance", [1, 2, 3, 5, 8, 13])
async def test_cancelled_again_while_it_ends(engine: RunEngine, monkeypatch: pytest.MonkeyPatch, distance: int) -> None:
    for first in range(1, 50, 7):
        probed, journal = prepared(engine)
        canceller = Canceller((first, first + distance))
        with monkeypatch.context() as patch:
            watch_writes(patch, probed.store, canceller)
            await canceller.run(probed)
        run = await examine(probed, journal, cancellations=canceller.made)
        assert run.status is RunStatus.CANCELLED


async def test_cancelled_while_it_is_planned_nothing_is_recorded(engine: RunEngine) -> None:
    looked_for = asyncio.Event()

    class Slow:
        async def find(self, name: str) -> Definition | None:
            looked_for.set()
            await asyncio.sleep(60)
            return None

    probed = engine()
    task = asyncio.create_task(probed.runs.plan(probed.load(FLOW), {}, Slow(), workspace="default"))
    await asyncio.wait_for(looked_for.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await probed.store.runs.list()).items == ()


async def test_cancelled_while_its_version_is_written_nothing_is_run(
    engine: RunEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed, journal = prepared(engine)
    canceller = Canceller((0,))
    watch_writes(monkeypatch, probed.store, canceller)
    await canceller.run(probed)
    assert (await probed.store.runs.list()).items == ()
    assert not journal.begun


async def test_cancelled_while_prefect_is_imported_the_run_still_cleans_up(
    engine: RunEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    importing = threading.Event()

    def slowly(name: str) -> ModuleType:
        importing.set()
        time.sleep(0.3)
        return importlib.import_module(name)

    probed, journal = prepared(engine)
    monkeypatch.setenv("STEPBOX_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("engine.bootstrap.parts.importlib", SimpleNamespace(import_module=slowly))
    async with AsyncExitStack() as stack:
        probed.runs._driver = LateOrchestrator(Settings(), stack)
        task = asyncio.create_task(probed.run(FLOW, MIDDLE, INNERMOST))
        await asyncio.to_thread(importing.wait, 30)
        task.cancel()
        await asyncio.wait({task})
    assert task.cancelled()
    run = await examine(probed, journal, cancellations=1)
    assert run.status is RunStatus.CANCELLED
    rows = await probed.store.steps.list(run.id)
    assert {row.status for row in rows if row.step_id not in TIDY["stages"]} == {StepStatus.SKIPPED}


async def test_a_run_that_its_driver_refuses_has_an_end_for_each_step(engine: RunEngine) -> None:
    class Refusing:
        async def run(self, execution: Execution) -> RunOutcome:
            raise StepboxError("no server there", fix="start it")

    probed, _journal = prepared(engine)
    probed.runs._driver = Refusing()
    with pytest.raises(StepboxError, match="no server there"):
        await probed.run(FLOW, MIDDLE, INNERMOST)
    (run,) = (await probed.store.runs.list()).items
    assert run.status is RunStatus.FAILED
    steps = await probed.store.steps.summaries(run.id)
    assert {(step.final.step_id, step.final.status.value) for step in steps} == {
        (step.id, "skipped") for step in probed.load(FLOW).flow.steps
    }
    assert {step.final.error.message for step in steps if step.final.error} == {"no server there"}

"""Code that queues for the slots of its workspace: in one engine and in two on one database, in real sandboxes."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from pathlib import Path

import pytest

from engine.progress import AttemptStarted, CodeAdmitted
from engine.records import StepRun
from engine.store import Store
from flows.values import RunStatus
from steps.code import ShellStep
from steps.sandbox.executor import CodeExecutor
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes
from tests.databases import database_url, postgresql_url, sqlite_url
from tests.unit.engine.conftest import Engine, open_engine

__all__ = ["database_url", "postgresql_url", "sqlite_url"]

MANY = """
flow: many
inputs: {count: {type: integer}}
steps:
  - id: nap
    for_each: {in: "${{ lists.range(inputs.count) }}", concurrency: 100}
    shell: sleep 0.3
"""


async def opened(directory: Path, url: str) -> AsyncIterator[Engine]:
    sandboxes = Sandboxes(NsjailRunner(), concurrency=100)
    async with open_engine(directory, {ShellStep: CodeExecutor(sandboxes)}, url=url) as make:
        yield make()
    await sandboxes.close()


@pytest.fixture
async def engine(tmp_path: Path, database_url: str) -> AsyncIterator[Engine]:
    async for one in opened(tmp_path, database_url):
        yield one


@pytest.fixture
async def other(tmp_path: Path, database_url: str, engine: Engine) -> AsyncIterator[Engine]:
    async for one in opened(tmp_path, database_url):
        assert one.store.engine != engine.store.engine
        yield one


async def limit(engine: Engine, code: int) -> None:
    async with engine.store.transaction():
        version = await engine.store.policies.add("default", 1, {"concurrent_code": code}, "ann")
    engine.runs.policies.changed(version)


def at_once(attempts: Iterable[StepRun]) -> int:
    """How many went on at the same time, at most: from when they had their slot to their end."""
    changes: list[tuple[datetime, int]] = []
    for attempt in attempts:
        if attempt.code_began_at is not None and attempt.ended_at is not None:
            changes += [(attempt.code_began_at, 1), (attempt.ended_at, -1)]
    most = now = 0
    for _at, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


async def items(store: Store, run: str) -> list[StepRun]:
    return [row for row in await store.steps.list(run) if row.item is not None]


async def test_code_beyond_the_limit_queues_visibly_and_goes_on_in_order(engine: Engine) -> None:
    await limit(engine, 2)
    # Long enough for the last to begin before the first has ended, on a slow machine too.
    report = await engine.run(MANY.replace("sleep 0.3", "sleep 1"), count=6)
    assert report.run.status is RunStatus.SUCCEEDED
    rows = await items(engine.store, report.run.id)
    assert at_once(rows) == 2
    began = [row.code_began_at for row in rows if row.code_began_at is not None]
    assert len(began) == 6
    assert began == sorted(began)
    queued = {
        each.attempt.id for each in engine.observer.seen if isinstance(each, AttemptStarted) and each.attempt.queued
    }
    admitted = {each.attempt.id for each in engine.observer.seen if isinstance(each, CodeAdmitted)}
    assert queued == admitted
    assert len(queued) == 4
    assert await engine.store.code_slots.waiting() == 0


async def test_two_engines_share_the_ten_slots_of_a_workspace(engine: Engine, other: Engine) -> None:
    reports = await asyncio.gather(engine.run(MANY, count=12), other.run(MANY, count=12))
    assert [report.run.status for report in reports] == [RunStatus.SUCCEEDED] * 2
    rows = [row for report in reports for row in await items(engine.store, report.run.id)]
    assert len(rows) == 24
    assert at_once(rows) == 10


async def test_step_that_queues_for_longer_than_its_timeout_has_timed_out(engine: Engine) -> None:
    await limit(engine, 1)
    text = """
flow: f
steps:
  - {id: first, shell: sleep 3}
  - {id: second, needs: [], shell: echo 2, timeout: 1s}
"""
    report = await engine.run(text)
    first, second = report.steps["first"].final, report.steps["second"].final
    assert {first.status, second.status} <= {"succeeded", "timed_out"}
    late = second if second.code_began_at is None else first
    assert (late.step_id, late.status) == ("second", "timed_out")
    assert await engine.store.code_slots.waiting() == 0


async def test_cancelled_run_leaves_the_queue_to_the_others(engine: Engine) -> None:
    await limit(engine, 1)
    first = asyncio.ensure_future(engine.run("flow: a\nsteps: [{id: s, shell: sleep 3}]"))
    await until_begun(engine, 1)
    second = asyncio.ensure_future(engine.run("flow: b\nsteps: [{id: s, shell: echo 2}]"))
    await until_begun(engine, 2)
    assert await engine.store.code_slots.waiting() == 1
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert await engine.store.code_slots.waiting() == 0
    assert (await engine.run("flow: c\nsteps: [{id: s, shell: echo 3}]")).run.status is RunStatus.SUCCEEDED
    assert (await first).run.status is RunStatus.SUCCEEDED


async def test_raised_limit_lets_those_begin_that_wait(engine: Engine) -> None:
    await limit(engine, 1)
    first = asyncio.ensure_future(engine.run("flow: a\nsteps: [{id: s, shell: sleep 20}]"))
    await until_begun(engine, 1)
    second = asyncio.ensure_future(engine.run("flow: b\nsteps: [{id: s, shell: echo 2}]"))
    await until_begun(engine, 2)
    async with engine.store.transaction():
        version = await engine.store.policies.add("default", 2, {"concurrent_code": 2}, "ann")
    engine.runs.policies.changed(version)
    assert (await second).run.status is RunStatus.SUCCEEDED
    assert not first.done()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def until_begun(engine: Engine, count: int) -> None:
    """Wait until so many attempts have begun, queued or not."""
    async with asyncio.timeout(60):
        while True:
            started = [each for each in engine.observer.seen if isinstance(each, AttemptStarted)]
            if len(started) >= count:
                return
            await asyncio.sleep(0.02)

"""One engine drives a run; another takes it over only where that one can't, and then writes alone."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from engine.records import LogLine, Run
from engine.store import Store
from engine.store.errors import AlreadyFinishedError, LeaseLostError, RunDrivenError, UnknownRecordError
from engine.store.leases import ENGINE_ENDED, ENGINE_STOPPED, LEASE
from flows.contracts import EgressDecision, StepResult
from flows.values import RunStatus, StepStatus

DONE = StepResult(status=StepStatus.SUCCEEDED, result=1)
DECISION = EgressDecision(host="example.com", port=443, allowed=True)


@pytest.fixture
async def other(database_url: str, files: Path, store: Store) -> AsyncIterator[Store]:
    """Another engine on the same database."""
    async with await Store.open(database_url, files=files) as opened:
        yield opened


async def begin(store: Store, *, parent: Run | None = None) -> Run:
    version = await store.flows.put_version("default", "f", "flow: f", {}, "digest")
    return await store.runs.create(version, {}, running=True, parent_id=None if parent is None else parent.id)


async def expire(store: Store, run: Run) -> None:
    """Let the lease of a run end a second ago."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    if store._database.is_sqlite:
        past = past.replace(tzinfo=None)
    statement = text("UPDATE run SET lease_until = :past WHERE id = :run")
    await store._database.write(lambda connection: connection.execute(statement, {"past": past, "run": run.id}))


async def test_a_run_belongs_to_the_engine_that_began_it(store: Store, other: Store) -> None:
    run = await begin(store)
    assert run.owner == store.engine != other.engine
    assert run.lease_until is not None
    assert timedelta(0) < run.lease_until - run.created_at <= LEASE + timedelta(seconds=10)
    with pytest.raises(RunDrivenError, match="is driven by process"):
        await other.leases.take_over(run.id)
    with pytest.raises(RunDrivenError):
        await other.leases.take_over(run.id, dead="somebody else")
    assert (await store.runs.get(run.id)).owner == store.engine


async def test_an_ended_or_unknown_run_is_not_taken_over(store: Store, other: Store) -> None:
    run = await begin(store)
    await store.runs.finish(run.id, RunStatus.SUCCEEDED)
    assert (await store.runs.get(run.id)).owner is None
    with pytest.raises(AlreadyFinishedError, match="already succeeded"):
        await other.leases.take_over(run.id, dead=store.engine)
    with pytest.raises(UnknownRecordError):
        await other.leases.take_over("nope")


@pytest.mark.parametrize("how", ["dead", "expired"])
async def test_an_engine_that_is_dead_or_silent_loses_its_run(store: Store, other: Store, how: str) -> None:
    run = await begin(store)
    if how == "expired":
        await expire(store, run)
    await other.leases.take_over(run.id, dead=store.engine if how == "dead" else None)
    taken = await other.runs.get(run.id)
    assert taken.owner == other.engine
    assert taken.lease_until is not None
    assert taken.lease_until > datetime.now(UTC)
    assert taken.started_at == run.started_at
    with pytest.raises(RunDrivenError):
        await store.leases.take_over(run.id)


async def test_an_engine_does_not_take_over_what_it_drives_unless_it_has_let_go(store: Store) -> None:
    run = await begin(store)
    await expire(store, run)
    with pytest.raises(RunDrivenError):
        await store.leases.take_over(run.id)
    await store.leases.take_over(run.id, dead=store.engine)
    assert (await store.runs.get(run.id)).owner == store.engine


async def test_a_heartbeat_prolongs_all_leases_and_names_them(store: Store, other: Store) -> None:
    kept, lost, ended = [await begin(store) for _ in range(3)]
    theirs = await begin(other)
    await store.runs.finish(ended.id, RunStatus.FAILED)
    for run in (kept, lost):
        await expire(store, run)
    await other.leases.take_over(lost.id)
    assert await store.leases.renew() == {kept.id}
    renewed = await store.runs.get(kept.id)
    assert renewed.lease_until is not None
    assert renewed.lease_until > datetime.now(UTC)
    assert await other.leases.renew() == {lost.id, theirs.id}
    with pytest.raises(RunDrivenError):
        await other.leases.take_over(kept.id)


async def test_of_engines_that_want_the_same_run_one_gets_it(store: Store, database_url: str, files: Path) -> None:
    stores = [await Store.open(database_url, files=files) for _ in range(4)]
    try:
        for _ in range(10):
            run = await begin(store)
            tries = (one.leases.take_over(run.id, dead=store.engine) for one in stores)
            outcomes = await asyncio.gather(*tries, return_exceptions=True)
            assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType", *["RunDrivenError"] * 3]
            winner = stores[[outcome is None for outcome in outcomes].index(True)]
            assert (await store.runs.get(run.id)).owner == winner.engine
    finally:
        for one in stores:
            await one.close()


async def test_an_engine_that_has_lost_a_run_writes_nothing_more_of_it(store: Store, other: Store) -> None:
    run = await begin(store)
    step = await store.steps.start(run.id, "s")
    call = await store.calls.begin(run.id, "s", "files.write", {})
    egress = await store.egress.record(run.id, "s", DECISION)
    await other.leases.take_over(run.id, dead=store.engine)
    line = LogLine(run_id=run.id, step_id="s", attempt=1, stream="stdout", line="x", at=datetime.now(UTC))
    before = (await other.runs.get(run.id), await other.steps.list(run.id), await other.calls.list(run.id))
    for write in (
        store.steps.start(run.id, "t"),
        store.steps.add(store.steps.over(run.id, "u", DONE)),
        store.steps.finish(step.id, DONE),
        store.calls.begin(run.id, "s", "files.write", {}),
        store.calls.add(store.calls.new(run.id, "s", "files.write", {})),
        store.calls.finish(call.id),
        store.egress.record(run.id, "s", DECISION),
        store.egress.finish(egress.id, sent=1, received=1),
        store.logs.append([line]),
        store.runs.start(run.id),
        store.runs.finish(run.id, RunStatus.SUCCEEDED),
    ):
        with pytest.raises(LeaseLostError, match=run.id):
            await write
    after = (await other.runs.get(run.id), await other.steps.list(run.id), await other.calls.list(run.id))
    assert after == before
    assert len(await other.egress.list(run.id)) == 1
    assert (await other.logs.list(run.id)).items == ()
    assert await store.leases.renew() == frozenset()


async def test_what_a_dead_engine_left_open_is_ended(store: Store, other: Store) -> None:
    run = await begin(store)
    done = await store.steps.start(run.id, "done")
    await store.steps.finish(done.id, DONE)
    await store.steps.start(run.id, "open", item=3)
    made, _going_on = [await store.calls.begin(run.id, "open", "files.write", {"n": n}, item=3) for n in range(2)]
    await store.calls.finish(made.id, result="ok")
    await other.leases.take_over(run.id, dead=store.engine)
    first, second = await other.steps.list(run.id)
    assert (first.status, first.result) == (StepStatus.SUCCEEDED, 1)
    assert second.status is StepStatus.KILLED
    assert second.error is not None
    assert second.error.code == ENGINE_ENDED
    assert second.ended_at is not None
    known, unknown = await other.calls.list(run.id)
    assert (known.result, known.error, known.uncertain) == ("ok", None, False)
    assert unknown.error is not None
    assert unknown.error.code == "tool_outcome_unknown"
    assert unknown.uncertain
    await other.steps.start(run.id, "open", item=3, attempt=2)
    await other.runs.finish(run.id, RunStatus.SUCCEEDED)


async def test_a_run_comes_with_those_that_it_started(store: Store, other: Store) -> None:
    run = await begin(store)
    child = await begin(store, parent=run)
    grandchild = await begin(store, parent=child)
    ended = await begin(store, parent=run)
    await store.runs.finish(ended.id, RunStatus.SUCCEEDED)
    stranger = await begin(store)
    await store.steps.start(grandchild.id, "s")
    await other.leases.take_over(run.id, dead=store.engine)
    assert await other.leases.renew() == {run.id, child.id, grandchild.id}
    assert await store.leases.renew() == {stranger.id}
    (attempt,) = await other.steps.list(grandchild.id)
    assert attempt.status is StepStatus.KILLED
    assert [one.id for one in await other.runs.children(run.id)] == [child.id, ended.id]


async def test_a_take_over_waits_for_a_write_that_is_going_on(store: Store, other: Store) -> None:
    """Either the write is seen by who takes over, or it isn't made."""
    run = await begin(store)
    async with store.transaction():
        await store.steps.add(store.steps.over(run.id, "s", DONE))
        taking = asyncio.create_task(other.leases.take_over(run.id, dead=store.engine))
        done, _ = await asyncio.wait({taking}, timeout=0.3)
        assert not done
    await asyncio.wait_for(taking, 60)
    assert len(await other.steps.list(run.id)) == 1


async def test_what_a_run_needs_to_go_on_is_kept(store: Store) -> None:
    version = await store.flows.put_version("default", "f", "flow: f", {}, "digest")
    run = await store.runs.create(version, {}, running=True, subflows={"g": version.id}, directories=["/one", "/two"])
    kept = await store.runs.get(run.id)
    assert kept == run
    assert (kept.subflows, kept.directories) == ({"g": version.id}, ("/one", "/two"))


async def test_a_run_that_is_let_go_of_is_any_engines_at_once(store: Store, other: Store) -> None:
    run = await begin(store)
    part = await begin(store, parent=run)
    ended = await begin(store, parent=run)
    await store.runs.finish(ended.id, RunStatus.SUCCEEDED)
    steps = [await store.steps.start(one.id, "s") for one in (run, part)]
    await store.calls.begin(run.id, "s", "files.write", {})
    assert not await other.leases.release(run.id), "it is not that engine's"
    assert await store.leases.release(run.id)
    for one, step in zip((run, part), steps, strict=True):
        found = await store.runs.get(one.id)
        assert (found.status, found.owner, found.lease_until) == (RunStatus.RUNNING, None, None)
        (row,) = await store.steps.list(one.id)
        assert (row.id, row.status, row.error and row.error.code) == (step.id, StepStatus.KILLED, ENGINE_STOPPED)
    (call,) = await store.calls.list(run.id)
    assert call.error is not None
    with pytest.raises(LeaseLostError):
        await store.steps.start(run.id, "t")
    assert not await store.leases.release(run.id)
    assert not await store.leases.release(ended.id)
    await other.leases.take_over(run.id)
    assert (await other.runs.get(part.id)).owner == other.engine

"""Whoever sees the end of a run does so in the transaction that makes it, on each database."""

import asyncio

import pytest

from engine.records import Run, Slot
from engine.store import Store
from engine.store.errors import AlreadyFinishedError
from engine.store.run_audit import EndedRun
from engine.store.run_ends import Interest
from flows.contracts import Awaited, StepError
from flows.errors import InvalidCallError
from flows.values import RunStatus

BROKEN = StepError(code="error", message="broke\x00n")


class Clerk:
    """Writes a start key for each run that it sees the end of; ``problem`` is what goes wrong after that."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.seen: list[EndedRun] = []
        self.problem: Exception | None = None
        self.committed: list[str] = []
        self.pause = 0.0
        self.interest: dict[RunStatus, Interest] = {
            RunStatus.SUCCEEDED: "none",
            RunStatus.FAILED: "each",
            RunStatus.CANCELLED: "each",
        }
        self.called = asyncio.Event()

    def cares(self, status: RunStatus) -> Interest:
        return self.interest[status]

    async def ended(self, run: EndedRun) -> None:
        self.seen.append(run)
        self.called.set()
        self.store.once_committed(lambda: self.committed.append(run.id))
        assert await self.store.start_keys.claim(run.workspace, f"end of {run.id}", "digest", run.id)
        await asyncio.sleep(self.pause)
        if self.problem is not None:
            raise self.problem

    async def wrote(self, run: Run) -> bool:
        return await self.store.start_keys.find(run.workspace, f"end of {run.id}") is not None


@pytest.fixture
def clerk(store: Store) -> Clerk:
    store.runs.ends.witness = clerk = Clerk(store)
    return clerk


async def begin(store: Store, *, running: bool = True) -> Run:
    version = await store.flows.put_version("default", "f", "flow: f", {}, "digest")
    return await store.runs.create(version, {}, running=running)


async def test_the_end_and_what_is_written_of_it_are_there_together_or_not_at_all(store: Store, clerk: Clerk) -> None:
    run = await begin(store)
    clerk.problem = InvalidCallError("no")
    with pytest.raises(InvalidCallError):
        await store.runs.finish(run.id, RunStatus.FAILED, error=BROKEN)
    assert (await store.runs.get(run.id)).status is RunStatus.RUNNING
    assert not await clerk.wrote(run)
    assert clerk.committed == []
    clerk.problem = None
    await store.runs.finish(run.id, RunStatus.FAILED, error=BROKEN)
    with pytest.raises(AlreadyFinishedError):
        await store.runs.finish(run.id, RunStatus.FAILED)
    assert await clerk.wrote(run)
    assert clerk.committed == [run.id]
    seen = clerk.seen[-1]
    assert (seen.id, seen.flow, seen.version, seen.status, seen.error) == (run.id, "f", 1, RunStatus.FAILED, BROKEN)


async def test_an_end_that_nobody_cares_for_is_made_without_being_shown(store: Store, clerk: Clerk) -> None:
    run = await begin(store)
    await store.runs.finish(run.id, RunStatus.SUCCEEDED)
    assert clerk.seen == []


async def test_an_end_that_matters_only_to_runs_that_wait_is_shown_while_one_does(store: Store, clerk: Clerk) -> None:
    clerk.interest[RunStatus.SUCCEEDED] = "awaited"
    before, while_one_waits, after, waiting = [await begin(store) for _run in range(4)]
    await store.runs.finish(before.id, RunStatus.SUCCEEDED)
    assert clerk.seen == []
    await store.waits.look(waiting.id, "s", Awaited(event="stepbox.run.*"), fits=lambda _awaited, _event: False)
    await store.runs.finish(while_one_waits.id, RunStatus.SUCCEEDED)
    assert [seen.id for seen in clerk.seen] == [while_one_waits.id]
    assert await clerk.wrote(while_one_waits)
    await store.runs.finish(waiting.id, RunStatus.FAILED)
    await store.runs.finish(after.id, RunStatus.SUCCEEDED)
    assert [seen.id for seen in clerk.seen] == [while_one_waits.id, waiting.id]
    assert (await store.runs.get(after.id)).status is RunStatus.SUCCEEDED


async def test_a_cancellation_meanwhile_does_not_undo_the_end(store: Store, clerk: Clerk) -> None:
    run = await begin(store)
    clerk.pause = 0.1
    ending = asyncio.create_task(store.runs.finish(run.id, RunStatus.FAILED))
    await clerk.called.wait()
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert (await store.runs.get(run.id)).status is RunStatus.FAILED
    assert await clerk.wrote(run)
    assert clerk.committed == [run.id]


async def test_a_run_cancelled_in_the_queue_has_an_end_too(store: Store, clerk: Clerk) -> None:
    run = await begin(store, running=False)
    assert await store.runs.cancel_queued(run.id)
    assert not await store.runs.cancel_queued(run.id)
    assert [(seen.status, seen.started_at) for seen in clerk.seen] == [(RunStatus.CANCELLED, None)]


async def test_the_end_of_a_queued_run_whose_place_is_taken_is_seen(store: Store, clerk: Clerk) -> None:
    slot = Slot(key="", limit=1, policy="cancel_running")
    version = await store.flows.put_version("default", "f", "flow: f", {}, "digest")
    run = await store.runs.create(version, {}, slot=slot)
    await store.runs.make_room("default", "f", slot)
    assert [(seen.id, seen.status) for seen in clerk.seen] == [(run.id, RunStatus.CANCELLED)]
    assert await clerk.wrote(run)

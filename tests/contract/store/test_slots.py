"""Of the runs of a flow with ``concurrency``, never more than its limit go on, whoever starts them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal

import pytest

from engine.records import FlowVersion, Run, Slot
from engine.store import Store
from engine.store.errors import RunDrivenError, SlotsTakenError
from flows.values import RunStatus


@pytest.fixture
async def version(store: Store) -> FlowVersion:
    return await store.flows.put_version("default", "f", "flow: f", {}, "digest")


@pytest.fixture
async def engines(database_url: str, files: Path, store: Store) -> AsyncIterator[list[Store]]:
    """Several engines on the same database."""
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(await Store.open(database_url, files=files)) for _ in range(3)]
        yield [store, *opened]


def slot(limit: int = 1, key: str = "", policy: Literal["queue", "skip", "cancel_running"] = "queue") -> Slot:
    return Slot(key=key, limit=limit, policy=policy)


async def status_of(store: Store, *runs: Run) -> list[str]:
    return [(await store.runs.get(run.id)).status.value for run in runs]


async def test_a_run_beyond_the_limit_begins_once_another_has_ended(store: Store, version: FlowVersion) -> None:
    first = await store.runs.create(version, {}, running=True, slot=slot())
    with pytest.raises(SlotsTakenError, match="a run of `f` at once"):
        await store.runs.create(version, {}, running=True, slot=slot())
    second = await store.runs.create(version, {}, slot=slot())
    third = await store.runs.create(version, {}, slot=slot())
    assert await store.undriven.queued() == ()
    with pytest.raises(SlotsTakenError):
        await store.leases.take_over(second.id)
    await store.runs.finish(first.id, RunStatus.FAILED)
    assert await store.undriven.queued() == (second.id,)
    await store.leases.take_over(second.id)
    assert await store.undriven.queued() == ()
    await store.runs.finish(second.id, RunStatus.SUCCEEDED)
    assert await store.undriven.queued() == (third.id,)


async def test_a_run_that_waits_keeps_its_slot(store: Store, version: FlowVersion) -> None:
    first = await store.runs.create(version, {}, running=True, slot=slot())
    await store.runs.create(version, {}, slot=slot())
    await store.runs.park(first.id)
    assert await store.undriven.queued() == ()
    await store.leases.take_over(first.id)
    await store.runs.finish(first.id, RunStatus.SUCCEEDED)
    assert len(await store.undriven.queued()) == 1


async def test_other_keys_other_flows_and_runs_without_a_slot_do_not_count(store: Store, version: FlowVersion) -> None:
    other = await store.flows.put_version("default", "g", "flow: g", {}, "digest")
    await store.runs.create(version, {}, running=True, slot=slot(key="a"))
    for free in (
        await store.runs.create(version, {}, slot=slot(key="b")),
        await store.runs.create(other, {}, slot=slot(key="a")),
        await store.runs.create(version, {}),
    ):
        assert free.id in await store.undriven.queued()
        await store.leases.take_over(free.id)


async def test_a_run_that_is_to_be_skipped_is_not_recorded(store: Store, version: FlowVersion) -> None:
    skip = slot(limit=2, policy="skip")
    await store.runs.create(version, {}, running=True, slot=skip)
    queued = await store.runs.create(version, {}, slot=skip)
    async with store.transaction():
        with pytest.raises(SlotsTakenError, match="2 runs"):
            await store.runs.create(version, {}, slot=skip)
    assert len((await store.runs.list()).items) == 2
    await store.leases.take_over(queued.id)


async def test_room_is_made_by_the_oldest(store: Store, version: FlowVersion) -> None:
    cancels = slot(limit=2, policy="cancel_running")
    runs = [await store.runs.create(version, {}, running=True, slot=cancels) for _ in range(2)]
    runs += [await store.runs.create(version, {}, slot=cancels) for _ in range(2)]
    async with store.transaction():
        await store.runs.make_room("default", "f", cancels)
        newest = await store.runs.create(version, {}, slot=cancels)
    assert await status_of(store, *runs, newest) == ["running", "running", "cancelled", "queued", "queued"]
    asked = [run.id for run in runs if (await store.runs.get(run.id)).cancel_requested_at is not None]
    assert asked == [runs[0].id, runs[1].id, runs[2].id]
    error = (await store.runs.get(runs[2].id)).error
    assert error is not None
    assert error.message == "a later run of the flow has taken its place"
    for run in runs[:2]:
        await store.runs.finish(run.id, RunStatus.CANCELLED)
    assert await store.undriven.queued() == (runs[3].id, newest.id)


@pytest.mark.parametrize("limit", [1, 3])
async def test_engines_that_race_never_exceed_the_limit(engines: list[Store], version: FlowVersion, limit: int) -> None:
    """Half of the runs are queued and taken over, the others begin at once."""
    going_on, most, ended = 0, 0, 0

    async def go(store: Store, run: Run) -> None:
        nonlocal going_on, most, ended
        going_on += 1
        most = max(most, going_on)
        await asyncio.sleep(0.002)
        # Before the end is recorded: the next one may begin right after.
        going_on -= 1
        ended += 1
        await store.runs.finish(run.id, RunStatus.SUCCEEDED)

    async def one(store: Store, *, queued: bool) -> None:
        run = await store.runs.create(version, {}, slot=slot(limit)) if queued else None
        while True:
            try:
                if run is None:
                    await go(store, await store.runs.create(version, {}, running=True, slot=slot(limit)))
                else:
                    await store.leases.take_over(run.id)
                    await go(store, run)
            except (SlotsTakenError, RunDrivenError):
                await asyncio.sleep(0.001)
            else:
                return

    async with asyncio.timeout(60):
        await asyncio.gather(*(one(store, queued=number % 2 == 0) for store in engines for number in range(6)))
    assert ended == 6 * len(engines)
    assert 1 <= most <= limit

"""The slots for code, on both databases: counted over runs and engines, fair, and free again whatever becomes of them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from engine.records import Run, StepRun
from engine.store import Store
from engine.store.code_slots import CodeSlot
from engine.store.errors import LeaseLostError
from flows.contracts import StepResult
from flows.values import RunStatus, StepStatus

TWO = CodeSlot(workspace="default", limit=2)
DONE = StepResult(status=StepStatus.SUCCEEDED)


@pytest.fixture
async def other(database_url: str, store: Store, files: Path) -> AsyncIterator[Store]:
    """Another engine on the same database."""
    async with await Store.open(database_url, files=files) as opened:
        assert opened.engine != store.engine
        yield opened


async def begin(store: Store) -> Run:
    version = await store.flows.put_version("default", "flow", "text", {}, "digest")
    return await store.runs.create(version, {}, running=True)


async def attempts(store: Store, run: Run, *names: str, slot: CodeSlot = TWO) -> list[StepRun]:
    return [await store.steps.start(run.id, name, code=slot) for name in names]


async def queued(store: Store, run: Run) -> dict[str, bool]:
    return {row.step_id: row.queued for row in await store.steps.list(run.id)}


async def test_as_many_begin_as_may_and_the_others_queue(store: Store) -> None:
    run = await begin(store)
    rows = await attempts(store, run, "a", "b", "c", "d")
    assert [row.queued for row in rows] == [False, False, True, True]
    assert await queued(store, run) == {"a": False, "b": False, "c": True, "d": True}
    assert await store.code_slots.waiting() == 2
    summaries = {one.final.step_id: one.queued for one in await store.steps.summaries(run.id)}
    assert summaries == {"a": 0, "b": 0, "c": 1, "d": 1}
    assert await store.code_slots.grant(TWO, [row.id for row in rows]) == frozenset()


async def test_step_without_code_takes_no_slot(store: Store) -> None:
    run = await begin(store)
    await attempts(store, run, "a", "b")
    plain = await store.steps.start(run.id, "tool")
    assert not plain.queued
    await store.steps.finish(plain.id, DONE)
    assert (await attempts(store, run, "c"))[0].queued


async def test_slot_goes_to_whoever_waits_longest(store: Store) -> None:
    run = await begin(store)
    rows = await attempts(store, run, "a", "b", "c", "d")
    ids = [row.id for row in rows]
    await store.steps.finish(ids[0], DONE)
    # Nobody who comes later passes those that wait.
    assert (await attempts(store, run, "e"))[0].queued
    assert await store.code_slots.grant(TWO, [ids[3]]) == frozenset()
    assert await store.code_slots.grant(TWO, ids) == {ids[2]}
    assert await queued(store, run) == {"a": False, "b": False, "c": False, "d": True, "e": True}


async def test_raised_and_lowered_limits_hold(store: Store) -> None:
    run = await begin(store)
    rows = await attempts(store, run, "a", "b", "c", "d")
    ids = [row.id for row in rows]
    one = CodeSlot(workspace="default", limit=1)
    await store.steps.finish(ids[0], DONE)
    assert await store.code_slots.grant(one, ids) == frozenset()
    assert await store.code_slots.grant(CodeSlot(workspace="default", limit=9), ids) == {ids[2], ids[3]}


async def test_workspaces_have_slots_of_their_own(store: Store) -> None:
    run = await begin(store)
    await attempts(store, run, "a", "b")
    (elsewhere,) = await attempts(store, run, "x", slot=CodeSlot(workspace="other", limit=1))
    assert not elsewhere.queued


@pytest.mark.parametrize("end", ["finished", "run ended", "handed over"])
async def test_slot_is_free_however_the_attempt_ends(store: Store, end: str) -> None:
    run, waits = await begin(store), await begin(store)
    (first, *_rest) = await attempts(store, run, "a", "b")
    (row,) = await attempts(store, waits, "c")
    assert row.queued
    if end == "finished":
        await store.steps.finish(first.id, DONE)
    elif end == "run ended":
        await store.runs.finish(run.id, RunStatus.FAILED)
    else:
        await store.leases.release(run.id)
    assert await store.code_slots.grant(TWO, [row.id]) == {row.id}


async def test_one_that_waits_and_ends_gives_up_its_place(store: Store) -> None:
    run = await begin(store)
    rows = await attempts(store, run, "a", "b", "c", "d")
    ids = [row.id for row in rows]
    await store.steps.finish(ids[2], StepResult(status=StepStatus.CANCELLED))
    await store.steps.finish(ids[0], DONE)
    assert await store.code_slots.grant(TWO, ids) == {ids[3]}


async def test_engines_share_the_slots_and_the_order(store: Store, other: Store) -> None:
    here, there = await begin(store), await begin(other)
    (a,) = await attempts(store, here, "a")
    (b,) = await attempts(other, there, "b")
    (c,) = await attempts(other, there, "c")
    (d,) = await attempts(store, here, "d")
    assert [row.queued for row in (a, b, c, d)] == [False, False, True, True]
    await store.steps.finish(a.id, DONE)
    assert await store.code_slots.grant(TWO, [d.id]) == frozenset()
    assert await other.code_slots.grant(TWO, [c.id]) == {c.id}


async def test_engines_that_begin_at_once_never_take_too_many(store: Store, other: Store) -> None:
    here, there = await begin(store), await begin(other)
    slot = CodeSlot(workspace="default", limit=10)
    rows = await asyncio.gather(
        *(store.steps.start(here.id, f"a{number}", code=slot) for number in range(15)),
        *(other.steps.start(there.id, f"b{number}", code=slot) for number in range(15)),
    )
    assert sum(not row.queued for row in rows) == 10


async def test_slots_of_an_engine_whose_lease_is_over_are_free(store: Store, other: Store) -> None:
    lost, run = await begin(other), await begin(store)
    await attempts(other, lost, "a", "b", "c")
    (row,) = await attempts(store, run, "d")
    assert row.queued
    past = text("UPDATE run SET lease_until = '2000-01-01 00:00:00' WHERE id = :run")
    await store._database.execute(past, {"run": lost.id})
    assert await store.code_slots.grant(TWO, [row.id]) == {row.id}
    assert not (await attempts(store, run, "e"))[0].queued
    assert await store.code_slots.waiting() == 0


async def test_slots_of_a_process_that_has_ended_are_free_at_once(store: Store) -> None:
    lost, run = await begin(store), await begin(store)
    await attempts(store, lost, "a", "b", "c")
    (row,) = await attempts(store, run, "d")
    # The same machine and boot, and a process that can't be: its number is beyond any limit of the kernel's.
    fields = store.engine.split(".")
    dead = ".".join((*fields[:3], "99999999", *fields[4:]))
    await store._database.execute(text("UPDATE run SET owner = :dead WHERE id = :run"), {"dead": dead, "run": lost.id})
    assert await store.code_slots.grant(TWO, [row.id]) == {row.id}


async def test_engine_that_has_lost_the_run_takes_no_slot(store: Store, other: Store) -> None:
    run = await begin(store)
    with pytest.raises(LeaseLostError):
        await other.steps.start(run.id, "a", code=TWO)
    assert not (await attempts(store, run, "a"))[0].queued

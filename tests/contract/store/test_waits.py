"""Runs that wait, on both databases: when each is to be continued, and which event a wait takes."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from engine.deliveries import NewEvent
from engine.records import FlowVersion, Run, Slot
from engine.store import Store
from engine.store.errors import DecidedError, LeaseLostError
from engine.waiting import fits
from flows.contracts import Awaited, Question, StepResult, Waited
from flows.values import Json, RunStatus, StepStatus

PLAIN = Question(message="Go?")
PAID = Awaited(event="paid", match="event.data.id == inputs.order", names={"inputs": {"order": 7}})


@pytest.fixture
async def version(store: Store) -> FlowVersion:
    return await store.flows.put_version("default", "f", "flow: f", {}, "digest")


@pytest.fixture
async def run(store: Store, version: FlowVersion) -> Run:
    return await store.runs.create(version, {}, running=True)


async def due(store: Store) -> list[str]:
    return [run for run, _ in await store.undriven.due(workspace="default")]


async def send(store: Store, number: int, *, kind: str = "paid", **data: Json) -> Mapping[str, Json]:
    """Keep an event as intake does."""
    event: dict[str, Json] = {"id": str(number), "type": kind, "data": {"id": 7, **data}}
    async with store.transaction():
        new = NewEvent(
            workspace="default",
            kind="event",
            origin="events",
            key=f"s {number}",
            data=event,
            occurred_at=datetime.now(UTC),
        )
        if not (await store.events.accept(new, [])).duplicate:
            await store.waits.take("default", event, key=new.key, fits=fits)
    return event


async def look(store: Store, run: Run, awaited: Awaited = PAID, *, step: str = "w", item: int | None = None) -> Waited:
    return await store.waits.look(run.id, step, awaited, fits=fits, item=item)


async def test_a_run_is_due_once_it_is_decided_and_only_until_it_is_taken_over(store: Store, run: Run) -> None:
    asked = await store.approvals.ask(run.id, "ask", PLAIN)
    await store.runs.park(run.id)
    assert await due(store) == []
    await store.approvals.decide(asked.id, "approved", by="ann")
    assert await due(store) == [run.id]
    with pytest.raises(DecidedError):
        await store.approvals.decide(asked.id, "rejected", by="bob")
    await store.leases.take_over(run.id)
    await store.runs.park(run.id)
    assert await due(store) == []


async def test_a_decision_while_the_run_is_still_driven_is_not_missed(store: Store, run: Run) -> None:
    asked = await store.approvals.ask(run.id, "ask", PLAIN)
    await store.approvals.decide(asked.id, "approved", by="ann")
    assert await due(store) == []
    await store.runs.park(run.id)
    assert await due(store) == [run.id]


async def test_a_decision_at_the_moment_of_parking_is_not_missed(store: Store, version: FlowVersion) -> None:
    for _ in range(10):
        run = await store.runs.create(version, {}, running=True)
        asked = await store.approvals.ask(run.id, "ask", PLAIN)
        await asyncio.gather(store.runs.park(run.id), store.approvals.decide(asked.id, "approved", by="ann"))
        assert await due(store) == [run.id]
        await store.leases.take_over(run.id)
        await store.runs.finish(run.id, RunStatus.SUCCEEDED)


async def test_a_decision_that_is_refused_makes_no_run_due(store: Store, run: Run) -> None:
    asked = await store.approvals.ask(run.id, "ask", Question(message="Go?", timeout=0))
    await store.runs.park(run.id)
    await store.leases.take_over(run.id)
    await store.runs.park(run.id)
    with pytest.raises(DecidedError):
        await store.approvals.decide(asked.id, "approved", by="ann")
    assert await due(store) == []


async def test_a_run_is_due_when_time_is_over_and_not_for_ever(store: Store, run: Run) -> None:
    await store.approvals.ask(run.id, "ask", Question(message="Go?", timeout=0))
    await look(store, run, Awaited(seconds=0), step="other")
    await store.approvals.ask(run.id, "later", Question(message="Go?", timeout=3600))
    await store.runs.park(run.id)
    assert await due(store) == [run.id]
    # No step asks again for what is over, as where the items of a for-each were given up.
    await store.leases.take_over(run.id)
    await store.runs.park(run.id)
    assert await due(store) == []
    ((ahead, left),) = await store.undriven.due(workspace="default", within=3600)
    assert ahead == run.id
    assert left > 0


async def test_time_that_is_over_before_the_run_is_parked_is_not_missed(store: Store, run: Run) -> None:
    await store.approvals.ask(run.id, "ask", Question(message="Go?", timeout=0))
    await store.approvals.ask(run.id, "other", PLAIN)
    await store.runs.park(run.id)
    assert await due(store) == [run.id]


async def test_the_outermost_run_is_due_for_those_that_are_parts_of_it(store: Store, version: FlowVersion) -> None:
    root = await store.runs.create(version, {}, running=True)
    child = await store.runs.create(version, {}, running=True, parent_id=root.id)
    inner = await store.runs.create(version, {}, running=True, parent_id=child.id)
    asked = await store.approvals.ask(inner.id, "ask", PLAIN)
    await look(store, child, Awaited(seconds=3600))
    for each in (inner, child, root):
        await store.runs.park(each.id)
    assert [found for found, _ in await store.undriven.due(workspace="default", within=3600)] == [root.id]
    assert await due(store) == []
    await store.approvals.decide(asked.id, "approved", by="ann")
    assert await due(store) == [root.id]


async def test_a_run_that_waits_is_due_where_it_is_to_be_cancelled(store: Store, version: FlowVersion) -> None:
    slot = Slot(key="", limit=1, policy="cancel_running")
    run = await store.runs.create(version, {}, running=True, slot=slot)
    await store.runs.park(run.id)
    await store.runs.make_room("default", "f", slot)
    assert await due(store) == [run.id]
    await store.leases.take_over(run.id)
    await store.runs.request_cancel(run.id)
    await store.runs.park(run.id)
    assert await due(store) == [run.id]
    assert await store.undriven.cancelled() == (run.id,)
    await store.runs.finish(run.id, RunStatus.CANCELLED)
    assert await due(store) == []


async def test_a_run_whose_time_is_over_is_due_for_itself_and_for_what_it_is_a_part_of(
    store: Store, version: FlowVersion
) -> None:
    root = await store.runs.create(version, {}, running=True)
    child = await store.runs.create(version, {}, running=True, parent_id=root.id)
    await store.runs.park(child.id, within=-1)
    await store.runs.park(root.id, within=3600)
    assert await due(store) == [root.id]
    await store.leases.take_over(root.id)
    await store.runs.park(child.id)
    await store.runs.park(root.id, within=3600)
    assert await due(store) == []
    ((ahead, left),) = await store.undriven.due(workspace="default", within=3600)
    assert (ahead, left > 3500) == (root.id, True)


async def test_runs_that_wake_each_other_do_not_wait_for_each_other(store: Store, version: FlowVersion) -> None:
    """Each in a transaction that writes on itself, as where a step tells of something."""
    runs = [await store.runs.create(version, {}, running=True) for _ in range(2)]
    attempts = [await store.steps.start(run.id, "tells") for run in runs]
    for run in runs:
        await look(store, run)
    begun = asyncio.Barrier(2)

    async def tell(number: int) -> None:
        async with store.transaction():
            await store.steps.finish(attempts[number].id, StepResult(status=StepStatus.SUCCEEDED))
            if not store._database.is_sqlite:
                await begun.wait()
            await send(store, number)

    async with asyncio.timeout(30):
        await asyncio.gather(tell(0), tell(1))
    for run in runs:
        await store.runs.park(run.id)
    assert sorted(await due(store)) == sorted(run.id for run in runs)


async def test_events_that_come_in_two_orders_wake_runs_that_do_not_wait_for_each_other(
    store: Store, version: FlowVersion
) -> None:
    runs = [await store.runs.create(version, {}, running=True) for _ in range(4)]
    for number, run in enumerate(runs):
        await look(store, run, Awaited(event=f"paid.{number}"))

    async def sent(order: Sequence[int], start: int) -> None:
        async with store.transaction():
            for number in order:
                await send(store, start + number, kind=f"paid.{number}")
                await asyncio.sleep(0.01)

    for again in range(5):
        async with asyncio.timeout(30):
            await asyncio.gather(sent([0, 1, 2, 3], 100 * again), sent([3, 2, 1, 0], 100 * again + 50))


async def test_a_wait_for_a_time_keeps_what_its_first_attempt_said(store: Store, run: Run) -> None:
    first = await look(store, run, Awaited(seconds=3600))
    assert first.until == first.since + timedelta(hours=1)
    assert (first.ended_at, first.event) == (None, None)
    assert await look(store, run, Awaited(seconds=0)) == first
    item = await look(store, run, Awaited(until=datetime(2020, 1, 1, tzinfo=UTC)), item=0)
    assert item.ended_at is not None
    await store.runs.park(run.id)
    with pytest.raises(LeaseLostError):
        await look(store, run)


async def test_an_event_is_taken_by_each_wait_that_it_fits_and_each_takes_one(
    store: Store, run: Run, version: FlowVersion
) -> None:
    other = await store.runs.create(version, {}, running=True)
    assert (await look(store, run)).event is None
    await look(store, other, Awaited(event="pa*"), item=3)
    await look(store, run, Awaited(event="paid", match="event.nothing == 1"), step="never")
    await look(store, run, Awaited(event="paid", seconds=0), step="over")
    await store.runs.park(run.id)
    await store.runs.park(other.id)
    await store.leases.take_over(run.id)  # For the wait whose time is over.
    await store.runs.park(run.id)
    await send(store, 1, kind="refunded")
    await send(store, 2, id=8, nul="\0")
    assert await due(store) == [other.id]
    taken = await send(store, 3)
    await send(store, 4)
    assert sorted(await due(store)) == sorted([run.id, other.id])
    for each in (run, other):
        await store.leases.take_over(each.id)
    heard = await look(store, run)
    assert (heard.event, heard.ended_at is None) == (taken, False)
    assert (await look(store, other, item=3)).event == {"id": "2", "type": "paid", "data": {"id": 8, "nul": "\0"}}
    assert (await look(store, run, step="never")).event is None
    over = await look(store, run, step="over")
    assert (over.event, over.ended_at is None) == (None, False)


async def test_an_event_that_came_before_the_wait_but_not_before_the_run_is_taken(
    store: Store, version: FlowVersion
) -> None:
    await send(store, 1)
    await asyncio.sleep(0.002)
    run = await store.runs.create(version, {}, running=True)
    await asyncio.sleep(0.002)
    assert (await look(store, run, step="early")).event is None
    await send(store, 2, id=8, nul="\0")
    first = await send(store, 3)
    second = await send(store, 4)
    assert (await look(store, run, step="early")).event == first
    assert (await look(store, run, step="late")).event == second
    assert (await look(store, run, step="last")).event is None
    wide = await look(store, run, Awaited(event="*aid"), step="wide")
    assert wide.event is not None
    assert wide.event["id"] == "2"


async def test_an_event_at_the_moment_of_the_step_is_not_missed(store: Store, version: FlowVersion) -> None:
    for number in range(15):
        run = await store.runs.create(version, {}, running=True)
        await asyncio.sleep(0.002)
        looked, sent = await asyncio.gather(look(store, run), send(store, number))
        await store.runs.park(run.id)
        if looked.event is None:
            assert await due(store) == [run.id]
        await store.leases.take_over(run.id)
        assert (await look(store, run)).event == sent
        await store.runs.finish(run.id, RunStatus.SUCCEEDED)


async def test_the_end_of_a_run_ends_its_waits(store: Store, run: Run) -> None:
    await look(store, run)
    await store.runs.finish(run.id, RunStatus.CANCELLED)
    await send(store, 1)
    assert await due(store) == []


async def test_of_two_engines_that_continue_a_run_one_does(store: Store, run: Run) -> None:
    await store.approvals.ask(run.id, "ask", Question(message="Go?", timeout=0))
    await store.runs.park(run.id)
    assert await due(store) == [run.id]
    take = partial(store.leases.take_over, run.id)
    ends = await asyncio.gather(take(), take(), return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["NoneType", "RunDrivenError"]

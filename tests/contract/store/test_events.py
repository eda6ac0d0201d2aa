"""Events and their deliveries, as both databases keep them."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.deliveries import DeliveryStatus, NewEvent, Recipient, TriggerPosition
from engine.records import FlowVersion
from engine.store import Store
from engine.store.errors import AlreadyFinishedError, UnknownRecordError
from engine.store.events import MovedError
from flows.contracts import StepError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BROKEN = StepError(code="invalid_inputs", message="`status` must be a text", fix="change the trigger's `with`")


@pytest.fixture
async def version(store: Store) -> FlowVersion:
    return await store.flows.put_version("default", "flow", "text", {}, "digest")


def event(key: str | None = "k", origin: str = "webhook:orders") -> NewEvent:
    data = {"body": {"n": 1.0, "big": 2**70, "nul": "\0"}}
    return NewEvent(
        workspace="default", kind="webhook", origin=origin, key=key, data=data, causes=("flow/RUN",), occurred_at=NOW
    )


def recipient(version: FlowVersion, trigger: str = "hook", **ended: object) -> Recipient:
    return Recipient(flow="flow", flow_version_id=version.id, trigger_id=trigger, **ended)  # type: ignore[arg-type]


def soon() -> tuple[datetime, datetime]:
    now = datetime.now(UTC) + timedelta(seconds=1)
    return now, now + timedelta(seconds=30)


async def test_an_event_is_kept_with_a_delivery_for_each_trigger(store: Store, version: FlowVersion) -> None:
    accepted = await store.events.accept(event(), [recipient(version, "a"), recipient(version, "b")])
    assert not accepted.duplicate
    assert accepted.event.data == event().data
    assert [(each.trigger_id, each.status, each.run_id) for each in accepted.deliveries] == [
        ("a", DeliveryStatus.PENDING, None),
        ("b", DeliveryStatus.PENDING, None),
    ]
    assert await store.events.get(accepted.event.id) == accepted
    with pytest.raises(UnknownRecordError):
        await store.events.get("nothing")


async def test_an_event_that_concerns_nobody_is_kept_too(store: Store) -> None:
    accepted = await store.events.accept(event(), [])
    assert (await store.events.get(accepted.event.id)).deliveries == ()


async def test_an_event_that_comes_again_is_the_first_one(store: Store, version: FlowVersion) -> None:
    first = await store.events.accept(event(), [recipient(version)])
    await store.events.end(first.deliveries[0].id, DeliveryStatus.FILTERED, reason="no")
    again = await store.events.accept(event(), [recipient(version), recipient(version, "new")])
    assert again.duplicate
    assert again.event == first.event
    assert [(each.trigger_id, each.status, each.reason) for each in again.deliveries] == [
        ("hook", DeliveryStatus.FILTERED, "no")
    ]


async def test_only_the_same_key_of_the_same_origin_is_the_same_event(store: Store, version: FlowVersion) -> None:
    for each in (event(), event("other"), event(origin="webhook:invoices"), event(None), event(None)):
        assert not (await store.events.accept(each, [recipient(version)])).duplicate
    assert len((await store.events.deliveries()).items) == 5


async def test_of_events_that_come_at_once_one_is_kept(store: Store, version: FlowVersion) -> None:
    accepted = await asyncio.gather(*(store.events.accept(event(), [recipient(version)]) for _ in range(20)))
    assert sum(not each.duplicate for each in accepted) == 1
    assert len({each.event.id for each in accepted}) == 1
    assert len((await store.events.deliveries()).items) == 1


async def test_several_events_are_kept_together_or_not_at_all(store: Store, version: FlowVersion) -> None:
    unknown = Recipient(flow="flow", flow_version_id="nothing", trigger_id="hook")
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        await store.events.accept_all([(event("1"), [recipient(version)]), (event("2"), [unknown])])
    assert (await store.events.deliveries()).items == ()
    assert not (await store.events.accept(event("1"), [])).duplicate


async def test_what_is_decided_at_once_is_kept_with_its_reason(store: Store, version: FlowVersion) -> None:
    passed_over = recipient(version, status=DeliveryStatus.SKIPPED, reason="missed while nothing ran")
    accepted = await store.events.accept(event(), [passed_over])
    (delivery,) = accepted.deliveries
    assert (delivery.status, delivery.reason, delivery.due_at) == (
        DeliveryStatus.SKIPPED,
        "missed while nothing ran",
        None,
    )
    assert delivery.ended_at is not None
    assert await store.events.claim(now=soon()[0], until=soon()[1], limit=10) == ()
    assert await store.events.get(accepted.event.id) == accepted


async def test_what_is_claimed_is_nobody_elses_until_the_claim_runs_out(store: Store, version: FlowVersion) -> None:
    accepted = [await store.events.accept(event(str(n)), [recipient(version)]) for n in range(3)]
    now, until = soon()
    first = await store.events.claim(now=now, until=until, limit=2)
    assert [(kept, delivery.id) for delivery, kept in first] == [
        (each.event, each.deliveries[0].id) for each in accepted[:2]
    ]
    rest = await store.events.claim(now=now, until=until, limit=10)
    assert [delivery.id for delivery, _ in rest] == [accepted[2].deliveries[0].id]
    assert await store.events.claim(now=now, until=until, limit=10) == ()
    assert await store.events.next_due() == until
    again = await store.events.claim(now=until, until=until + timedelta(seconds=30), limit=10)
    assert {delivery.id for delivery, _ in again} == {each.deliveries[0].id for each in accepted}


async def test_claims_at_once_share_what_is_due(store: Store, version: FlowVersion) -> None:
    for number in range(20):
        await store.events.accept(event(str(number)), [recipient(version)])
    now, until = soon()
    claims = await asyncio.gather(*(store.events.claim(now=now, until=until, limit=5) for _ in range(4)))
    claimed = [delivery.id for claim in claims for delivery, _ in claim]
    assert len(claimed) == len(set(claimed))
    claimed += [delivery.id for delivery, _ in await store.events.claim(now=now, until=until, limit=20)]
    assert len(set(claimed)) == 20


async def test_a_delivery_starts_its_run_once(store: Store, version: FlowVersion) -> None:
    accepted = await store.events.accept(event(), [recipient(version)])
    delivery = accepted.deliveries[0]

    async def start() -> str | None:
        try:
            async with store.transaction():
                run = await store.runs.create(version, {"n": 1})
                await store.events.end(delivery.id, DeliveryStatus.STARTED, run_id=run.id)
                return run.id
        except AlreadyFinishedError:
            return None

    started = [run for run in await asyncio.gather(*(start() for _ in range(8))) if run is not None]
    (found,) = (await store.events.deliveries()).items
    assert [found.run_id] == started
    assert found.status is DeliveryStatus.STARTED
    assert [run.id for run in (await store.runs.list()).items] == started


async def test_what_ended_stays_as_it_is(store: Store, version: FlowVersion) -> None:
    delivery = (await store.events.accept(event(), [recipient(version)])).deliveries[0]
    await store.events.end(delivery.id, DeliveryStatus.FILTERED, reason="no")
    for change in (
        store.events.end(delivery.id, DeliveryStatus.DEAD),
        store.events.postpone(delivery.id, due_at=NOW, error=BROKEN),
        store.events.redrive(delivery.id, flow_version_id=version.id, now=NOW),
    ):
        with pytest.raises(AlreadyFinishedError, match="is filtered"):
            await change
    with pytest.raises(UnknownRecordError):
        await store.events.end("nothing", DeliveryStatus.DEAD)
    with pytest.raises(ValueError, match="pending"):
        await store.events.end(delivery.id, DeliveryStatus.PENDING)


async def test_a_poisoned_event_backs_off_dies_and_is_redriven(store: Store, version: FlowVersion) -> None:
    delivery = (await store.events.accept(event(), [recipient(version)])).deliveries[0]
    now, _ = soon()
    for attempt in (1, 2):
        due_at = now + timedelta(minutes=attempt)
        await store.events.postpone(delivery.id, due_at=due_at, error=BROKEN)
        (kept,) = (await store.events.deliveries(status=DeliveryStatus.PENDING)).items
        assert (kept.attempts, kept.error, kept.due_at) == (attempt, BROKEN, due_at)
        assert await store.events.claim(now=now, until=now, limit=10) == ()
    await store.events.end(delivery.id, DeliveryStatus.DEAD, reason="it failed twice", error=BROKEN)
    (dead,) = (await store.events.deliveries(status=DeliveryStatus.DEAD)).items
    assert (dead.reason, dead.error, dead.attempts) == ("it failed twice", BROKEN, 2)
    repaired = await store.flows.put_version("default", "flow", "repaired", {}, "other")
    await store.events.redrive(delivery.id, flow_version_id=repaired.id, now=now)
    ((redriven, kept_event),) = await store.events.claim(now=now, until=now, limit=10)
    assert (redriven.flow_version_id, redriven.attempts, redriven.error, redriven.reason) == (
        repaired.id,
        0,
        None,
        None,
    )
    assert kept_event.data == event().data


async def test_deliveries_are_listed_by_flow_and_status_in_pages(store: Store, version: FlowVersion) -> None:
    other = await store.flows.put_version("default", "other", "text", {}, "digest")
    ids = []
    for number in range(5):
        accepted = await store.events.accept(event(str(number)), [recipient(version)])
        ids.append(accepted.deliveries[0].id)
        elsewhere = Recipient(flow="other", flow_version_id=other.id, trigger_id="hook")
        await store.events.accept(event(f"other {number}"), [elsewhere])
    await store.events.end(ids[0], DeliveryStatus.FILTERED)
    page = await store.events.deliveries(flow="flow", limit=3)
    rest = await store.events.deliveries(flow="flow", limit=3, cursor=page.next)
    assert [each.id for each in (*page.items, *rest.items)] == ids[::-1]
    assert rest.next is None
    assert [each.id for each in (await store.events.deliveries(status=DeliveryStatus.FILTERED)).items] == ids[:1]
    assert await store.events.counts() == {DeliveryStatus.PENDING: 9, DeliveryStatus.FILTERED: 1}
    assert await store.events.counts(DeliveryStatus.DEAD, DeliveryStatus.FILTERED) == {DeliveryStatus.FILTERED: 1}


async def test_a_trigger_moves_with_its_event_and_only_from_where_it_stood(store: Store, version: FlowVersion) -> None:
    def at(moves: int, value: str) -> TriggerPosition:
        return TriggerPosition(workspace="default", flow="flow", trigger_id="nightly", moves=moves, value=value)

    assert await store.events.position("default", "flow", "nightly") is None
    await store.events.accept(event("1"), [recipient(version)], move=at(0, "first"))
    assert await store.events.position("default", "flow", "nightly") == at(1, "first")
    await store.events.move(at(1, "second"))
    for stale in (at(0, "late"), at(1, "late"), at(3, "early")):
        with pytest.raises(MovedError):
            await store.events.accept(event("2"), [recipient(version)], move=stale)
    assert await store.events.position("default", "flow", "nightly") == at(2, "second")
    assert not (await store.events.accept(event("2"), [])).duplicate


async def test_of_two_engines_one_moves_a_trigger(
    store: Store, version: FlowVersion, database_url: str, files: Path
) -> None:
    async with await Store.open(database_url, files=files) as other:
        move = TriggerPosition(workspace="default", flow="flow", trigger_id="nightly", moves=0, value="noon")

        async def fire(engine: Store, key: str) -> bool:
            try:
                await engine.events.accept(event(key), [recipient(version)], move=move)
            except MovedError:
                return False
            return True

        fired = await asyncio.gather(*(fire(engine, f"{n}") for n, engine in enumerate([store, other] * 5)))
        assert sum(fired) == 1
        assert len((await other.events.deliveries()).items) == 1

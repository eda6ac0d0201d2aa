"""Everything together, on a real store: flows as they are applied, and runs as they are queued."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.bootstrap import language
from engine.deliveries import Delivery, DeliveryStatus, KeptEvent
from engine.intake.intake import Intake
from engine.store import Store
from flows.contracts import StepError
from flows.events import Event
from flows.values import Json
from tests.unit.engine.intake.conftest import STEPS, Queue

ALARM = f"flow: alarm\ntriggers:\n  - id: t\n    event: {{type: order.failed}}\n{STEPS}"


async def no_secret(_workspace: str, _name: str) -> Sequence[str]:
    return []


def make(store: Store, queue: Queue | None = None) -> Intake:
    return Intake(store=store, language=language(), starting=queue or Queue(store), secrets=no_secret, consumer="here")


@asynccontextmanager
async def going_on(store: Store, queue: Queue | None = None) -> AsyncIterator[Intake]:
    intake = make(store, queue)
    await intake.start()
    try:
        yield intake
    finally:
        await intake.stop()


async def apply(store: Store, text: str) -> None:
    definition = language().load_text(text, path="flow.yaml", directory=Path())
    await store.flows.put_version("default", definition.flow.flow, text, {}, definition.digest, apply=True)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - the test's own wait
            await asyncio.sleep(0.02)


def failed(identity: str = "1", **data: Json) -> Event:
    attributes: dict[str, Json] = {"id": identity, "source": "/shop", "type": "order.failed", "data": data}
    return Event(kind="event", key=f"/shop {identity}", occurred_at=datetime.now(UTC), data=attributes)


async def test_what_is_told_starts_a_run(store: Store) -> None:
    await apply(store, ALARM)
    queue = Queue(store)
    async with going_on(store, queue) as intake:
        assert intake.trouble is None
        assert await intake.tell("default", failed()) is not None
        await until(lambda: queue.woken)
    assert [run.flow for run in (await store.runs.list()).items] == ["alarm"]


async def test_what_another_process_changes_is_noticed(store: Store) -> None:
    async with going_on(store) as intake:
        await apply(store, ALARM)
        await until(lambda: intake.subscriptions.matching("default", failed()))
        await store.flows.enable("alarm", enabled=False)
        await until(lambda: not intake.subscriptions.matching("default", failed()))
        await store.flows.enable("alarm", enabled=True)
        await until(lambda: intake.subscriptions.matching("default", failed()))
        await store.flows.delete("alarm")
        await until(lambda: not intake.subscriptions.matching("default", failed()))


async def test_a_draft_and_a_newer_version_that_was_only_tried_out_have_no_triggers(store: Store) -> None:
    definition = language().load_text(ALARM, path="flow.yaml", directory=Path())
    intake = make(store)
    await store.flows.put_version("default", "alarm", ALARM, {}, definition.digest)
    await intake.refresh()
    assert intake.subscriptions.matching("default", failed()) == ()
    await apply(store, ALARM)
    await store.flows.put_version("default", "alarm", ALARM + "# tried", {}, "another digest")
    await intake.refresh()
    assert [each.version.number for each in intake.subscriptions.matching("default", failed())] == [1]


async def test_a_flow_that_is_no_longer_taken_is_passed_over(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    await apply(store, ALARM)
    await store.flows.put_version("default", "old", "flow: old\nbogus: 1\n", {}, "digest", apply=True)
    intake = make(store)
    await intake.refresh()
    assert intake.subscriptions.matching("default", failed())
    assert "old v1 is no longer valid" in caplog.text


async def test_a_dead_letter_is_told_of(store: Store) -> None:
    heard: list[tuple[str, str]] = []

    async def died(delivery: Delivery, event: KeptEvent, error: StepError) -> None:
        heard.append((delivery.trigger_id, error.code))
        assert event.data["id"] == "1"

    given = '{type: order.failed}\n    with: {n: "${{ event.data.n }}"}'
    await apply(store, f"{ALARM.replace('{type: order.failed}', given)}inputs: {{n: {{type: integer}}}}\n")
    async with going_on(store) as intake:
        intake.died.append(died)
        await intake.tell("default", failed(n="none"))
        await until(lambda: heard)
    assert heard == [("t", "invalid_input")]


class Ledger:
    """Sees events. ``fails`` makes it refuse them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.seen: list[str | None] = []
        self.fails = False

    async def saw(self, _workspace: str, event: Event) -> None:
        if self.fails:
            raise RuntimeError("no more")
        self.seen.append(event.key)


async def test_witnesses_see_each_event_once_and_in_its_transaction(store: Store) -> None:
    await apply(store, ALARM)
    intake, ledger = make(store), Ledger(store)
    await intake.refresh()
    intake.receiver.witnesses.append(ledger)
    await intake.receiver.events("default", [failed("1"), failed("2"), failed("1")])
    await intake.tell("default", failed("3"))
    await intake.tell("default", failed("3"))
    other = Event(kind="event", key="/shop 4", occurred_at=datetime.now(UTC), data={"type": "nobody.listens"})
    assert await intake.tell("default", other) is None
    assert ledger.seen == ["/shop 1", "/shop 2", "/shop 3", "/shop 4"]
    ledger.fails = True
    with pytest.raises(RuntimeError):
        await intake.receiver.events("default", [failed("5")])
    assert len((await store.events.deliveries()).items) == 3


async def test_a_part_that_fails_is_named_and_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.intake.intake.AGAIN", 0.05)
    failures = iter([RuntimeError("the clock is broken")])

    async def look(_now: datetime) -> float:
        for problem in failures:
            raise problem
        looked.set()
        return 60.0

    looked = asyncio.Event()
    intake = make(store)
    monkeypatch.setattr(intake.schedules, "look", look)
    await intake.start()
    try:
        await until(lambda: "schedules: RuntimeError: the clock is broken" in (intake.trouble or ""))
        async with asyncio.timeout(20):
            await looked.wait()
        assert intake.trouble is None
    finally:
        await intake.stop()
    assert intake.trouble == "the service is shutting down"


async def test_what_was_kept_before_a_stop_starts_with_the_next_start(store: Store) -> None:
    await apply(store, ALARM)
    stopped = make(store)
    await stopped.refresh()
    await stopped.tell("default", failed())
    queue = Queue(store)
    async with going_on(store, queue):
        await until(lambda: queue.woken)
    (delivery,) = (await store.events.deliveries()).items
    assert delivery.status is DeliveryStatus.STARTED

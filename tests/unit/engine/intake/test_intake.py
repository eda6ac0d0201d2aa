"""Everything together, on a real store: flows as they are applied, and runs as they are queued."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
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
from triggers.file.source import FileSource

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


HOURLY = f'flow: report\ntriggers:\n  - id: t\n    schedule: {{cron: "0 * * * *", catch_up: all}}\n{STEPS}'
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def decided(intake: Intake, hours: float) -> list[str]:
    """The times that are started by then, by an engine that has just started."""
    await intake.refresh()
    await intake.schedules.look(NOON + timedelta(hours=hours))
    await intake.deliverer.deliver_due()
    return [
        str(run.trigger["event"]["scheduled_at"])[11:16]
        for run in reversed((await intake.deliverer._store.runs.list()).items)
    ]


async def test_a_schedule_makes_up_for_nothing_of_the_time_it_was_disabled(store: Store) -> None:
    await apply(store, HOURLY)
    assert await decided(make(store), 0.5) == []
    assert await decided(make(store), 2.5) == ["13:00", "14:00"]
    await store.flows.enable("report", enabled=True)
    assert await decided(make(store), 3.5) == ["13:00", "14:00", "15:00"]
    await store.flows.enable("report", enabled=False)
    assert len(await decided(make(store), 5.5)) == 3
    await store.flows.enable("report", enabled=True)
    await decided(make(store), 5.6)
    assert await decided(make(store), 6.5) == ["13:00", "14:00", "15:00", "18:00"]


async def test_a_changed_schedule_begins_anew_and_another_change_leaves_it(store: Store) -> None:
    await apply(store, HOURLY)
    await decided(make(store), 0.5)
    await apply(store, HOURLY + "# a comment\n")
    assert await decided(make(store), 2.5) == ["13:00", "14:00"]
    await apply(store, HOURLY.replace("0 * * * *", "15 * * * *"))
    assert await decided(make(store), 5.6) == ["13:00", "14:00"]
    assert await decided(make(store), 6.6) == ["13:00", "14:00", "18:15"]


async def test_a_deleted_flow_that_comes_back_begins_anew(store: Store) -> None:
    await apply(store, HOURLY)
    await decided(make(store), 0.5)
    await store.flows.delete("report")
    await apply(store, HOURLY)
    assert await decided(make(store), 4.5) == []
    assert await decided(make(store), 5.5) == ["17:00"]


def looks(intake: Intake, version: int) -> bool:
    source = intake.sources._open.get(f"default/inbox/t@{version}")
    return isinstance(source, FileSource) and source.has_looked


async def test_a_directory_is_known_anew_where_another_one_is_watched(store: Store, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    (folders[1] / "old.csv").write_text("there before it was watched")
    text = f"flow: inbox\ntriggers:\n  - id: t\n    file: {{path: {folders[0]}, glob: '*.csv', settle: 0s}}\n{STEPS}"
    queue = Queue(store)
    async with going_on(store, queue) as intake:
        for number, folder in enumerate(folders, 1):
            await apply(store, text.replace(str(folders[0]), str(folder)))
            await intake.refresh()
            await until(lambda: looks(intake, number))  # noqa: B023 - at once
            (folder / "new.csv").write_text("new")
            await until(lambda: queue.woken >= number)  # noqa: B023 - the same
    events = [run.trigger["event"]["path"] for run in (await store.runs.list()).items]
    assert len(events) == 2
    assert not any("old" in path for path in events)


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

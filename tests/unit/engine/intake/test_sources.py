# ruff: noqa: ASYNC240 - small files, in tests
"""Directories whose files become events, through restarts of the engine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from engine.deliveries import Delivery, DeliveryStatus
from engine.intake.sources import Sources
from tests.unit.engine.intake.conftest import STEPS, Intake


def watching(directory: Path) -> str:
    return (
        f"flow: inbox\ninputs:\n  name: {{type: string}}\ntriggers:\n  - id: t\n"
        f'    file: {{path: {directory}, glob: "*.csv", settle: 50ms}}\n'
        f'    with: {{name: "${{{{ event.name }}}}"}}\n{STEPS}'
    )


@asynccontextmanager
async def listening(intake: Intake) -> AsyncIterator[Sources]:
    async def no_secrets(_workspace: str, name: str) -> list[str]:
        raise AssertionError(name)

    sources = Sources(
        store=intake.store,
        subscriptions=intake.subscriptions,
        deliverer=intake.deliverer,
        secrets=no_secrets,
        consumer="test",
        died=intake.died,
    )
    running = asyncio.create_task(sources.run())
    yield sources
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def wait_for(intake: Intake, count: int) -> list[Delivery]:
    async with asyncio.timeout(30):
        while len(found := await intake.deliveries()) < count:  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.02)
    return found


async def looked(intake: Intake) -> None:
    """Wait until the state of the directory has been kept."""
    async with asyncio.timeout(30):
        while await intake.store.events.position("default", "inbox", "t") is None:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.02)


async def test_a_new_file_starts_a_run(intake: Intake, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "old.csv").write_text("was there before")
    await intake.apply(watching(inbox))
    async with listening(intake):
        await looked(intake)
        (inbox / "a.csv").write_text("1")
        (inbox / "a.txt").write_text("1")
        await wait_for(intake, 1)
    await intake.deliverer.deliver_due()
    assert [run.inputs for run in await intake.runs()] == [{"name": "a.csv"}]


async def test_what_came_while_nothing_ran_is_found_and_nothing_is_repeated(intake: Intake, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    await intake.apply(watching(inbox))
    async with listening(intake):
        await looked(intake)
        (inbox / "a.csv").write_text("1")
        await wait_for(intake, 1)
    (inbox / "b.csv").write_text("2")
    async with listening(intake):
        await wait_for(intake, 2)
    async with listening(intake):
        (inbox / "c.csv").write_text("3")
        await wait_for(intake, 3)
    await intake.deliverer.deliver_due()
    assert [run.inputs["name"] for run in await intake.runs()] == ["a.csv", "b.csv", "c.csv"]


async def test_state_that_was_not_kept_repeats_nothing(intake: Intake, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    await intake.apply(watching(inbox))
    async with listening(intake):
        await looked(intake)
    position = await intake.store.events.position("default", "inbox", "t")
    assert position is not None
    async with listening(intake):
        (inbox / "a.csv").write_text("1")
        await wait_for(intake, 1)
    stale = await intake.store.events.position("default", "inbox", "t")
    assert stale is not None
    await intake.store.events.move(type(stale)(**{**stale.__dict__, "value": position.value}))
    async with listening(intake):
        (inbox / "b.csv").write_text("2")
        await wait_for(intake, 2)
    assert len(await intake.deliveries()) == 2


async def test_a_directory_that_is_not_there_is_named_and_waited_for(intake: Intake, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    await intake.apply(watching(inbox))
    async with listening(intake) as sources:
        async with asyncio.timeout(30):
            while not sources.troubles:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
        assert str(inbox) in next(iter(sources.troubles.values()))


async def test_a_flow_that_goes_is_listened_to_no_more(intake: Intake, tmp_path: Path) -> None:
    await intake.apply(watching(tmp_path))
    async with listening(intake) as sources:
        await looked(intake)
        assert len(sources._listening) == 1
        intake.flows.remove("inbox")
        await intake.subscriptions.refresh()
        sources.wake()
        async with asyncio.timeout(30):
            while sources._listening:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)


async def test_a_file_with_a_name_that_is_not_text_is_a_dead_letter(intake: Intake, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    odd = inbox / "caf\udce9.csv"
    await intake.apply(watching(inbox))
    async with listening(intake):
        await looked(intake)
        odd.write_text("1")
        (dead,) = await wait_for(intake, 1)
    assert (dead.status, dead.reason) == (DeliveryStatus.DEAD, "the name of the file is not UTF-8")


def archiving(inbox: Path, archive: object = "done") -> str:
    return (
        watching(inbox)
        .replace("settle: 50ms", f"settle: 50ms, then: {{archive: {archive}}}")
        .replace("event.name", "event.path")
    )


async def begun(intake: Intake, flow: str, inbox: Path) -> None:
    inbox.mkdir()
    await intake.apply(flow)
    async with listening(intake):
        await looked(intake)


async def due(intake: Intake, count: int) -> None:
    """Wait until so many deliveries are no longer held."""
    async with asyncio.timeout(30):
        while len([one for one in await intake.deliveries() if one.due_at is not None]) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_file_is_moved_once_its_event_is_kept_and_the_run_finds_it_there(
    intake: Intake, tmp_path: Path
) -> None:
    inbox = tmp_path / "inbox"
    await begun(intake, archiving(inbox), inbox)
    async with listening(intake):
        for number in range(3):
            (inbox / "a.csv").write_text(f"text {number}")
            await due(intake, number + 1)
    await intake.deliverer.deliver_due()
    places = [run.inputs["name"] for run in await intake.runs()]
    assert places == [str(inbox / "done" / name) for name in ("a.csv", "a-2.csv", "a-3.csv")]
    assert [Path(place).read_text() for place in places] == ["text 0", "text 1", "text 2"]
    assert list(inbox.glob("*.csv")) == []


async def test_a_file_whose_move_was_cut_off_is_moved_later_and_runs_once(intake: Intake, tmp_path: Path) -> None:
    """At each moment at which an engine may be killed: before the move, between its parts, after it."""
    inbox, done = tmp_path / "inbox", tmp_path / "inbox" / "done"
    await begun(intake, archiving(inbox), inbox)
    done.write_text("in the way")
    async with listening(intake) as sources:
        for name in ("before", "between", "after"):
            (inbox / f"{name}.csv").write_text(name)
        await wait_for(intake, 3)
        async with asyncio.timeout(30):
            while not sources.troubles:  # noqa: ASYNC110 - nobody is told of trouble
                await asyncio.sleep(0.02)
    await intake.deliverer.deliver_due()
    assert not await intake.runs(), "no run begins before its file is in its place"
    assert {one.due_at for one in await intake.deliveries()} == {None}
    done.unlink()
    done.mkdir()
    (done / "between.csv").hardlink_to(inbox / "between.csv")
    (inbox / "after.csv").rename(done / "after.csv")
    async with listening(intake):
        await due(intake, 3)
    async with listening(intake):
        await looked(intake)
    await intake.deliverer.deliver_due()
    runs = sorted(run.inputs["name"] for run in await intake.runs())
    assert runs == [str(done / f"{name}.csv") for name in ("after", "before", "between")]
    assert [Path(place).read_text() for place in runs] == ["after", "before", "between"]
    assert list(inbox.glob("*.csv")) == []


async def test_a_place_that_is_taken_meanwhile_is_not_overwritten(intake: Intake, tmp_path: Path) -> None:
    inbox, done = tmp_path / "inbox", tmp_path / "inbox" / "done"
    await begun(intake, archiving(inbox), inbox)
    done.write_text("in the way")
    async with listening(intake):
        (inbox / "a.csv").write_text("ours")
        await wait_for(intake, 1)
    done.unlink()
    done.mkdir()
    (done / "a.csv").write_text("another's")
    async with listening(intake):
        await due(intake, 1)
    await intake.deliverer.deliver_due()
    assert [run.inputs["name"] for run in await intake.runs()] == [str(done / "a-2.csv")]
    assert ((done / "a.csv").read_text(), (done / "a-2.csv").read_text()) == ("another's", "ours")


async def test_a_file_that_changes_or_goes_before_it_is_moved_is_not_taken_for_what_it_was(
    intake: Intake, tmp_path: Path
) -> None:
    inbox, done = tmp_path / "inbox", tmp_path / "inbox" / "done"
    await begun(intake, archiving(inbox), inbox)
    done.write_text("in the way")
    async with listening(intake):
        for name in ("changes", "goes"):
            (inbox / f"{name}.csv").write_text(name)
        await wait_for(intake, 2)
    (inbox / "changes.csv").write_text("something else")
    (inbox / "goes.csv").unlink()
    done.unlink()
    async with listening(intake):
        await due(intake, 1)
    await intake.deliverer.deliver_due()
    statuses = sorted(one.status.value for one in await intake.deliveries())
    assert statuses == ["dead", "skipped", "started"]
    assert [run.inputs["name"] for run in await intake.runs()] == [str(done / "changes.csv")]
    assert (done / "changes.csv").read_text() == "something else"

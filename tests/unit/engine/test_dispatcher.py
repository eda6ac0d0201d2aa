"""What is queued is driven, oldest first and not too much at once; it ends by itself or with the dispatcher."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence

import pytest

from engine.dispatcher import Dispatcher
from flows.errors import StepboxError


class Queue:
    """Runs that wait, in memory."""

    def __init__(self, *runs: str) -> None:
        self.runs = list(runs)
        self.broken = False

    async def queued(self, *, limit: int) -> Sequence[str]:
        if self.broken:
            raise StepboxError("the database is gone")
        return self.runs[:limit]


class Driver:
    """Drives runs until the test lets them end."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.cancelled: list[str] = []
        self.may_end: dict[str, asyncio.Event] = {}
        self.ending: set[str] = set()
        self.cleans_up = False

    def let_go(self, runs: Collection[str]) -> Collection[str]:
        return [run for run in runs if run not in self.ending]

    async def __call__(self, run: str) -> None:
        self.queue.runs.remove(run)
        self.begun.append(run)
        try:
            await self.may_end.setdefault(run, asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.cancelled.append(run)
            await asyncio.sleep(600 if self.cleans_up else 0)
            raise
        self.ended.append(run)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def dispatchers() -> AsyncIterator[list[Dispatcher]]:
    made: list[Dispatcher] = []
    yield made
    for dispatcher in made:
        await dispatcher.stop(0)


def start(dispatchers: list[Dispatcher], queue: Queue, *, concurrency: int = 2) -> tuple[Dispatcher, Driver]:
    driver = Driver(queue)
    dispatcher = Dispatcher(queue=queue, drive=driver, let_go=driver.let_go, concurrency=concurrency)
    dispatchers.append(dispatcher)
    dispatcher.start()
    return dispatcher, driver


async def test_the_oldest_are_driven_and_the_others_when_there_is_room(dispatchers: list[Dispatcher]) -> None:
    dispatcher, driver = start(dispatchers, Queue("a", "b", "c", "d"))
    await settle()
    assert (driver.begun, dispatcher.active) == (["a", "b"], 2)
    driver.may_end["b"].set()
    await settle()
    assert driver.begun == ["a", "b", "c"]


async def test_what_is_queued_later_begins_when_it_is_said(dispatchers: list[Dispatcher]) -> None:
    queue = Queue()
    dispatcher, driver = start(dispatchers, queue)
    await settle()
    queue.runs.append("a")
    dispatcher.wake()
    await settle()
    assert driver.begun == ["a"]


async def test_one_that_fails_is_no_others_business(dispatchers: list[Dispatcher]) -> None:
    queue = Queue("bad", "worse", "good")
    begun = []

    async def drive(run: str) -> None:
        queue.runs.remove(run)
        begun.append(run)
        if run == "bad":
            raise StepboxError("refused")
        if run == "worse":
            raise RuntimeError("a bug")

    dispatcher = Dispatcher(queue=queue, drive=drive, let_go=lambda runs: runs, concurrency=1)
    dispatchers.append(dispatcher)
    dispatcher.start()
    await settle()
    assert begun == ["bad", "worse", "good"]
    assert dispatcher.is_alive


async def test_a_database_that_is_gone_for_a_while_stops_nothing(
    dispatchers: list[Dispatcher], caplog: pytest.LogCaptureFixture
) -> None:
    queue = Queue("a")
    queue.broken = True
    dispatcher, driver = start(dispatchers, queue)
    await settle()
    assert dispatcher.is_alive
    assert "the queue can't be read" in caplog.text
    queue.broken = False
    dispatcher.wake()
    await settle()
    assert driver.begun == ["a"]


async def test_stopping_waits_for_what_runs_and_starts_nothing_more(dispatchers: list[Dispatcher]) -> None:
    dispatcher, driver = start(dispatchers, Queue("a", "b", "c"))
    await settle()
    stopping = asyncio.create_task(dispatcher.stop(60))
    await settle()
    assert dispatcher.stopping
    for run in ("a", "b"):
        driver.may_end[run].set()
    assert await stopping == 0
    assert (driver.begun, driver.ended, driver.cancelled) == (["a", "b"], ["a", "b"], [])


async def test_what_outlasts_the_grace_is_let_go_of_and_counted(dispatchers: list[Dispatcher]) -> None:
    dispatcher, driver = start(dispatchers, Queue("a", "b"))
    await settle()
    driver.may_end["a"].set()
    assert await dispatcher.stop(0.01) == 1
    assert (driver.ended, driver.cancelled, dispatcher.active) == (["a"], ["b"], 0)


async def test_what_is_ending_anyway_is_waited_for(dispatchers: list[Dispatcher]) -> None:
    dispatcher, driver = start(dispatchers, Queue("a", "b"))
    await settle()
    driver.ending.add("a")
    stopping = asyncio.create_task(dispatcher.stop(0))
    async with asyncio.timeout(30):
        while dispatcher.active > 1:  # noqa: ASYNC110 - the dispatcher's own count
            await asyncio.sleep(0.01)
    assert (driver.cancelled, stopping.done()) == (["b"], False)
    driver.may_end["a"].set()
    assert await stopping == 1
    assert driver.ended == ["a"]


async def test_what_cleans_up_is_told_once_more_to_let_go(
    dispatchers: list[Dispatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.dispatcher.CLEAN_UP", 0.01)
    dispatcher, driver = start(dispatchers, Queue("a"))
    driver.cleans_up = True
    await settle()
    async with asyncio.timeout(30):
        assert await dispatcher.stop(0) == 1
    assert driver.cancelled == ["a"]


async def test_a_stop_that_is_cut_short_leaves_the_rest_to_another_without_grace(
    dispatchers: list[Dispatcher],
) -> None:
    dispatcher, driver = start(dispatchers, Queue("a"))
    await settle()
    stopping = asyncio.create_task(dispatcher.stop(60))
    await settle()
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert driver.cancelled == []
    assert await dispatcher.stop(0) == 1
    assert driver.cancelled == ["a"]


async def test_news_that_come_together_with_the_stop_do_not_keep_it_from_ending(dispatchers: list[Dispatcher]) -> None:
    dispatcher, _driver = start(dispatchers, Queue())
    await settle()
    dispatcher.wake()
    assert await asyncio.wait_for(dispatcher.stop(0), 30) == 0

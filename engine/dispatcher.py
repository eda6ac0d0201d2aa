"""Drives queued runs in this process: the oldest first, so many at once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol

from engine.cancellation import happened
from flows.errors import StepboxError

_log = logging.getLogger(__name__)

LOOK_AGAIN = 2.0
"""Seconds after which the queue is read without having been told: another process may have queued a run."""
CLEAN_UP = 1.0
"""Seconds after which what is let go of is told so once more."""


class Queue(Protocol):
    """The runs that wait, as the store has them."""

    async def queued(self, *, limit: int) -> Sequence[str]:
        """The ids of runs that wait to be driven, the oldest first."""


class Dispatcher:
    """Takes queued runs and drives each in a task of its own, ``concurrency`` at most at once.

    ``drive`` takes the id of a run, claims it, since another process may have been faster, and sees it to its end.
    ``let_go`` takes those of runs that are to be left to other engines, and gives those whose tasks are to be cancelled
    for that; the others are about to end.
    """

    def __init__(
        self,
        *,
        queue: Queue,
        drive: Callable[[str], Awaitable[None]],
        let_go: Callable[[Collection[str]], Collection[str]],
        concurrency: int,
    ) -> None:
        self._queue = queue
        self._drive = drive
        self._let_go = let_go
        self._concurrency = concurrency
        self._driven: dict[str, asyncio.Task[None]] = {}
        self._wanted: dict[str, asyncio.Future[None]] = {}
        self._news = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self.stopping = False
        """Whether nothing more is started."""

    @property
    def active(self) -> int:
        """How many runs are driven now."""
        return len(self._driven)

    @property
    def is_alive(self) -> bool:
        """Whether it takes runs."""
        return self._loop is not None and not self._loop.done()

    def start(self) -> None:
        """Begin with what is queued."""
        self._loop = asyncio.create_task(self._dispatch())

    def wake(self) -> None:
        """Say that a run was queued."""
        self._news.set()

    def want(self, run_id: str) -> "asyncio.Future[None]":
        """Have a run driven next, though it isn't queued; done once it has been."""
        driven = self._wanted.setdefault(run_id, asyncio.get_running_loop().create_future())
        self.wake()
        return driven

    def let_be(self, run_id: str) -> None:
        """Take back :meth:`want`, where the run isn't driven yet."""
        if run_id not in self._driven:
            self._wanted.pop(run_id, None)

    async def stop(self, grace: float) -> int:
        """Start nothing more, and let what is driven end within ``grace`` seconds; how many were let go of then.

        Cancelling this leaves what is driven to another call, with less grace.
        """
        self.stopping = True
        await self._end_loop()
        if self._driven:
            await asyncio.wait(self._driven.values(), timeout=grace)
        left = self._let_go(tuple(self._driven))
        tasks = [self._driven[run_id] for run_id in left]
        for again in (False, True):
            # Once more for those that clean up after a run, which outlasts being told once.
            for task in tasks:
                if not task.done() and (again or not task.cancelling()):
                    task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=CLEAN_UP)
        while self._driven:
            await asyncio.wait(self._driven.values())
        return len(left)

    async def _end_loop(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)

    async def _dispatch(self) -> None:
        while True:
            self._news.clear()
            try:
                await self._take()
            except StepboxError:
                _log.warning("the queue can't be read", exc_info=True)
            await happened(self._news, within=LOOK_AGAIN)

    async def _take(self) -> None:
        if self.active >= self._concurrency:
            return
        # What is driven here may still be queued in the store: its task has just begun.
        queued = await self._queue.queued(limit=self._concurrency + self.active)
        for run_id in [*self._wanted, *queued]:
            if self.active >= self._concurrency:
                return
            if run_id not in self._driven:
                task = asyncio.create_task(self._see_to_its_end(run_id), name=f"run {run_id}")
                self._driven[run_id] = task
                task.add_done_callback(lambda _task, run_id=run_id: self._over(run_id))  # type: ignore[misc]

    def _over(self, run_id: str) -> None:
        self._driven.pop(run_id, None)
        if (wanted := self._wanted.pop(run_id, None)) is not None and not wanted.done():
            wanted.set_result(None)
        self._news.set()

    async def _see_to_its_end(self, run_id: str) -> None:
        try:
            await self._drive(run_id)
        except asyncio.CancelledError:
            _log.info("run %s is not driven any more", run_id)
        except StepboxError as problem:
            _log.warning("run %s: %s", run_id, problem)
        except Exception:  # noqa: BLE001 - logged: one run's bug is no other's
            _log.exception("run %s failed inside Stepbox", run_id)

"""Tells those who follow runs that something happened, so that they read it from the store at once."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from engine.cancellation import happened
from engine.logbook import DELAY
from engine.progress import CallEnded, LineLogged, Notice, Progress, RunEnded, RunStarted

LONGEST_WAIT = 1.0
"""Seconds after which a follower looks without having been told: another process may drive the run."""


class Follower:
    """Waits for news of one run."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self._lines = False

    def tell(self, *, line: bool) -> None:
        """Wake whoever waits; lines of output are in the store only a moment later."""
        self._lines = self._lines or line
        self._news.set()

    async def wait(self, longest: float = LONGEST_WAIT) -> None:
        """Until there is news, or so many seconds."""
        if not await happened(self._news, within=longest):
            return
        if self._lines:
            await asyncio.sleep(min(longest, DELAY * 1.25))
        self._lines = False
        self._news.clear()


class Feed:
    """An observer that wakes the followers of runs."""

    def __init__(self) -> None:
        self._followers: defaultdict[str, set[Follower]] = defaultdict(set)

    @contextmanager
    def follower(self, run_id: str) -> Iterator[Follower]:
        """Somebody who hears of a run meanwhile."""
        follower = Follower()
        self._followers[run_id].add(follower)
        try:
            yield follower
        finally:
            self._followers[run_id].discard(follower)
            if not self._followers[run_id]:
                del self._followers[run_id]

    def notice(self, progress: Progress) -> None:
        """See :class:`engine.progress.Observer`."""
        if isinstance(progress, Notice):
            return
        for follower in self._followers.get(_run_of(progress), ()):
            follower.tell(line=isinstance(progress, LineLogged))


def _run_of(progress: Progress) -> str:
    if isinstance(progress, RunStarted | RunEnded):
        return progress.run.id
    if isinstance(progress, LineLogged):
        return progress.line.run_id
    if isinstance(progress, Notice):
        return ""
    if isinstance(progress, CallEnded):
        return progress.call.run_id
    return progress.attempt.run_id

"""What happens in a run, read from the store as it happens, so that any process can follow any run."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from engine.feed import Feed
from engine.records import LogLine, StepRun
from engine.service import InvalidPositionError, RunEvent
from engine.store import Store
from flows.values import RunStatus, StepStatus

FINAL: Final = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED})

LATE: Final = timedelta(seconds=5)
"""How much later than its own time says an attempt may appear in the store."""

_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
_POSITION: Final = re.compile(r"([0-9]{1,18})-([0-9]{1,14})(-end)?")


@dataclass(frozen=True, kw_only=True)
class Position:
    """A place in what happened: the cursor of the last line, the time of the last attempt's last change, the end."""

    line: int = 0
    attempts: datetime = _BEGINNING
    ended: bool = False

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """The position that was written as text; the beginning for None.

        Raises:
            InvalidPositionError: it is none.
        """
        if text is None:
            return cls()
        found = _POSITION.fullmatch(text)
        if found is None:
            raise InvalidPositionError(
                f"{text[:100]!r} is no position in a run", fix="give the id of the last event, or leave it out"
            )
        attempts = _BEGINNING + timedelta(milliseconds=int(found[2]))
        return cls(line=int(found[1]), attempts=attempts, ended=found[3] is not None)

    def __str__(self) -> str:
        milliseconds = (self.attempts - _BEGINNING) // timedelta(milliseconds=1)
        return f"{self.line}-{milliseconds}{'-end' if self.ended else ''}"


async def follow(store: Store, feed: Feed, run_id: str, start: Position) -> AsyncIterator[RunEvent]:
    """Everything from a position on, until the run has ended."""
    line, latest = start.line, start.attempts
    told: dict[str, tuple[StepStatus, bool]] = {}
    status: RunStatus | None = None
    if start.ended:
        return
    with feed.follower(run_id) as follower:
        while True:
            # Read first: once the run has ended, or waits, all that belongs to it is there.
            run = await store.runs.summary(run_id)
            ended = run.status in FINAL
            parked = run.status is RunStatus.WAITING and status is not run.status
            if run.status is not status and not ended and not parked:
                status = run.status
                yield RunEvent(position=str(Position(line=line, attempts=latest)), what=run)
            changed = [
                attempt
                for attempt in await store.steps.changed(run_id, max(latest - LATE, _BEGINNING))
                if told.get(attempt.id) != (attempt.status, attempt.queued)
            ]
            begun, rest = _in_order(changed)
            for attempt in begun:
                told[attempt.id], latest = (attempt.status, attempt.queued), max(latest, _time_of(attempt))
                yield RunEvent(position=str(Position(line=line, attempts=latest)), what=attempt)
            async for each in _lines(store, run_id, line):
                line = each.cursor or line
                yield RunEvent(position=str(Position(line=line, attempts=latest)), what=each)
            for attempt in rest:
                told[attempt.id], latest = (attempt.status, attempt.queued), max(latest, _time_of(attempt))
                yield RunEvent(position=str(Position(line=line, attempts=latest)), what=attempt)
            if ended:
                yield RunEvent(position=str(Position(line=line, attempts=latest, ended=True)), what=run)
                return
            if parked:
                status = run.status
                yield RunEvent(position=str(Position(line=line, attempts=latest)), what=run)
            await follower.wait()


def _in_order(changed: list[StepRun]) -> tuple[list[StepRun], list[StepRun]]:
    """The attempts that began before any of these ended, and then the others: a retry begins when the first has ended.

    What the code printed is told between, so that no line comes after the end of its attempt.
    """
    first_end = min((attempt.ended_at for attempt in changed if attempt.ended_at is not None), default=None)
    begun = [one for one in changed if one.ended_at is None and (first_end is None or one.started_at < first_end)]
    rest = [one for one in changed if one not in begun]
    return begun, sorted(rest, key=lambda one: (_time_of(one), one.ended_at is None))


async def _lines(store: Store, run_id: str, after: int) -> AsyncIterator[LogLine]:
    cursor: int | None = after
    while cursor is not None:
        page = await store.logs.list(run_id, cursor=cursor)
        for line in page.items:
            yield line
        cursor = None if page.next is None else int(page.next)


def _time_of(attempt: StepRun) -> datetime:
    return attempt.ended_at or attempt.started_at

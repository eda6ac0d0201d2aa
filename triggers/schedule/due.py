"""What of a plan is to be started now, and which times are passed over, with the reason. Nothing is remembered here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Final, Literal

from triggers.schedule.plan import Occurrence, Plan

GRACE: Final = timedelta(seconds=30)
"""How late a start is still on time, so that ``catch_up`` is for what was missed while nothing ran."""
BATCH: Final = 1_000
"""Starts at once. Where there are more, the caller asks again from ``decided`` on."""
COUNTED: Final = 1_000
"""Up to how many passed-over times are counted."""

_MICROSECOND = timedelta(microseconds=1)

CatchUp = Literal["none", "last", "all"]


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Times from ``first`` to ``last`` that start nothing. ``count`` is None where it is more than ``COUNTED``."""

    first: datetime
    last: datetime
    count: int | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Due:
    """What to do now.

    Every time up to ``decided`` is either in ``starts`` or ``skipped``, or was before: it is what to pass as ``since``
    the next time, once the starts are kept. ``next`` is the occurrence to wait for, None where none will come; while
    there is more to start now, it is one whose time has come.
    """

    starts: tuple[Occurrence, ...]
    skipped: tuple[Skipped, ...]
    decided: datetime
    next: Occurrence | None


def due(plan: Plan, *, since: datetime, now: datetime, catch_up: CatchUp, window: timedelta) -> Due:
    """Decide on the times later than ``since`` whose moment has come.

    ``since`` is ``decided`` of the last time, or when the schedule was first known. A start is on time up to ``GRACE``
    after its moment; of those that were missed, ``none``, the ``last`` or ``all`` are made up for, none of them older
    than ``window``. With ``last``, a start that is on time makes up for the missed ones.
    """
    first = next(plan.occurrences(since), None)
    if first is None or first.due_at > now:
        return Due(starts=(), skipped=(), decided=since, next=first)
    missed, on_time = _arrived(plan, since, now)
    decided = on_time[-1].scheduled_at if on_time else missed or since
    if missed is None:
        return _decide(plan, on_time, (), decided)
    oldest = max(since, min(now - window, missed))
    skipped = [*_passed(plan, since, oldest, f"missed longer ago than the window, {_written(window)}")]
    if oldest == missed or catch_up == "none":
        skipped += _passed(plan, oldest, missed, "missed while nothing ran, and `catch_up` is none")
        return _decide(plan, on_time, skipped, decided)
    if catch_up == "last":
        starts = on_time or (plan.occurrence(missed),)
        reason = f"made up for by the start of {starts[0].scheduled_at:%Y-%m-%dT%H:%M:%SZ}"
        skipped += _passed(plan, oldest, missed if on_time else missed - _MICROSECOND, reason)
        return _decide(plan, starts, skipped, decided)
    starts = tuple(islice(plan.occurrences(oldest), BATCH))
    starts = tuple(one for one in starts if one.scheduled_at <= missed)
    if starts[-1].scheduled_at < missed:
        return _decide(plan, starts, skipped, starts[-1].scheduled_at)
    return _decide(plan, (*starts, *on_time), skipped, decided)


def _arrived(plan: Plan, since: datetime, now: datetime) -> tuple[datetime | None, tuple[Occurrence, ...]]:
    """The last scheduled time that was missed, and the occurrences that are on time.

    An occurrence is due before the next one is scheduled, so at most one that is due in the time of grace was scheduled
    before it.
    """
    late = now - GRACE
    missed = plan.latest(after=since, until=late - _MICROSECOND)
    on_time: list[Occurrence] = []
    if missed is not None and (last := plan.occurrence(missed)).due_at >= late:
        on_time.append(last)
        missed = plan.latest(after=since, until=missed - _MICROSECOND)
    on_time += takewhile(lambda one: one.scheduled_at <= now, plan.occurrences(max(since, late - _MICROSECOND)))
    return missed, tuple(one for one in on_time if one.due_at <= now)


def _decide(plan: Plan, starts: Sequence[Occurrence], skipped: Sequence[Skipped], decided: datetime) -> Due:
    following = next(plan.occurrences(decided), None)
    return Due(starts=tuple(starts), skipped=tuple(skipped), decided=decided, next=following)


def _passed(plan: Plan, after: datetime, until: datetime, reason: str) -> Iterator[Skipped]:
    """The times later than ``after`` and not later than ``until``, as one entry."""
    last = plan.latest(after=after, until=until)
    first = plan.after(after)
    if first is None or last is None:
        return
    count, time = 1, first
    while time < last and count <= COUNTED:
        time = plan.after(time) or last
        count += 1
    yield Skipped(first=first, last=last, count=count if count <= COUNTED else None, reason=reason)


def _written(length: timedelta) -> str:
    units = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1)))
    unit, size = next(((unit, size) for unit, size in units if not length % size), ("s", timedelta(seconds=1)))
    return f"{length / size:g}{unit}"

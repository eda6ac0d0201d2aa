"""A schedule as a pure value: the instants of its plan, the same on every machine and after every restart.

Of a cron whose hour field leaves hours out, each time happens once, whatever becomes of the clock: one that the clock
skips at the moment it skips it, one that it shows twice the first time. A cron for every hour happens whenever the
clock shows a matching time, so that it goes on evenly. The decision on clocks that are changed has the reasons.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from flows.events import Event
from triggers.schedule.clock import change_within, first_shown, offset, shown, shown_again_until
from triggers.schedule.config import ScheduleTrigger
from triggers.schedule.cron import Cron
from triggers.schedule.dates import bounds

_SECOND = timedelta(seconds=1)
_LONGEST_FOLD: Final = timedelta(hours=26)
"""Zones have been moved by 24 hours at most, as Manila's in 1844."""
_NEAR: Final = timedelta(days=1)
"""Less than the longest fold, so that what is near is found in one step."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Occurrence:
    """One time of a plan. ``due_at`` is ``scheduled_at`` with its jitter; both are in UTC."""

    scheduled_at: datetime
    due_at: datetime


class Plan:
    """The times of one schedule. ``name`` tells its jitter from that of others: workspace, flow and trigger."""

    def __init__(self, trigger: ScheduleTrigger, *, name: str) -> None:
        """Read the schedule of a valid flow."""
        schedule = trigger.schedule
        self.zone = ZoneInfo(schedule.timezone)
        self._name = name
        self._cron = None if schedule.cron is None else Cron(schedule.cron)
        self._interval = timedelta(seconds=schedule.interval or 0)
        self._jitter = timedelta(seconds=schedule.jitter)
        self._start, self._end = bounds(schedule, self.zone)

    def after(self, instant: datetime) -> datetime | None:
        """The first scheduled time later than ``instant``; None where there is none."""
        if self._start is not None:
            instant = max(instant, self._start - _SECOND)
        found = self._next(instant.astimezone(UTC))
        return None if found is None or (self._end is not None and found > self._end) else found

    def latest(self, *, after: datetime, until: datetime) -> datetime | None:
        """The last scheduled time later than ``after`` and not later than ``until``; None where there is none."""
        found = self.after(after)
        if found is None or found > until:
            return None
        early, late = found, until
        while late - early >= _SECOND:
            middle = early + (late - early) / 2
            later = self.after(middle)
            if later is not None and later <= until:
                early = found = later
            else:
                late = middle
        last = self.after(early)
        return found if last is None or last > until else last

    def occurrences(self, after: datetime) -> Iterator[Occurrence]:
        """The occurrences whose scheduled time is later than ``after``, one after the other."""
        scheduled = self.after(after)
        while scheduled is not None:
            following = self.after(scheduled)
            yield self._occurrence(scheduled, following)
            scheduled = following

    def occurrence(self, scheduled: datetime) -> Occurrence:
        """The occurrence of a scheduled time."""
        return self._occurrence(scheduled, self.after(scheduled))

    def event(self, occurrence: Occurrence) -> Event:
        """What expressions see of an occurrence; its key is the same on every engine."""
        local = occurrence.scheduled_at.astimezone(self.zone).isoformat()
        return Event(
            kind="schedule",
            key=occurrence.scheduled_at.isoformat(),
            occurred_at=occurrence.scheduled_at,
            data={"scheduled_at": local},
        )

    def _occurrence(self, scheduled: datetime, following: datetime | None) -> Occurrence:
        return Occurrence(scheduled_at=scheduled, due_at=scheduled + self._delay(scheduled, following))

    def _delay(self, scheduled: datetime, following: datetime | None) -> timedelta:
        """The jitter of one time: less than what is left until the next, so that none overtakes another."""
        if not self._jitter:
            return timedelta(0)
        room = self._jitter if following is None else min(self._jitter, following - scheduled)
        digest = hashlib.sha256(f"{self._name}\n{scheduled.isoformat()}".encode()).digest()
        return room * (int.from_bytes(digest[:6]) / 2**48)

    def _next(self, instant: datetime) -> datetime | None:
        if self._cron is None:
            anchor = self._start or EPOCH
            return anchor + ((instant - anchor) // self._interval + 1) * self._interval
        try:
            return self._evenly(self._cron, instant) if self._cron.every_hour else self._once(self._cron, instant)
        except OverflowError:
            return None

    def _once(self, cron: Cron, instant: datetime) -> datetime | None:
        """The next time of which each happens once a day."""
        again_until = shown_again_until(self.zone, instant)
        wall: datetime | None = shown(self.zone, instant) if again_until is None else again_until - _SECOND
        while wall is not None:
            wall = cron.after(wall)
            if wall is not None and (found := first_shown(self.zone, wall)) > instant:
                return found
        return None

    def _evenly(self, cron: Cron, instant: datetime) -> datetime | None:
        """The next instant at which the clock shows a time that matches."""
        wall = shown(self.zone, instant)
        while (match := cron.after(wall)) is not None:
            ahead = offset(self.zone, instant)
            found = match.replace(tzinfo=UTC) - ahead
            change = change_within(self.zone, instant, min(found, instant + _LONGEST_FOLD))
            if change is not None:
                instant, wall = change, shown(self.zone, change) - _SECOND
            elif found <= instant + _LONGEST_FOLD:
                return found
            else:
                instant = first_shown(self.zone, match - _NEAR)
                wall = shown(self.zone, instant)
        return None

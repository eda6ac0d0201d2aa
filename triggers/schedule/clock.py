"""The clock of a zone: what it shows at an instant, when it shows a time, and where it is changed.

*Wall* is what a clock shows: a naive datetime. An *instant* is an aware datetime in UTC.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_SECOND = timedelta(seconds=1)


def shown(zone: ZoneInfo, instant: datetime) -> datetime:
    """What the clock shows."""
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    """How far the clock is ahead of UTC."""
    return shown(zone, instant) - instant.replace(tzinfo=None)


def first_shown(zone: ZoneInfo, wall: datetime) -> datetime:
    """The instant at which the clock first shows ``wall``; for a time that it skips, that at which it skips it."""
    instant = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if shown(zone, instant) == wall:
        return instant
    return _change(zone, wall.replace(tzinfo=zone, fold=1).astimezone(UTC), instant)


def shown_again_until(zone: ZoneInfo, instant: datetime) -> datetime | None:
    """Where the clock shows at ``instant`` what it has shown before: the end of those times. Else None."""
    local = instant.astimezone(zone)
    if not local.fold:
        return None
    before = local.replace(fold=0).astimezone(UTC)
    return shown(zone, _change(zone, before, instant) - _SECOND) + _SECOND


def change_within(zone: ZoneInfo, after: datetime, until: datetime) -> datetime | None:
    """The instant later than ``after`` and not later than ``until``, a day or so apart, at which the clock is changed.

    It is the first one at which the clock shows the new time.
    """
    return None if offset(zone, after) == offset(zone, until) else _change(zone, after, until)


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The second at which the offset at ``before`` has gone, which at ``after`` it has."""
    old = offset(zone, before)
    early, late = before.replace(microsecond=0), after.replace(microsecond=0)
    while late - early > _SECOND:
        middle = early + timedelta(seconds=(late - early) // _SECOND // 2)
        if offset(zone, middle) == old:
            early = middle
        else:
            late = middle
    return late

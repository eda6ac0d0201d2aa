"""The dates between which a schedule holds."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from triggers.schedule.clock import first_shown
from triggers.schedule.config import Schedule

_MICROSECOND = timedelta(microseconds=1)


def bounds(schedule: Schedule, zone: ZoneInfo) -> tuple[datetime | None, datetime | None]:
    """The first and the last instant of a schedule, in UTC; None where it is open."""
    start = None if schedule.start is None else read_date(schedule.start, zone)
    end = None if schedule.end is None else read_date(schedule.end, zone, end=True)
    return start, end


def read_date(text: str, zone: ZoneInfo, *, end: bool = False) -> datetime:
    """The instant of ``2026-12-31`` or ``2026-12-31T18:00`` on the clock of a zone, or of a time with an offset.

    A date alone is its beginning; as an ``end`` it is all of that day.

    Raises:
        ValueError: it is neither.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        return moment.astimezone(UTC)
    if _is_date(text):
        day = moment.date() + timedelta(days=1) if end else moment.date()
        first = first_shown(zone, datetime.combine(day, time()))
        return first - _MICROSECOND if end else first
    return first_shown(zone, moment)


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True

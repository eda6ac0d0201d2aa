"""Points in time as people write them: an ISO 8601 time, ``now``, or ``30 days ago``."""

import calendar
import re
from datetime import UTC, datetime, timedelta

from steps.tools.contract import InvalidArgumentsError

_AGO = re.compile(r"(\d{1,9}|an?)\s+(second|minute|hour|day|week|month|year)s?\s+ago", re.IGNORECASE)
_MONTHS = {"month": 1, "year": 12}


def parse(text: str, argument: str) -> datetime:
    """The moment, in UTC.

    A time without a zone is UTC, a date is its midnight. ``1 month ago`` is the same day of that month, or its last.

    Raises:
        InvalidArgumentsError: it is none of these.
    """
    now = datetime.now(UTC)
    plain = text.strip()
    if plain.lower() == "now":
        return now
    try:
        if match := _AGO.fullmatch(plain):
            count = 1 if match[1].lower() in {"a", "an"} else int(match[1])
            return _before(now, count, match[2].lower())
        moment = datetime.fromisoformat(plain)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidArgumentsError(
            f"{argument}: {text!r} is no point in time",
            fix="write it like 2025-03-31, 2025-03-31T14:00:00Z, now or 30 days ago",
        ) from None


def write(moment: datetime) -> str:
    """ISO 8601 in UTC, ending in Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _before(now: datetime, count: int, unit: str) -> datetime:
    if unit not in _MONTHS:
        return now - timedelta(**{f"{unit}s": count})
    year, month = divmod(now.year * 12 + now.month - 1 - count * _MONTHS[unit], 12)
    last = calendar.monthrange(year, month + 1)[1]
    return now.replace(year=year, month=month + 1, day=min(now.day, last))

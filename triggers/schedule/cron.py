"""Cron expressions: which are ones, and the times they match on a clock that is never changed."""

import re
from datetime import datetime
from typing import TYPE_CHECKING, Final

from flows.suggestions import instead

if TYPE_CHECKING:
    from croniter import croniter

NAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""What the names stand for, as in crontab(5). ``@reboot`` is no time."""
MAX_CRON: Final = 200
"""Characters."""
_FIELDS: Final = 5
_WITH_SECONDS: Final = 6
_YEARS: Final = 50
"""Between two times at most: the fifth Sunday of February comes every 28 years, and once after 40."""
_HASHED = re.compile(r"[hr]", re.IGNORECASE)
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the time that a clock shows, wherever it hangs
_FIX: Final = (
    'write five fields: minute, hour, day of month, month, day of week, such as "0 2 * * *"; '
    "or six, the first one for the seconds"
)


class InvalidCronError(ValueError):
    """Text that is no cron expression, or one that never comes due; ``fix`` says what to write."""

    def __init__(self, message: str, *, fix: str = _FIX) -> None:
        super().__init__(message)
        self.fix = fix


class Cron:
    """A cron expression of five fields, of six with seconds in front, or one of :data:`NAMES`.

    Where day of month and day of week are both given (neither is ``*``), a day that matches either one will do.
    """

    def __init__(self, text: str) -> None:
        """Read the expression.

        Raises:
            InvalidCronError: it is none, or it never comes due.
        """
        self._croniter = _read(text)
        hours = self._croniter.expanded[1]
        self.every_hour = "*" in hours or len(set(hours)) == 24  # noqa: PLR2004 - hours of a day
        """Whether its hour field leaves none out."""
        if self.after(_EPOCH) is None:
            raise InvalidCronError(f"`{text[:80]}` never comes due", fix="name a day that exists in that month")

    def after(self, wall: datetime) -> datetime | None:
        """The first time later than ``wall`` that it matches, both as a clock shows them; None: there is none."""
        from croniter import CroniterBadDateError  # noqa: PLC0415 - only schedules need it

        try:
            found: datetime = self._croniter.get_next(datetime, start_time=wall.replace(microsecond=0))
        except (CroniterBadDateError, OverflowError, ValueError):
            return None
        return found


def _read(text: str) -> "croniter":
    from croniter import CroniterError, croniter  # noqa: PLC0415 - only schedules need it

    shown = text[:80]
    if text.startswith("@"):
        if text.lower() not in NAMES:
            fix = instead(text, NAMES, otherwise=f"there are {', '.join(NAMES)}")
            raise InvalidCronError(f"there is no schedule named `{shown}`", fix=fix)
        text = NAMES[text.lower()]
    fields = text.split()
    if len(text) > MAX_CRON:
        raise InvalidCronError(f"`{shown}…` is longer than {MAX_CRON} characters")
    if len(fields) not in {_FIELDS, _WITH_SECONDS}:
        raise InvalidCronError(f"`{shown}` has {len(fields)} fields, not five or six")
    if any(_HASHED.match(item) for field in fields for item in field.split(",")):
        raise InvalidCronError(f"`{shown}` is not a cron expression")
    try:
        return croniter(
            " ".join(fields),
            _EPOCH,
            max_years_between_matches=_YEARS,
            second_at_beginning=len(fields) == _WITH_SECONDS,
        )
    except (CroniterError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise InvalidCronError(f"`{shown}` is not a cron expression: {str(error)[:120]}") from None

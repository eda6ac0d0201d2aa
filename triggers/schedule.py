"""Triggers of ``schedule``: at times of a cron expression, or at an interval."""

from collections.abc import Iterator
from typing import Literal

from flows.contracts import Finding
from flows.model import Config, TriggerConfig
from flows.suggestions import instead
from flows.values import Duration

_FIELDS = 5
_MAX_CRON = 200


class Schedule(Config):
    """Either ``cron`` or ``interval``."""

    cron: str | None = None
    """Five fields: minute, hour, day of month, month, day of week."""
    interval: Duration | None = None
    """Time from one start to the next, instead of ``cron``."""
    timezone: str = "UTC"
    """A name of the IANA database, such as Europe/Berlin."""
    jitter: Duration = 0.0
    """Delay each start at random by up to this much."""
    catch_up: Literal["none", "last", "all"] = "last"
    """Which of the starts missed while nothing ran are made up for."""
    window: Duration = 86400.0
    """How far back a missed start is still made up for."""


class ScheduleTrigger(TriggerConfig):
    """``event`` has ``scheduled_at``, the time of the plan."""

    schedule: Schedule
    """The plan."""


def check_schedule(config: TriggerConfig) -> Iterator[Finding]:
    """Whether it is a plan that ever comes due, in a timezone that exists."""
    assert isinstance(config, ScheduleTrigger)
    schedule = config.schedule
    if (schedule.cron is None) == (schedule.interval is None):
        code = "missing_key" if schedule.cron is None else "conflicting_keys"
        message = "a schedule has either `cron` or `interval`"
        fix = 'write `cron: "0 2 * * *"` or `interval: 15m`'
        yield Finding(path=("schedule",), code=code, message=message, fix=fix, at="key")
    if schedule.interval is not None and schedule.interval < 1:
        fix = "write `interval: 1s` or more"
        message = "`interval` must be at least 1s"
        yield Finding(path=("schedule", "interval"), code="invalid_value", message=message, fix=fix)
    if schedule.cron is not None and (problem := cron_problem(schedule.cron)) is not None:
        message, fix = problem
        yield Finding(path=("schedule", "cron"), code="invalid_cron", message=message, fix=fix)
    yield from _timezone(schedule.timezone)


def cron_problem(cron: str) -> tuple[str, str] | None:
    """Why a cron expression isn't one, or never comes due, and the fix; None where it is good."""
    from croniter import CroniterBadDateError, CroniterError, croniter  # noqa: PLC0415 - only schedules need it

    shown = cron[:80]
    fix = 'write five fields: minute, hour, day of month, month, day of week, such as "0 2 * * *"'
    fields = cron.split()
    if len(cron) > _MAX_CRON or len(fields) != _FIELDS:
        return f"`{shown}` has {len(fields)} fields, not five", fix
    if any(letter in field.upper() for letter in "HR" for field in (fields[0], fields[1], fields[2])):
        return f"`{shown}` is not a cron expression", fix
    try:
        croniter(cron, 0.0, max_years_between_matches=30).get_next()
    except CroniterBadDateError:
        return f"`{shown}` never comes due", "name a day that exists in that month"
    except (CroniterError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        return f"`{shown}` is not a cron expression: {str(error)[:120]}", fix
    return None


def _timezone(name: str) -> Iterator[Finding]:
    from zoneinfo import ZoneInfo, available_timezones  # noqa: PLC0415 - only schedules need it

    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        fix = instead(name, sorted(available_timezones()), otherwise="write a name such as Europe/Berlin or UTC")
        message = f"there is no timezone `{name[:80]}`"
        yield Finding(path=("schedule", "timezone"), code="unknown_timezone", message=message, fix=fix)

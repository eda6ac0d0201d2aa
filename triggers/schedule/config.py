"""The model of triggers of ``schedule``, and what may be wrong with one."""

from collections.abc import Iterator
from typing import Literal

from flows.contracts import Finding
from flows.model import Config, TriggerConfig
from flows.suggestions import instead
from flows.values import Duration


class Schedule(Config):
    """Either ``cron`` or ``interval``."""

    cron: str | None = None
    """Five fields (minute, hour, day of month, month, day of week), six with seconds in front, or such as @daily."""
    interval: Duration | None = None
    """Time from one start to the next, instead of ``cron``; counted from ``start``, or else from 1970 on."""
    timezone: str = "UTC"
    """A name of the IANA database, such as Europe/Berlin: the clock of ``cron``, ``start`` and ``end``."""
    jitter: Duration = 0.0
    """Delay each start at random by up to this much, never past the next one."""
    catch_up: Literal["none", "last", "all"] = "last"
    """Which of the starts missed while nothing ran are made up for."""
    window: Duration = 86400.0
    """How far back a missed start is still made up for."""
    start: str | None = None
    """No start before this date (2026-12-31) or time (2026-12-31T18:00)."""
    end: str | None = None
    """No start after it; a date counts to its end."""


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
    findings = [*_cron(schedule), *_timezone(schedule.timezone)]
    findings += _dates(schedule) if not any(each.code == "unknown_timezone" for each in findings) else ()
    yield from findings
    if not findings and schedule.start and schedule.end and (schedule.cron or (schedule.interval or 0) >= 1):
        yield from _ever(config)


def _cron(schedule: Schedule) -> Iterator[Finding]:
    from triggers.schedule.cron import Cron, InvalidCronError  # noqa: PLC0415 - only schedules need it

    if schedule.cron is None:
        return
    try:
        Cron(schedule.cron)
    except InvalidCronError as problem:
        yield Finding(path=("schedule", "cron"), code="invalid_cron", message=str(problem), fix=problem.fix)


def _timezone(name: str) -> Iterator[Finding]:
    from zoneinfo import ZoneInfo, available_timezones  # noqa: PLC0415 - only schedules need it

    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        fix = instead(name, sorted(available_timezones()), otherwise="write a name such as Europe/Berlin or UTC")
        message = f"there is no timezone `{name[:80]}`"
        yield Finding(path=("schedule", "timezone"), code="unknown_timezone", message=message, fix=fix)


def _dates(schedule: Schedule) -> Iterator[Finding]:
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - only schedules need it

    from triggers.schedule.dates import bounds, read_date  # noqa: PLC0415 - the same

    zone, wrong = ZoneInfo(schedule.timezone), False
    for key in ("start", "end"):
        text = getattr(schedule, key)
        try:
            _ = text is None or read_date(text, zone)
        except (ValueError, OverflowError):
            wrong = True
            message = f"`{text[:80]}` is not a date"
            fix = "write `2026-12-31`, or with a time `2026-12-31T18:00`"
            yield Finding(path=("schedule", key), code="invalid_value", message=message, fix=fix)
    if not wrong:
        start, end = bounds(schedule, zone)
        if start is not None and end is not None and end < start:
            message, fix = "`end` is before `start`", "turn the two around"
            yield Finding(path=("schedule", "end"), code="invalid_value", message=message, fix=fix)


def _ever(config: ScheduleTrigger) -> Iterator[Finding]:
    from triggers.schedule.plan import EPOCH, Plan  # noqa: PLC0415 - only schedules need it

    if Plan(config, name="").after(EPOCH) is None:
        message, fix = "no time of the schedule is between `start` and `end`", "move one of them"
        yield Finding(path=("schedule", "end"), code="invalid_cron", message=message, fix=fix)

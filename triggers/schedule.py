"""Triggers of ``schedule``: at times of a cron expression, or at an interval."""

from typing import Literal

from flows.model import Config, TriggerConfig
from flows.values import Duration


class Schedule(Config):
    """Either ``cron`` or ``interval``."""

    cron: str | None = None
    """Five fields: minute, hour, day of month, month, day of week."""
    interval: Duration | None = None
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

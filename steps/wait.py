"""Steps of ``wait``: for a time, until a time, or for an event."""

from typing import Literal

from flows.model import Config, StepConfig
from flows.values import Duration


class Wait(Config):
    """Either ``until`` or ``event``."""

    until: str | None = None
    """An ISO 8601 time with its offset, or an expression that gives one."""
    event: str | None = None
    """The type of event to wait for; ``*`` stands for any text."""
    match: str | None = None
    """A condition on the ``event``."""
    timeout: Duration | None = None
    """How long to wait for the event; left out: for ever."""
    on_timeout: Literal["fail", "continue"] = "fail"
    """Whether no event in time fails the step or gives a null."""


class WaitStep(StepConfig):
    """Parks the run. The result is the event, or null where only time was waited for."""

    wait: Duration | Wait

"""Steps of ``wait``: for a time, until a time, or for an event."""

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from flows.contracts import Catalogue, Finding, Wiring
from flows.model import Config, StepConfig
from flows.templates import OPENING
from flows.values import Duration

WIRING = (
    Wiring(path=("wait", "until")),
    Wiring(path=("wait", "match"), condition=True, names=frozenset({"event"})),
)


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
    """A duration, or a mapping with ``until`` or ``event``."""


def check_wait(config: StepConfig, _catalogue: Catalogue) -> Iterator[Finding]:
    """Whether it waits for exactly one thing."""
    assert isinstance(config, WaitStep)
    wait = config.wait
    if not isinstance(wait, Wait):
        return
    if (wait.until is None) == (wait.event is None):
        code = "missing_key" if wait.until is None else "conflicting_keys"
        message = "`wait` is for a duration, `until` a time, or for an `event`"
        yield Finding(path=("wait",), code=code, message=message, fix="give one of the three", at="key")
    for key in ("match", "timeout"):
        if getattr(wait, key) is not None and wait.event is None:
            message = f"`{key}` means nothing without `event`"
            yield Finding(path=("wait", key), code="conflicting_keys", message=message, fix="add `event:`", at="key")
    if wait.until is not None and OPENING not in wait.until and not _is_time(wait.until):
        message = f"`{wait.until[:80]}` is not a time with its offset"
        fix = "write it as `2030-01-31T09:00:00+01:00`, or as an expression"
        yield Finding(path=("wait", "until"), code="invalid_time", message=message, fix=fix)


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False

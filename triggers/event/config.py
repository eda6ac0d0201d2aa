"""The model of triggers of ``event``, and what may be wrong with one."""

import re
from collections.abc import Iterator

from flows.contracts import Finding
from flows.model import Config, TriggerConfig

_PATTERN = re.compile(r"[^\s\x00-\x1f]{1,300}")


class EventPattern(Config):
    """Which events; ``*`` stands for any text."""

    type: str
    """Such as com.example.order.created or stepbox.run.failed."""
    source: str | None = None
    """Where it comes from; left out: anywhere."""
    subject: str | None = None
    """What it is about; left out: anything."""


class EventTrigger(TriggerConfig):
    """``event`` has the CloudEvent's attributes and ``data``."""

    event: EventPattern
    """Which events."""


def check_event(config: TriggerConfig) -> Iterator[Finding]:
    """Whether the patterns are ones."""
    assert isinstance(config, EventTrigger)
    for key in ("type", "source", "subject"):
        pattern = getattr(config.event, key)
        if pattern is not None and not _PATTERN.fullmatch(pattern):
            message = f"`{key}` must be 1 to 300 characters without spaces"
            fix = "write a pattern such as `com.example.*`"
            yield Finding(path=("event", key), code="invalid_value", message=message, fix=fix)

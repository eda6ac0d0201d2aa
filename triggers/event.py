"""Triggers of ``event``: a CloudEvent that was sent in, or one of our own."""

from flows.model import Config, TriggerConfig


class EventPattern(Config):
    """Which events; ``*`` stands for any text."""

    type: str
    """Such as com.example.order.created or stepbox.run.failed."""
    source: str | None = None
    subject: str | None = None


class EventTrigger(TriggerConfig):
    """``event`` has the CloudEvent's attributes and ``data``."""

    event: EventPattern

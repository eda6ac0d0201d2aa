"""Triggers of ``queue``: a message of a Redis stream."""

from flows.model import Config, TriggerConfig


class Queue(Config):
    """Which stream."""

    stream: str
    group: str = "stepbox"
    """The consumer group: each message goes to one member of it."""
    url: str | None = None
    """Such as redis://localhost:6379/0, without a password; not together with ``secret``."""
    secret: str | None = None
    """The name of the secret that holds the URL."""


class QueueTrigger(TriggerConfig):
    """``event`` has ``id`` and ``fields`` of the message."""

    queue: Queue

"""The model of triggers of ``queue``, and what may be wrong with one."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from flows.contracts import Finding
from flows.model import Config, TriggerConfig
from flows.names import name_finding


class Queue(Config):
    """Which stream."""

    stream: str
    """The stream's key."""
    group: str = "stepbox"
    """The consumer group: each message goes to one member of it."""
    url: str | None = None
    """Such as redis://localhost:6379/0, without a password; not together with ``secret``."""
    secret: str | None = None
    """The name of the secret that holds the URL."""


class QueueTrigger(TriggerConfig):
    """``event`` has ``id`` and ``fields`` of the message."""

    queue: Queue
    """Which stream."""


def check_queue(config: TriggerConfig) -> Iterator[Finding]:
    """Whether it says where the stream is, without a password in it."""
    assert isinstance(config, QueueTrigger)
    queue = config.queue
    if (queue.url is None) == (queue.secret is None):
        code = "missing_key" if queue.url is None else "conflicting_keys"
        message = "a queue has either `url` or `secret`"
        fix = "write `url: redis://host:6379/0`, or name the secret that holds it"
        yield Finding(path=("queue",), code=code, message=message, fix=fix, at="key")
    if queue.url is not None and (problem := _url_problem(queue.url)) is not None:
        message, fix = problem
        yield Finding(path=("queue", "url"), code="invalid_value", message=message, fix=fix)
    if queue.secret is not None and (finding := name_finding(queue.secret, ("queue", "secret"), "a secret")):
        yield finding
    for key in ("stream", "group"):
        if not getattr(queue, key).strip():
            fix = "give it a name"
            yield Finding(path=("queue", key), code="invalid_value", message=f"`{key}` is empty", fix=fix)


def _url_problem(url: str) -> tuple[str, str] | None:
    try:
        parts = urlsplit(url)
        host, password = parts.hostname, parts.password
        _ = parts.port
    except ValueError:
        host = password = None
        parts = urlsplit("")
    if password is not None:
        return "`url` holds a password", "keep the whole URL as a secret, and name it under `secret:`"
    if parts.scheme not in {"redis", "rediss"} or not host:
        return f"`{url[:80]}` is not the URL of a Redis server", "write it as redis://host:6379/0"
    return None

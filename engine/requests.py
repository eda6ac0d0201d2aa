"""Requests that a service has answered, as values: for its metrics and its traces."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class AnsweredRequest:
    """A request that was answered. ``route`` is its path with names for what varies, None where there is no such route.

    ``seconds`` are those until the whole answer was sent. ``traceparent`` is the header that it came with.
    """

    id: str
    method: str
    scheme: str
    path: str
    route: str | None
    status: int
    came_at: datetime
    seconds: float
    traceparent: str | None = None

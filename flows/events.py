"""What happened, and the contract of what tells of it: a source yields events and hears when each one is kept."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Protocol

from flows.values import Json


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """A file that came with an event, kept apart from its data.

    ``field`` is the name of the form's field and ``filename`` what the sender calls the file, without directories.
    ``path`` tells it from the others of its event, and is its name as an artifact: ``0/report.csv``. ``size`` is in
    bytes, ``sha256`` in hex. ``content`` is at its beginning; whoever takes the event closes it.
    """

    field: str
    filename: str
    path: str
    content_type: str
    size: int
    sha256: str
    content: IO[bytes]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened.

    ``kind`` is the key of the trigger's kind. ``key`` is the same when the same event comes again, and differs from
    that of every other event of its source; None where nothing tells. ``data`` is what expressions see as ``event``.
    ``causes`` are the runs that led to it, the first one first (:mod:`triggers.event.causes`).
    """

    kind: str
    key: str | None
    occurred_at: datetime
    data: Mapping[str, Json]
    causes: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = field(default=(), compare=False)


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """An event as a source yields it.

    ``acknowledge`` says that it is kept, so that the source may forget it; until then the source tells of it again,
    with the same key, after a restart. ``unfit`` says why no run can be made of it: it is to be kept among the dead
    letters, and acknowledged as well.
    """

    event: Event
    acknowledge: Callable[[], Awaitable[None]]
    unfit: str | None = None


class Source(Protocol):
    """Yields the events of one trigger until it is closed. It starts no run itself."""

    @property
    def trouble(self) -> str | None:
        """What keeps it from telling of all there is, while it goes on trying; None: nothing."""

    def arrivals(self) -> AsyncIterator[Arrival]:
        """The events as they come; closing the iterator ends the source and what it holds."""

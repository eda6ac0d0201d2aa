"""Events that steps tell of, as the tool ``event.emit`` needs them."""

from dataclasses import dataclass
from typing import Protocol

from flows.values import Json


@dataclass(frozen=True, kw_only=True)
class EmittedEvent:
    """What a step tells of: ``type`` says what has happened, ``id`` tells it from all else that its flow tells of."""

    type: str
    id: str
    subject: str | None
    data: Json


@dataclass(frozen=True, kw_only=True)
class KeptEmission:
    """An event that is kept as ``event``, for so many ``triggers``. ``duplicate``: it had been told of before."""

    event: str
    source: str
    triggers: int
    duplicate: bool


class EventOutlet(Protocol):
    """Keeps events for the triggers that are for them."""

    async def emit(self, run_id: str, event: EmittedEvent) -> KeptEmission:
        """Keep what a run tells of, once for each ``id``; part of the caller's transaction.

        Raises:
            ToolError: it isn't right, or there is too much of it.
        """

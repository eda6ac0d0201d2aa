"""What came in, and what became of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from engine.records import Page

if TYPE_CHECKING:
    from engine.deliveries import Accepted, Delivery, DeliveryStatus


class EventUseCases(Protocol):
    """What came in, and what became of it."""

    async def events(
        self, *, flow: str | None, status: "DeliveryStatus | None", limit: int, cursor: str | None = None
    ) -> Page["Accepted"]:
        """The events that came in, the newest first, with what became of each; see :mod:`engine.events`."""

    async def event(self, event: str) -> "Accepted":
        """The event of an id, or of enough of its beginning, or of a delivery; raises InvalidCallError."""

    async def redrive(self, event: str) -> Sequence["Delivery"]:
        """Try what is dead of an event once more; raises InvalidCallError where nothing is."""

    async def redrive_flow(self, flow: str) -> Sequence["Delivery"]:
        """Try all that is dead of a flow once more; raises InvalidCallError where it isn't in service."""

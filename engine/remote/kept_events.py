"""What came in, and what became of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from engine.records import Page
from engine.remote import records
from engine.remote.calling import Calling

if TYPE_CHECKING:
    from engine.deliveries import Accepted, Delivery, DeliveryStatus


class EventCalls(Calling):
    """What came in, and what became of it."""

    async def events(
        self, *, flow: str | None, status: "DeliveryStatus | None", limit: int, cursor: str | None = None
    ) -> "Page[Accepted]":
        query = {"flow": flow, "status": status, "limit": limit, "cursor": cursor}
        page = await self._client.call("GET", "/events", query=query)
        return Page(items=tuple(records.accepted(one) for one in page["items"]), next=page["next"])

    async def event(self, event: str) -> "Accepted":
        return records.accepted(await self._client.call("GET", f"/events/{quote(event, safe='')}"))

    async def redrive(self, event: str) -> "Sequence[Delivery]":
        done = await self._client.call("POST", f"/events/{quote(event, safe='')}/redrive")
        return [records.delivery(one) for one in done["items"]]

    async def redrive_flow(self, flow: str) -> "Sequence[Delivery]":
        done = await self._client.call("POST", f"/flows/{quote(flow, safe='')}/redrive")
        return [records.delivery(one) for one in done["items"]]

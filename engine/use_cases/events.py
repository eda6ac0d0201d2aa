"""What came in, and what became of it."""

from collections.abc import Sequence

from engine.deliveries import Accepted, Delivery, DeliveryStatus
from engine.events import Events
from engine.records import Page
from engine.use_cases.acting import Acting


class EventUseCases(Acting):
    """What came in, and what became of it."""

    async def events(
        self, *, flow: str | None, status: DeliveryStatus | None, limit: int, cursor: str | None = None
    ) -> Page[Accepted]:
        self._may("events.read")
        return await (await self._events()).list(flow=flow, status=status, limit=limit, cursor=cursor)

    async def event(self, event: str) -> Accepted:
        self._may("events.read")
        return await (await self._events()).find(event)

    async def redrive(self, event: str) -> Sequence[Delivery]:
        self._may("events.redrive")
        store = await self._parts.store()
        async with store.transaction():
            dead = await (await self._events()).redrive(event)
            await self._record(store, "event.redrive", "event", dead[0].event_id, {"deliveries": len(dead)})
        return dead

    async def redrive_flow(self, flow: str) -> Sequence[Delivery]:
        self._may("events.redrive", flow=flow)
        store = await self._parts.store()
        async with store.transaction():
            dead = await (await self._events()).redrive_flow(flow)
            if dead:
                await self._record(store, "event.redrive", "flow", flow, {"deliveries": len(dead)})
        return dead

    async def _events(self) -> Events:
        return Events(await self._parts.store(), self._workspace, self._reach)

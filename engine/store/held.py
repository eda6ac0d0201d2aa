"""Deliveries that wait for something besides their time: pending, and due only once they are released."""

from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, select, update

from engine.deliveries import DeliveryStatus, HeldDelivery
from engine.store.database import Database
from engine.store.tables import DeliveryTable, EventTable
from engine.store.types import UtcDateTime
from flows.values import Json

_DELIVERY = DeliveryTable.__table__
_EVENT = EventTable.__table__
_IS_HELD = (_DELIVERY.c.status == DeliveryStatus.PENDING.value) & _DELIVERY.c.due_at.is_(None)
_HELD = (
    select(_DELIVERY.c.id, _DELIVERY.c.event_id, _EVENT.c.key, _EVENT.c.data)
    .join_from(_DELIVERY, _EVENT, _DELIVERY.c.event_id == _EVENT.c.id)
    .where(
        _IS_HELD,
        _DELIVERY.c.workspace == bindparam("of_workspace"),
        _DELIVERY.c.flow == bindparam("of_flow"),
        _DELIVERY.c.trigger_id == bindparam("of_trigger"),
    )
    .order_by(_DELIVERY.c.id)
)
_RETELL = (
    update(_EVENT).where(_EVENT.c.id == bindparam("this")).values(data=bindparam("given", type_=_EVENT.c.data.type))
)
_RELEASE = (
    update(_DELIVERY)
    .where(_DELIVERY.c.id == bindparam("this"), _IS_HELD)
    .values(due_at=bindparam("now", type_=UtcDateTime()))
)


class Held:
    """The held deliveries of all workspaces. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, workspace: str, flow: str, trigger_id: str) -> tuple[HeldDelivery, ...]:
        """Those of a trigger, the oldest first."""
        whose = {"of_workspace": workspace, "of_flow": flow, "of_trigger": trigger_id}
        return tuple(HeldDelivery(**dict(row._mapping)) for row in await self._database.rows(_HELD, whose))  # noqa: SLF001

    async def retell(self, held: HeldDelivery, data: Mapping[str, Json]) -> None:
        """Change what the event tells, which nobody has seen yet."""
        await self._database.execute(_RETELL, {"this": held.event_id, "given": dict(data)})

    async def release(self, held: HeldDelivery) -> None:
        """Have it delivered."""

        def write(connection: Connection) -> None:
            connection.execute(_RELEASE, {"this": held.id, "now": datetime.now(UTC)})

        await self._database.write(write)

"""Events that came in, and for each trigger that each one concerns a delivery: what became of it there."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BindParameter, Connection, Row, Select, bindparam, func, insert, select, update
from ulid import ULID

from engine.deliveries import (
    Accepted,
    Delivery,
    DeliveryStatus,
    KeptEvent,
    NewEvent,
    Recipient,
    TriggerPosition,
)
from engine.reach import ALL, Reach
from engine.records import Page
from engine.store.database import Database, upsert_into
from engine.store.errors import AlreadyFinishedError, UnknownRecordError
from engine.store.reach import within
from engine.store.tables import DEFAULT_WORKSPACE, DeliveryTable, EventTable, TriggerStateTable
from engine.store.types import UtcDateTime, error_from_json, error_to_json
from flows.contracts import StepError

_EVENT = EventTable.__table__
_DELIVERY = DeliveryTable.__table__
_STATE = TriggerStateTable.__table__

_THIS = _DELIVERY.c.id == bindparam("this")
_PENDING = DeliveryStatus.PENDING.value
_GIVEN = tuple(NewEvent.__dataclass_fields__)
_INSERT_DELIVERIES = insert(_DELIVERY)
_SAME = (
    (_EVENT.c.workspace == bindparam("of_workspace"))
    & (_EVENT.c.origin == bindparam("of_origin"))
    & (_EVENT.c.key == bindparam("of_key"))
)
_SELECT_SAME = select(_EVENT).where(_SAME)
_REPEAT = (
    update(_EVENT).where(_SAME).values(repeats=_EVENT.c.repeats + 1, repeated_at=bindparam("now", type_=UtcDateTime()))
)
_KEPT = tuple(KeptEvent.__dataclass_fields__)
_OF_EVENT = select(_DELIVERY).where(_DELIVERY.c.event_id == bindparam("event")).order_by(_DELIVERY.c.id)
_END = update(_DELIVERY).where(_THIS, _DELIVERY.c.status == _PENDING)
_THESE: BindParameter[Any] = bindparam("these", expanding=True)
_DUE = (
    select(_DELIVERY.c.id)
    .where(_DELIVERY.c.status == _PENDING, _DELIVERY.c.due_at <= bindparam("now", type_=UtcDateTime()))
    .order_by(_DELIVERY.c.due_at, _DELIVERY.c.id)
    .limit(bindparam("at_most"))
    .with_for_update(skip_locked=True)
)
_CLAIM = update(_DELIVERY).where(_DELIVERY.c.id.in_(_THESE)).values(due_at=bindparam("until", type_=UtcDateTime()))
_DELIVERIES = select(_DELIVERY).where(_DELIVERY.c.id.in_(_THESE))
_EVENTS = select(_EVENT).where(_EVENT.c.id.in_(_THESE))
_NEXT_DUE = select(func.min(_DELIVERY.c.due_at, type_=UtcDateTime())).where(_DELIVERY.c.status == _PENDING)
_POSTPONE = _END.values(attempts=_DELIVERY.c.attempts + 1)
_REDRIVE = update(_DELIVERY).where(_THIS, _DELIVERY.c.status == DeliveryStatus.DEAD.value)
_STATUS = select(_DELIVERY.c.status).where(_THIS)
_POSITION = select(_STATE).where(
    _STATE.c.workspace == bindparam("of_workspace"),
    _STATE.c.flow == bindparam("of_flow"),
    _STATE.c.trigger_id == bindparam("of_trigger"),
)
_MOVE = update(_STATE).where(
    _STATE.c.workspace == bindparam("of_workspace"),
    _STATE.c.flow == bindparam("of_flow"),
    _STATE.c.trigger_id == bindparam("of_trigger"),
    _STATE.c.moves == bindparam("from_moves"),
)


class MovedError(Exception):
    """Another engine has moved the trigger meanwhile: what was to be accepted with the move is not accepted."""


class Events:
    """The events of all workspaces and their deliveries. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def accept(
        self, event: NewEvent, recipients: Sequence[Recipient], *, move: TriggerPosition | None = None
    ) -> Accepted:
        """Keep an event and a pending delivery for each recipient: once this returns, it is not lost.

        An event with the key of an earlier one of the same workspace and origin is that one: nothing is added, and
        what became of it is given. ``move`` is where the trigger that made the event stands after it, kept with it.

        Raises:
            MovedError: the trigger no longer stands where ``move`` comes from.
        """
        (accepted,) = await self.accept_all([(event, recipients)], move=move)
        return accepted

    async def accept_all(
        self, events: Sequence[tuple[NewEvent, Sequence[Recipient]]], *, move: TriggerPosition | None = None
    ) -> tuple[Accepted, ...]:
        """Keep several events, all of them or none; see :meth:`accept`."""

        def write(connection: Connection) -> tuple[Accepted, ...]:
            if move is not None:
                _move(connection, move)
            return tuple(_accept(connection, event, recipients) for event, recipients in events)

        return await self._database.write(write)

    async def claim(self, *, now: datetime, until: datetime, limit: int) -> tuple[tuple[Delivery, KeptEvent], ...]:
        """Pending deliveries that are due, the oldest first, each with its event.

        Nobody else gets them before ``until``, unless they are postponed. Who claimed them and dies loses nothing:
        they are due again then.
        """

        def write(connection: Connection) -> tuple[tuple[Delivery, KeptEvent], ...]:
            ids = connection.scalars(_DUE, {"now": now, "at_most": limit}).all()
            if not ids:
                return ()
            connection.execute(_CLAIM, {"these": ids, "until": until})
            rows = connection.execute(_DELIVERIES, {"these": ids}).all()
            events = connection.execute(_EVENTS, {"these": list({row.event_id for row in rows})}).all()
            by_id = {row.id: _event(row) for row in events}
            return tuple(
                (_delivery(row), by_id[row.event_id]) for row in sorted(rows, key=lambda row: ids.index(row.id))
            )

        return await self._database.write(write)

    async def next_due(self) -> datetime | None:
        """When the next pending delivery is due; None where there is none."""
        rows = await self._database.rows(_NEXT_DUE)
        due: datetime | None = rows[0][0]
        return due

    async def end(
        self,
        delivery_id: str,
        status: DeliveryStatus,
        *,
        reason: str | None = None,
        error: StepError | None = None,
        run_id: str | None = None,
    ) -> None:
        """End a pending delivery for good. With the creation of its run in one transaction, the run starts once.

        Raises:
            UnknownRecordError: there is no such delivery.
            AlreadyFinishedError: it has ended before; it stays as it is.
        """
        if status is DeliveryStatus.PENDING:
            raise ValueError("pending doesn't end a delivery")
        values = {
            "status": status.value,
            "reason": reason,
            "error": error_to_json(error),
            "run_id": run_id,
            "due_at": None,
            "ended_at": datetime.now(UTC),
        }
        await self._change(delivery_id, _END, values)

    async def postpone(self, delivery_id: str, *, due_at: datetime, error: StepError) -> None:
        """Note that a pending delivery could not start its run, and when to try again.

        Raises:
            UnknownRecordError: there is no such delivery.
            AlreadyFinishedError: it has ended before.
        """
        await self._change(delivery_id, _POSTPONE, {"due_at": due_at, "error": error_to_json(error)})

    async def redrive(self, delivery_id: str, *, flow_version_id: str, now: datetime) -> None:
        """Make a dead delivery pending again, for the version that its flow has now.

        Raises:
            UnknownRecordError: there is no such delivery.
            AlreadyFinishedError: it isn't dead.
        """
        values = {
            "status": _PENDING,
            "flow_version_id": flow_version_id,
            "attempts": 0,
            "due_at": now,
            "reason": None,
            "error": None,
            "ended_at": None,
        }
        await self._change(delivery_id, _REDRIVE, values)

    async def get(self, event_id: str) -> Accepted:
        """An event by its whole id and what became of it.

        Raises:
            UnknownRecordError: there is none.
        """

        def read(connection: Connection) -> Accepted | None:
            row = connection.execute(select(_EVENT).where(_EVENT.c.id == event_id)).one_or_none()
            return None if row is None else _with_deliveries(connection, row, duplicate=False)

        found = await self._database.read(read)
        if found is None:
            raise UnknownRecordError(f"there is no event {event_id!r}", fix="see the ids with: stepbox events list")
        return found

    async def find(self, prefix: str, *, workspace: str = DEFAULT_WORKSPACE, reach: Reach = ALL) -> tuple[str, ...]:
        """The ids of the events whose id, or that of one of their deliveries, begins so; several, where there are.

        Where not all flows are within reach, only events that have a delivery to one that is.
        """
        some = 10
        reached = within(reach, _DELIVERY.c.flow)
        has_one = select(_DELIVERY.c.id).where(_DELIVERY.c.event_id == _EVENT.c.id, *reached).exists()

        def read(connection: Connection) -> tuple[str, ...]:
            found: dict[str, None] = {}
            in_events = (_EVENT, _EVENT.c.id, [has_one] if reached else [])
            for table, event_id, also in (in_events, (_DELIVERY, _DELIVERY.c.event_id, reached)):
                begins = func.substr(table.c.id, 1, len(prefix)) == prefix
                query = select(event_id).where(table.c.workspace == workspace, begins, *also).limit(some)
                found |= dict.fromkeys(connection.scalars(query))
            return tuple(found)

        return await self._database.read(read)

    async def list(
        self,
        *,
        workspace: str = DEFAULT_WORKSPACE,
        flow: str | None = None,
        status: DeliveryStatus | None = None,
        limit: int = 50,
        cursor: str | None = None,
        reach: Reach = ALL,
    ) -> Page[Accepted]:
        """The newest events first, with their deliveries: those that have one to that flow, and of that status.

        Where not all flows are within reach, only events that have such a delivery to one that is.
        """
        query: Select[Any] = select(_EVENT).where(_EVENT.c.workspace == workspace)
        if flow is not None or status is not None or not reach.is_all:
            wanted = select(_DELIVERY.c.id).where(_DELIVERY.c.event_id == _EVENT.c.id, *within(reach, _DELIVERY.c.flow))
            wanted = wanted if flow is None else wanted.where(_DELIVERY.c.flow == flow)
            wanted = wanted if status is None else wanted.where(_DELIVERY.c.status == status.value)
            query = query.where(wanted.exists())
        if cursor is not None:
            query = query.where(_EVENT.c.id < cursor)

        def read(connection: Connection) -> Page[Accepted]:
            rows = connection.execute(query.order_by(_EVENT.c.id.desc()).limit(limit + 1)).all()
            items = tuple(_with_deliveries(connection, row, duplicate=False) for row in rows[:limit])
            return Page(items=items, next=items[-1].event.id if len(rows) > limit else None)

        return await self._database.read(read)

    async def deliveries(
        self,
        *,
        workspace: str = DEFAULT_WORKSPACE,
        flow: str | None = None,
        status: DeliveryStatus | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Delivery]:
        """The newest deliveries first; ``cursor`` is the ``next`` of the page before."""
        query: Select[Any] = select(_DELIVERY).where(_DELIVERY.c.workspace == workspace)
        if flow is not None:
            query = query.where(_DELIVERY.c.flow == flow)
        if status is not None:
            query = query.where(_DELIVERY.c.status == status.value)
        if cursor is not None:
            query = query.where(_DELIVERY.c.id < cursor)
        rows = await self._database.rows(query.order_by(_DELIVERY.c.id.desc()).limit(limit + 1))
        items = tuple(_delivery(row) for row in rows[:limit])
        return Page(items=items, next=items[-1].id if len(rows) > limit else None)

    async def counts(self, *statuses: DeliveryStatus) -> Mapping[DeliveryStatus, int]:
        """How many deliveries there are, by status; only of these where some are given, which an index has."""
        query = select(_DELIVERY.c.status, func.count()).group_by(_DELIVERY.c.status)
        if statuses:
            query = query.where(_DELIVERY.c.status.in_([each.value for each in statuses]))
        rows = await self._database.rows(query)
        return {DeliveryStatus(status): count for status, count in rows}

    async def position(self, workspace: str, flow: str, trigger_id: str) -> TriggerPosition | None:
        """Where a trigger stands; None where it has made no event yet."""
        rows = await self._database.rows(_POSITION, _of(workspace, flow, trigger_id))
        if not rows:
            return None
        return TriggerPosition(
            workspace=workspace, flow=flow, trigger_id=trigger_id, moves=rows[0].moves, value=rows[0].position
        )

    async def move(self, position: TriggerPosition) -> None:
        """Keep where a trigger stands, without an event.

        Raises:
            MovedError: it no longer stands where this comes from.
        """
        await self._database.write(lambda connection: _move(connection, position))

    async def _change(self, delivery_id: str, change: Any, values: Mapping[str, Any]) -> None:
        def write(connection: Connection) -> None:
            if connection.execute(change, {**values, "this": delivery_id}).rowcount == 1:
                return
            status = connection.scalar(_STATUS, {"this": delivery_id})
            if status is None:
                raise UnknownRecordError(
                    f"there is no delivery {delivery_id!r}", fix="see the ids with: stepbox events list"
                )
            raise AlreadyFinishedError(f"delivery {delivery_id} is {status}")

        await self._database.write(write)


def _accept(connection: Connection, event: NewEvent, recipients: Sequence[Recipient]) -> Accepted:
    now = datetime.now(UTC)
    kept = KeptEvent(id=str(ULID()), received_at=now, **{name: getattr(event, name) for name in _GIVEN})
    added = upsert_into(connection, EventTable)
    values = {name: getattr(kept, name) for name in _KEPT}
    inserted = connection.execute(
        added.on_conflict_do_nothing(index_elements=["workspace", "origin", "key"]).returning(_EVENT.c.id),
        {**values, "causes": list(kept.causes)},
    ).all()
    if not inserted:
        same = {"of_workspace": event.workspace, "of_origin": event.origin, "of_key": event.key}
        connection.execute(_REPEAT, {**same, "now": now})
        return _with_deliveries(connection, connection.execute(_SELECT_SAME, same).one(), duplicate=True)
    deliveries = tuple(_new_delivery(kept, recipient, now) for recipient in recipients)
    if deliveries:
        connection.execute(_INSERT_DELIVERIES, [_values(delivery) for delivery in deliveries])
    return Accepted(event=kept, deliveries=deliveries, duplicate=False)


def _new_delivery(event: KeptEvent, recipient: Recipient, now: datetime) -> Delivery:
    pending = recipient.status is DeliveryStatus.PENDING
    return Delivery(
        id=str(ULID()),
        event_id=event.id,
        workspace=event.workspace,
        flow=recipient.flow,
        flow_version_id=recipient.flow_version_id,
        trigger_id=recipient.trigger_id,
        status=recipient.status,
        reason=recipient.reason,
        due_at=now if pending and not recipient.held else None,
        created_at=now,
        ended_at=None if pending else now,
    )


def _values(delivery: Delivery) -> dict[str, Any]:
    values = {name: getattr(delivery, name) for name in _DELIVERY.columns.keys()}  # noqa: SIM118 - no mapping
    return {**values, "status": delivery.status.value, "error": error_to_json(delivery.error)}


def _move(connection: Connection, position: TriggerPosition) -> None:
    now = datetime.now(UTC)
    whose = _of(position.workspace, position.flow, position.trigger_id)
    moved = {"position": position.value, "moves": position.moves + 1, "updated_at": now}
    if position.moves == 0:
        added = upsert_into(connection, TriggerStateTable)
        first = {"workspace": position.workspace, "flow": position.flow, "trigger_id": position.trigger_id, **moved}
        found = connection.execute(added.on_conflict_do_nothing().returning(_STATE.c.moves), first).all()
        if found:
            return
    elif connection.execute(_MOVE, {**whose, "from_moves": position.moves, **moved}).rowcount == 1:
        return
    raise MovedError(f"trigger {position.flow}/{position.trigger_id} has been moved")


def _of(workspace: str, flow: str, trigger_id: str) -> dict[str, str]:
    return {"of_workspace": workspace, "of_flow": flow, "of_trigger": trigger_id}


def _with_deliveries(connection: Connection, row: Row[Any], *, duplicate: bool) -> Accepted:
    deliveries = connection.execute(_OF_EVENT, {"event": row.id}).all()
    return Accepted(
        event=_event(row),
        deliveries=tuple(_delivery(delivery) for delivery in deliveries),
        duplicate=duplicate,
        repeats=row.repeats,
        repeated_at=row.repeated_at,
    )


def _event(row: Row[Any]) -> KeptEvent:
    values = {name: getattr(row, name) for name in _KEPT}
    return KeptEvent(**{**values, "causes": tuple(row.causes)})


def _delivery(row: Row[Any]) -> Delivery:
    values = dict(row._mapping)  # noqa: SLF001 - the same
    return Delivery(**{**values, "status": DeliveryStatus(row.status), "error": error_from_json(row.error)})

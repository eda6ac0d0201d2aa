"""What parked runs wait for, and when one is to be continued: ``run.due_at``.

It is set to now by whatever lets a run go on (a decision, an event, a request to cancel), also while it is still
driven, and cleared by who takes the run over; who parks it sets it to the next time at which something happens by
itself, where that is sooner. So nothing is missed that happens while a run is being parked; the price is that one is
sometimes continued for nothing. A run is continued once, since of those who try one takes it over. Of the runs that are
parts of one another, only the outermost is ever due. Times are the database's clock.

Locks are taken in one order: the names of :func:`_lock_events` and of who wakes, then runs, then what they wait for.
Who writes on a run for its engine holds the run before (:mod:`engine.store.fence`), which is in nobody's way here.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Row, Text, bindparam, cast, func, insert, or_, select, update

from engine.store import fence
from engine.store.approval_table import ApprovalTable
from engine.store.clock import now_of
from engine.store.database import Database
from engine.store.lineage import family_of, parent_of, root_of
from engine.store.locks import hold_name
from engine.store.tables import NO_ITEM, EventTable, RunTable
from engine.store.types import UtcDateTime, encode_json
from engine.store.wait_table import WaitTable
from flows.contracts import Awaited, Waited
from flows.values import Json, RunStatus

_RUN = RunTable.__table__
_WAIT = WaitTable.__table__
_APPROVAL = ApprovalTable.__table__
_EVENT = EventTable.__table__
_NOW = bindparam("now", type_=UtcDateTime())
_THIS = _RUN.c.id == bindparam("this")
_WORKSPACE = select(_RUN.c.workspace).where(_THIS)
_WAKE = update(_RUN).where(_THIS, _RUN.c.ended_at.is_(None)).values(due_at=_NOW)
_DUE = bindparam("due", type_=UtcDateTime())
_BE_DUE = update(_RUN).where(_THIS, or_(_RUN.c.due_at.is_(None), _RUN.c.due_at > _DUE)).values(due_at=_DUE)
_PLACE = (
    (_WAIT.c.run_id == bindparam("of_run"))
    & (_WAIT.c.step_id == bindparam("of_step"))
    & (_WAIT.c.item == bindparam("of_item"))
)
_GET = select(_WAIT).where(_PLACE)
_INSERT = insert(_WAIT)
_OPEN = _WAIT.c.ended_at.is_(None)
_AWAITED = (
    select(_WAIT.c.run_id)
    .where(_WAIT.c.workspace == _WORKSPACE.scalar_subquery(), _WAIT.c.pattern.is_not(None), _OPEN)
    .limit(1)
)
_END_DUE = update(_WAIT).where(_PLACE, _OPEN, _WAIT.c.until <= _NOW).values(ended_at=_NOW)
_END_DUE_OF_RUN = update(_WAIT).where(_WAIT.c.run_id == bindparam("run"), _OPEN, _WAIT.c.until <= _NOW)
_WITHDRAW = update(_WAIT).where(_WAIT.c.run_id == bindparam("run"), _OPEN).values(ended_at=_NOW)
_TAKE = (
    update(_WAIT)
    .where(_PLACE, _OPEN)
    .values(ended_at=_NOW, event_key=bindparam("taken_key"), event=bindparam("taken_event", type_=_WAIT.c.event.type))
)
_TIME_LENGTH: Final = 10
"""Characters at the beginning of an id that say when it was made, in milliseconds."""


class Fits(Protocol):
    """Whether an event is one that is waited for."""

    def __call__(self, awaited: Awaited, event: Mapping[str, Json]) -> bool: ...


class Waits:
    """The waits of all runs."""

    def __init__(self, database: Database, engine: str) -> None:
        self._database = database
        self._engine = engine

    async def look(self, run_id: str, step_id: str, awaited: Awaited, *, fits: Fits, item: int | None = None) -> Waited:
        """How the wait of a step (or item) stands; the first attempt says what for.

        A wait for an event takes also one that came after the run was created and before the wait began, the oldest
        that ``fits``; none that another step of the run has taken.

        Raises:
            LeaseLostError: ``engine`` doesn't drive the run.
        """
        place = {"of_run": run_id, "of_step": step_id, "of_item": NO_ITEM if item is None else item}

        def begin(connection: Connection) -> Waited:
            fence.hold(connection, run_id, self._engine)
            now = now_of(connection)
            if connection.execute(_GET, place).one_or_none() is None:
                connection.execute(_INSERT, _values(connection, place, awaited, now))
            connection.execute(_END_DUE, {**place, "now": now})
            return _waited(connection.execute(_GET, place).one())

        waited = await self._database.write(begin)
        if waited.ended_at is not None or awaited.event is None:
            return waited

        def look_back(connection: Connection) -> Waited:
            fence.hold(connection, run_id, self._engine)
            row = connection.execute(_GET, place).one()
            if row.ended_at is None:
                for event in connection.execute(_earlier(row)):
                    if fits(_awaited(row), event.data):
                        _take(connection, place, event.key, event.data)
                        break
            return _waited(connection.execute(_GET, place).one())

        # Who has kept an event and did not see this wait yet is let commit, so that the event is seen.
        await self._database.write(lambda connection: _lock_events(connection, _workspace(connection, run_id)))
        return await self._database.write(look_back)

    async def take(self, workspace: str, event: Mapping[str, Json], *, key: str | None, fits: Fits) -> int:
        """Give an event to all waits that it ``fits``; their runs are due. How many they are.

        Part of the transaction that keeps the event, and after that.
        """

        def take(connection: Connection) -> int:
            _lock_events(connection, workspace, shared=True)
            now = now_of(connection)
            query = select(_WAIT).where(
                _WAIT.c.workspace == workspace,
                _WAIT.c.pattern.is_not(None),
                _OPEN,
                or_(_WAIT.c.pattern == event.get("type"), _WAIT.c.pattern.contains("*")),
                or_(_WAIT.c.until.is_(None), _WAIT.c.until > now),
            )
            found = [row for row in connection.execute(query).all() if fits(_awaited(row), event)]
            if found:
                # Those who wake several runs, perhaps with one event after the other, do so one after the other.
                hold_name(connection, f"waking/{workspace}")
            for root, row in sorted((root_of(connection, row.run_id), row) for row in found):
                wake(connection, root, now)
                _take(connection, {"of_run": row.run_id, "of_step": row.step_id, "of_item": row.item}, key, event)
            return len(found)

        return await self._database.write(take)


def wake(connection: Connection, root: str, now: datetime) -> None:
    """Have a run continued: now, or where it is driven, once it is parked."""
    connection.execute(_WAKE, {"this": root, "now": now})


def be_due(connection: Connection, run_id: str, *, within: float | None) -> None:
    """Have a run that has just been parked continued once something that it waits for happens by itself.

    Or once its time is over, ``within`` so many seconds, or that of a run that is a part of it.
    """
    if within is not None:
        over = now_of(connection) + timedelta(seconds=max(within, 0.0))
        connection.execute(_BE_DUE, {"this": run_id, "due": over})
    if parent_of(connection, run_id) is not None:
        return
    family = family_of(connection, [run_id])
    part = select(func.min(_RUN.c.due_at, type_=UtcDateTime())).where(
        _RUN.c.id.in_(family), _RUN.c.status == RunStatus.WAITING.value
    )
    expires = select(func.min(_APPROVAL.c.expires_at, type_=UtcDateTime())).where(
        _APPROVAL.c.run_id.in_(family), _APPROVAL.c.decided_at.is_(None)
    )
    until = select(func.min(_WAIT.c.until, type_=UtcDateTime())).where(_WAIT.c.run_id.in_(family), _OPEN)
    for query in (expires, until, part):
        due = connection.scalar(query)
        if due is not None:
            connection.execute(_BE_DUE, {"this": run_id, "due": due})


def end_due(connection: Connection, run_id: str, now: datetime) -> None:
    """Note, before a run goes on, whose time is over: it isn't due for that again, even where no step asks."""
    connection.execute(_END_DUE_OF_RUN.values(ended_at=now), {"run": run_id, "now": now})


def withdraw_waits(connection: Connection, run_id: str, now: datetime) -> None:
    """End the waits of a run that has ended."""
    connection.execute(_WITHDRAW, {"run": run_id, "now": now})


def awaits_events(connection: Connection, run_id: str) -> bool:
    """Whether any run of a run's workspace waits for an event."""
    return connection.execute(_AWAITED, {"this": run_id}).first() is not None


def _lock_events(connection: Connection, workspace: str, *, shared: bool = False) -> None:
    """Keep those who accept events (``shared``) apart from a step that begins to wait."""
    hold_name(connection, f"events/{workspace}", shared=shared)


def _take(connection: Connection, place: Mapping[str, Any], key: str | None, event: Mapping[str, Json]) -> None:
    taken = {"taken_key": key, "taken_event": dict(event), "now": now_of(connection)}
    connection.execute(_TAKE, {**place, **taken})


def _earlier(wait: Row[Any]) -> Any:
    """A SELECT of the events that a wait may take and that came before it began, the oldest first."""
    taken = select(_WAIT.c.event_key).where(
        _WAIT.c.run_id == wait.run_id, _WAIT.c.step_id != wait.step_id, _WAIT.c.event_key.is_not(None)
    )
    query = select(_EVENT.c.key, _EVENT.c.data).where(
        _EVENT.c.workspace == wait.workspace,
        _EVENT.c.id > wait.run_id[:_TIME_LENGTH].ljust(len(wait.run_id), "Z"),
        _EVENT.c.kind == "event",
        or_(_EVENT.c.key.is_(None), _EVENT.c.key.not_in(taken)),
    )
    # Not by the databases' functions for JSON: PostgreSQL's refuse documents with a NUL character in a text.
    begins, some, _rest = wait.pattern.partition("*")
    written = encode_json({"type": begins})[1 : -2 if some else -1]
    return query.where(cast(_EVENT.c.data, Text).contains(written, autoescape=True)).order_by(_EVENT.c.id)


def _workspace(connection: Connection, run_id: str) -> str:
    return str(connection.execute(_WORKSPACE, {"this": run_id}).scalar_one())


def _values(connection: Connection, place: Mapping[str, Any], awaited: Awaited, now: datetime) -> dict[str, Any]:
    until = awaited.until
    if awaited.seconds is not None:
        until = now + timedelta(seconds=awaited.seconds)
    return {
        "run_id": place["of_run"],
        "step_id": place["of_step"],
        "item": place["of_item"],
        "workspace": _workspace(connection, place["of_run"]),
        "since": now,
        "until": until,
        "pattern": awaited.event,
        "condition": awaited.match,
        "names": dict(awaited.names) or None,
    }


def _awaited(row: Row[Any]) -> Awaited:
    return Awaited(event=row.pattern, match=row.condition, names=row.names or {})


def _waited(row: Row[Any]) -> Waited:
    return Waited(since=row.since, until=row.until, ended_at=row.ended_at, event=row.event)

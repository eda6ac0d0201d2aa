"""The slots of flows with ``concurrency``: how many runs of one flow and key go on at once.

There is no counter that could go wrong: a run holds a slot from its start to its end, also while it waits, by its row.
On PostgreSQL who counts holds a lock for the flow and key until the transaction ends. SQLite has one writer.
"""

from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, select, update

from engine.records import Slot
from engine.store.errors import SlotsTakenError
from engine.store.locks import hold_name
from engine.store.tables import UNFINISHED, RunTable, WorkspaceTable
from engine.store.types import UtcDateTime
from flows.values import RunStatus

_RUN = RunTable.__table__
_HOLDING: Final = (RunStatus.RUNNING.value, RunStatus.WAITING.value)
_QUEUED: Final = RunStatus.QUEUED.value
_SAME = (
    (_RUN.c.workspace == bindparam("of_workspace"))
    & (_RUN.c.flow == bindparam("of_flow"))
    & (_RUN.c.slot == bindparam("of_slot"))
)
_COUNT_HOLDING = select(func.count()).where(_SAME, _RUN.c.status.in_(_HOLDING))
_COUNT_UNFINISHED = select(func.count()).where(_SAME, _RUN.c.status.in_(UNFINISHED))
_NEWEST_FIRST = select(_RUN.c.id).where(_SAME, _RUN.c.status.in_(UNFINISHED)).order_by(_RUN.c.id.desc())
_IN_ANY_WORKSPACE = _RUN.c.workspace.in_(select(WorkspaceTable.__table__.c.id))
"""All runs, found by the indices that begin with the workspace."""
_IS_QUEUED = _IN_ANY_WORKSPACE & (_RUN.c.status == _QUEUED)
_HELD = (
    select(_RUN.c.workspace, _RUN.c.flow, _RUN.c.slot, func.count().label("runs"))
    .where(
        _IN_ANY_WORKSPACE,
        _RUN.c.status.in_(_HOLDING),
        _RUN.c.slot.is_not(None),
    )
    .group_by(_RUN.c.workspace, _RUN.c.flow, _RUN.c.slot)
    .subquery("held")
)
_IN_LINE = (
    select(
        _RUN.c.id,
        _RUN.c.workspace,
        _RUN.c.flow,
        _RUN.c.slot,
        _RUN.c.slot_limit,
        func.row_number()
        .over(partition_by=(_RUN.c.workspace, _RUN.c.flow, _RUN.c.slot), order_by=_RUN.c.id)
        .label("place"),
    )
    .where(_IS_QUEUED, _RUN.c.slot.is_not(None))
    .subquery("in_line")
)
QUEUED_FOR_A_SLOT = (
    select(_IN_LINE.c.id)
    .join(
        _HELD,
        (_HELD.c.workspace == _IN_LINE.c.workspace)
        & (_HELD.c.flow == _IN_LINE.c.flow)
        & (_HELD.c.slot == _IN_LINE.c.slot),
        isouter=True,
    )
    .where(func.coalesce(_HELD.c.runs, 0) + _IN_LINE.c.place <= _IN_LINE.c.slot_limit)
    .order_by(_IN_LINE.c.id)
    .limit(bindparam("at_most"))
)
"""The ids of the queued runs of all workspaces that have a slot, behind those that were queued before them: the
oldest first, ``:at_most`` of them. It looks once at each queued run that needs a slot."""
ASK_TO_CANCEL = (
    update(_RUN)
    .where(_RUN.c.id == bindparam("this"))
    .values(
        cancel_requested_at=func.coalesce(_RUN.c.cancel_requested_at, bindparam("now", type_=UtcDateTime())),
        due_at=bindparam("now", type_=UtcDateTime()),
    )
)
"""For a run that is in the way; asked once more, its end is not cut short."""


def check_room(connection: Connection, workspace: str, flow: str, slot: Slot, *, starts: bool) -> None:
    """Refuse one run more. ``starts`` says that it would begin now, so that those that are queued don't count.

    Raises:
        SlotsTakenError: as many runs as may go on at once do.
    """
    of = _lock(connection, workspace, flow, slot.key)
    taken = connection.execute(_COUNT_HOLDING if starts else _COUNT_UNFINISHED, of).scalar_one()
    if taken >= slot.limit:
        raise SlotsTakenError(flow, slot.limit)


def in_the_way(connection: Connection, workspace: str, flow: str, slot: Slot) -> list[str]:
    """The runs that have to end for there to be room for one more: all but as many of the newest as may stay."""
    of = _lock(connection, workspace, flow, slot.key)
    return list(connection.scalars(_NEWEST_FIRST, of).all()[slot.limit - 1 :])


def _lock(connection: Connection, workspace: str, flow: str, key: str) -> dict[str, Any]:
    hold_name(connection, f"{workspace}/{flow}/{key}")
    return {"of_workspace": workspace, "of_flow": flow, "of_slot": key}

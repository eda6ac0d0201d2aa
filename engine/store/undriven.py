"""The runs that wait for an engine: those that are queued, those to be cancelled, and those that are parked and due."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, bindparam, select

from engine.store.clock import now_of
from engine.store.database import Database
from engine.store.slots import QUEUED_FOR_A_SLOT
from engine.store.tables import RunTable, WorkspaceTable
from engine.store.types import UtcDateTime
from flows.values import RunStatus

_RUN = RunTable.__table__
_OF_WORKSPACE = _RUN.c.workspace == bindparam("of_workspace")
_IN_ANY_WORKSPACE = _RUN.c.workspace.in_(select(WorkspaceTable.__table__.c.id))
"""All runs, found by the indices that begin with the workspace."""
_FREE = _RUN.c.owner.is_(None) & _RUN.c.status.in_((RunStatus.QUEUED.value, RunStatus.WAITING.value))
_QUEUED = (
    select(_RUN.c.id)
    .where(_IN_ANY_WORKSPACE, _RUN.c.status == RunStatus.QUEUED.value, _RUN.c.slot.is_(None))
    .order_by(_RUN.c.id)
    .limit(bindparam("at_most"))
)
_CANCELLED = (
    select(_RUN.c.id)
    .where(
        _RUN.c.cancel_requested_at.is_not(None),
        _RUN.c.parent_id.is_(None),
        _RUN.c.ended_at.is_(None),
        _FREE,
    )
    .order_by(_RUN.c.id)
)
_DUE = (
    select(_RUN.c.id, _RUN.c.due_at)
    .where(
        _RUN.c.due_at <= bindparam("until", type_=UtcDateTime()),
        _RUN.c.status == RunStatus.WAITING.value,
        _RUN.c.parent_id.is_(None),
    )
    .order_by(_RUN.c.due_at, _RUN.c.id)
    .limit(bindparam("at_most"))
)
_DUE_OF_WORKSPACE = _DUE.where(_OF_WORKSPACE)


@dataclass(frozen=True, kw_only=True)
class UndrivenRuns:
    """The ids of runs: ``cancelled`` and ``queued`` ones, the oldest first; those ``due``, in how many seconds."""

    cancelled: tuple[str, ...]
    due: tuple[tuple[str, float], ...]
    queued: tuple[str, ...]


class Undriven:
    """The runs of all workspaces that no engine drives. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, *, limit: int, due_limit: int, within: float) -> UndrivenRuns:
        """What :meth:`cancelled`, :meth:`due` and :meth:`queued` give, in one read."""
        return await self._database.read(
            lambda connection: UndrivenRuns(
                cancelled=_cancelled(connection),
                due=_due(connection, None, due_limit, within),
                queued=_queued(connection, limit),
            )
        )

    async def cancelled(self) -> tuple[str, ...]:
        """The ids of the queued and waiting runs that are to be cancelled, for an engine to bring them to their end."""
        return await self._database.read(_cancelled)

    async def due(
        self, *, workspace: str | None = None, limit: int = 100, within: float = 0.0
    ) -> tuple[tuple[str, float], ...]:
        """The ids of parked runs that can go on ``within`` so many seconds, and in how many; the longest due first.

        Only those of a workspace where one is given.
        """
        return await self._database.read(lambda connection: _due(connection, workspace, limit, within))

    async def queued(self, *, limit: int = 100) -> tuple[str, ...]:
        """The ids of the runs that wait to be driven, the oldest first; not those that their flow has no slot for."""
        return await self._database.read(lambda connection: _queued(connection, limit))


def _cancelled(connection: Connection) -> tuple[str, ...]:
    return tuple(connection.scalars(_CANCELLED))


def _due(connection: Connection, workspace: str | None, limit: int, within: float) -> tuple[tuple[str, float], ...]:
    now = now_of(connection)
    values = {"at_most": limit, "until": now + timedelta(seconds=within)}
    if workspace is None:
        found = connection.execute(_DUE, values)
    else:
        found = connection.execute(_DUE_OF_WORKSPACE, {**values, "of_workspace": workspace})
    return tuple((row.id, (row.due_at - now).total_seconds()) for row in found)


def _queued(connection: Connection, limit: int) -> tuple[str, ...]:
    values = {"at_most": limit}
    queued = [*connection.scalars(_QUEUED, values), *connection.scalars(QUEUED_FOR_A_SLOT, values)]
    return tuple(sorted(queued)[:limit])

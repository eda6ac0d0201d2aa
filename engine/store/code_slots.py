"""The slots for code: how many runs of code go on at once in a workspace, whichever engines make them.

There is no counter that could go wrong: an attempt of code has a slot, or waits for one, by its own row, from its begin
to its end. One of an engine that has ended counts no more once the lease of its run is over, or somebody has taken that
over. On PostgreSQL who counts holds a lock for the workspace until the transaction ends. SQLite has one writer.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, literal_column, null, select, update

from engine.store.clock import now_of
from engine.store.database import Database
from engine.store.locks import hold_name
from engine.store.tables import RunTable, StepRunTable
from engine.store.types import UtcDateTime
from flows.values import StepStatus
from steps.sandbox.owner import is_dead

_STEP = StepRunTable.__table__.alias("code")
_RUN = RunTable.__table__.alias("code_run")
# Written out, not bound: only so can a planner prove that the partial index has all of these.
_RUNNING: ColumnElement[str] = literal_column(f"'{StepStatus.RUNNING.value}'")
_GOES_ON = (_STEP.c.status == _RUNNING) & _STEP.c.code_workspace.is_not(None)
_NOW = bindparam("now", type_=UtcDateTime())
_OWNED = _STEP.join(_RUN, _RUN.c.id == _STEP.c.run_id)


def _in_workspace(now: ColumnElement[Any]) -> ColumnElement[bool]:
    return _GOES_ON & (_STEP.c.code_workspace == bindparam("code_of")) & (_RUN.c.lease_until > now)


_THOSE = (
    select(_STEP.c.id, _STEP.c.code_began_at, _RUN.c.owner)
    .select_from(_OWNED)
    .where(_in_workspace(_NOW))
    .order_by(_STEP.c.id)
)
_COUNT_WAITING: Final = (
    select(func.count()).select_from(_OWNED).where(_GOES_ON, _STEP.c.code_began_at.is_(None), _RUN.c.lease_until > _NOW)
)
_BEGIN = (
    update(StepRunTable.__table__)
    .where(StepRunTable.__table__.c.id.in_(bindparam("granted", expanding=True)))
    .values(code_began_at=_NOW)
)


@dataclass(frozen=True, kw_only=True)
class CodeSlot:
    """What an attempt of code takes: one of ``limit`` slots of the workspace."""

    workspace: str
    limit: int


def lock(connection: Connection, workspace: str) -> None:
    """Keep others from taking slots of the workspace until the transaction ends."""
    hold_name(connection, f"code/{workspace}")


def begin_if_free(dialect: str) -> ColumnElement[Any]:
    """For the INSERT of an attempt of ``:code_of``: now, where fewer than ``:code_limit`` go on or wait; else NULL."""
    now: ColumnElement[Any] = _NOW
    if dialect == "postgresql":
        now = func.clock_timestamp(type_=UtcDateTime())
    taken = select(func.count()).select_from(_OWNED).where(_in_workspace(now)).scalar_subquery()
    return case((taken < bindparam("code_limit"), now), else_=null())


class CodeSlots:
    """The slots of all workspaces. Every method is one transaction."""

    def __init__(self, database: Database, engine: str) -> None:
        self._database = database
        self._engine = engine

    async def grant(self, slot: CodeSlot, mine: Collection[str]) -> frozenset[str]:
        """Let those of the attempts of these ids begin whose turn it is: whoever waits longest goes first.

        What an engine on this machine has left, that has certainly ended, is passed over at once.
        """

        def grant(connection: Connection) -> frozenset[str]:
            lock(connection, slot.workspace)
            now = now_of(connection)
            rows = connection.execute(_THOSE, {"code_of": slot.workspace, "now": now}).all()
            dead = {owner for owner in {row.owner for row in rows} - {self._engine} if owner and is_dead(owner)}
            living = [row for row in rows if row.owner not in dead]
            free = slot.limit - sum(row.code_began_at is not None for row in living)
            waiting = [row.id for row in living if row.code_began_at is None]
            granted = frozenset(waiting[: max(free, 0)]).intersection(mine)
            if granted:
                connection.execute(_BEGIN, {"granted": sorted(granted), "now": now})
            return granted

        return await self._database.write(grant)

    async def waiting(self) -> int:
        """How many attempts wait for a slot now, in all workspaces."""

        def count(connection: Connection) -> int:
            return connection.execute(_COUNT_WAITING, {"now": now_of(connection)}).scalar_one()

        return await self._database.read(count)

"""Which engine drives which run."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, bindparam, func, null, or_, select, update

from engine.records import Slot
from engine.store import fence
from engine.store.approvals import expire
from engine.store.calls import OUTCOME_UNKNOWN, end_calls
from engine.store.clock import now_of
from engine.store.database import Database
from engine.store.errors import AlreadyFinishedError, RunDrivenError, UnknownRecordError
from engine.store.slots import check_room
from engine.store.steps import end_attempts
from engine.store.tables import UNFINISHED, RunTable
from engine.store.types import UtcDateTime
from engine.store.waits import end_due
from flows.contracts import StepError, StepResult
from flows.values import RunStatus, StepStatus

LEASE: Final = timedelta(seconds=30)
"""How long an engine keeps its runs without a heartbeat."""

ENGINE_ENDED: Final = "engine_ended"
"""The error code of attempts that had no end when another engine took their run over; their status is ``killed``."""
ENGINE_STOPPED: Final = "engine_stopped"
"""That of attempts which an engine cut off itself, to let go of their run before it ended; ``killed`` too."""

_TABLE = RunTable.__table__
_NOW = bindparam("now", type_=UtcDateTime())
_TAKE = {
    "owner": bindparam("engine"),
    "lease_until": bindparam("until", type_=UtcDateTime()),
}
_OWN = select(_TABLE.c.id).where(_TABLE.c.owner == bindparam("engine")).order_by(_TABLE.c.id)
_RENEW = (
    update(_TABLE)
    .where(_TABLE.c.id.in_(_OWN.with_for_update(key_share=True)))
    .values(lease_until=_TAKE["lease_until"])
    .returning(_TABLE.c.id)
)
_TAKE_OVER = (
    update(_TABLE)
    .where(
        _TABLE.c.id == bindparam("this"),
        _TABLE.c.status.in_(UNFINISHED),
        or_(
            _TABLE.c.owner.is_(None),
            _TABLE.c.owner == bindparam("dead"),
            (_TABLE.c.owner != bindparam("engine")) & (_TABLE.c.lease_until < _NOW),
        ),
    )
    .values(
        **_TAKE,
        status=RunStatus.RUNNING.value,
        started_at=func.coalesce(_TABLE.c.started_at, _NOW),
        due_at=null(),
    )
)
_CHILDREN = select(_TABLE.c.id).where(
    _TABLE.c.parent_id.in_(bindparam("parents", expanding=True)), _TABLE.c.status.in_(UNFINISHED)
)
_TAKE_CHILDREN = (
    update(_TABLE)
    .where(_TABLE.c.parent_id.in_(bindparam("parents", expanding=True)), _TABLE.c.status.in_(UNFINISHED))
    .values(**_TAKE, status=RunStatus.RUNNING.value, due_at=null())
    .returning(_TABLE.c.id)
)
_LET_GO = {"owner": null(), "lease_until": null()}
_OURS = (_TABLE.c.owner == bindparam("engine")) & (_TABLE.c.status == RunStatus.RUNNING.value)
_RELEASE = update(_TABLE).where(_TABLE.c.id == bindparam("this"), _OURS).values(**_LET_GO)
_RELEASE_CHILDREN = (
    update(_TABLE)
    .where(_TABLE.c.parent_id.in_(bindparam("parents", expanding=True)), _OURS)
    .values(**_LET_GO)
    .returning(_TABLE.c.id)
)
_SLOT = select(_TABLE.c.workspace, _TABLE.c.flow, _TABLE.c.status, _TABLE.c.slot, _TABLE.c.slot_limit).where(
    _TABLE.c.id == bindparam("this")
)
_STATE = select(_TABLE.c.status, _TABLE.c.owner).where(_TABLE.c.id == bindparam("this"))
_LOST = StepResult(
    status=StepStatus.KILLED,
    error=StepError(code=ENGINE_ENDED, message="the engine that drove the run ended during the attempt"),
)
_STOPPED = StepResult(
    status=StepStatus.KILLED,
    error=StepError(code=ENGINE_STOPPED, message="the engine was stopped during the attempt, which is made again"),
)
_CALL_LOST = StepError(
    code=OUTCOME_UNKNOWN, message="the engine that made the call ended before it knew what the call came to"
)


class Leases:
    """The leases of one engine. Every method is one transaction; times are the database's where that is a server's."""

    def __init__(self, database: Database, engine: str) -> None:
        self._database = database
        self._engine = engine

    async def renew(self) -> frozenset[str]:
        """Prolong the leases of all runs that the engine drives; gives their ids. What is missing was taken over."""

        def renew(connection: Connection) -> frozenset[str]:
            until = now_of(connection) + LEASE
            return frozenset(connection.scalars(_RENEW, {"engine": self._engine, "until": until}))

        return await self._database.write(renew)

    async def take_over(self, run_id: str, *, dead: str | None = None) -> None:
        """Drive a run from now on that no engine does: none ever did, its lease has expired, or its owner is ``dead``.

        That may be this engine, where it had to let go of the run.
        With it come the runs that it started. Of two engines that try, one does it. Attempts without an end are ended
        as killed (``engine_ended``), tool calls without one as of unknown outcome.

        Raises:
            UnknownRecordError: there is no such run.
            AlreadyFinishedError: it has ended.
            RunDrivenError: an engine drives it, or has just taken it over.
            SlotsTakenError: it is queued, and its flow has no slot for it yet.
        """

        def take(connection: Connection) -> None:
            now = now_of(connection)
            values = {"engine": self._engine, "until": now + LEASE}
            begun = _check_slot(connection, run_id)
            fence.seize(connection, [run_id])
            if connection.execute(_TAKE_OVER, {**values, "this": run_id, "now": now, "dead": dead}).rowcount != 1:
                raise _refusal(connection, run_id)
            taken = [run_id]
            while taken:
                for each in taken:
                    _end_open(connection, each, now, _LOST)
                    if begun:
                        end_due(connection, each, now)
                        expire(connection, each, now)
                _seize_children(connection, taken)
                taken = list(connection.scalars(_TAKE_CHILDREN, {**values, "parents": taken}))

        await self._database.write(take)

    async def release(self, run_id: str) -> bool:
        """Let go of a run that goes on, and of those that it started, for any engine to take over at once.

        What has no end is ended as in :meth:`take_over`, attempts as ``engine_stopped``. False, and nothing is
        changed, where the engine doesn't drive the run.
        """

        def release(connection: Connection) -> bool:
            now = now_of(connection)
            fence.seize(connection, [run_id])
            if connection.execute(_RELEASE, {"this": run_id, "engine": self._engine}).rowcount != 1:
                return False
            released = [run_id]
            while released:
                for each in released:
                    _end_open(connection, each, now, _STOPPED)
                _seize_children(connection, released)
                children = {"parents": released, "engine": self._engine}
                released = list(connection.scalars(_RELEASE_CHILDREN, children))
            return True

        return await self._database.write(release)


def _end_open(connection: Connection, run_id: str, now: datetime, attempts: StepResult) -> None:
    """End what its engine has left open of a run."""
    end_attempts(connection, run_id, now, attempts)
    end_calls(connection, run_id, now, _CALL_LOST)


def _seize_children(connection: Connection, run_ids: list[str]) -> None:
    fence.seize(connection, connection.scalars(_CHILDREN, {"parents": run_ids}).all())


def _check_slot(connection: Connection, run_id: str) -> bool:
    """Whether the run has begun before; raises where it hasn't, and has no slot."""
    run = connection.execute(_SLOT, {"this": run_id}).one_or_none()
    if run is not None and run.slot is not None and run.status == RunStatus.QUEUED.value:
        slot = Slot(key=run.slot, limit=run.slot_limit, policy="queue")
        check_room(connection, run.workspace, run.flow, slot, starts=True)
    return run is not None and run.status != RunStatus.QUEUED.value


def _refusal(connection: Connection, run_id: str) -> Exception:
    state = connection.execute(_STATE, {"this": run_id}).one_or_none()
    if state is None:
        return UnknownRecordError(f"there is no run {run_id!r}", fix="see the ids with: stepbox runs list")
    if state.status not in UNFINISHED:
        return AlreadyFinishedError(f"run {run_id} has already {state.status}; a finished run is never changed")
    return RunDrivenError(run_id, state.owner)

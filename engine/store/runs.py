"""Runs."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    Row,
    Update,
    bindparam,
    case,
    func,
    insert,
    null,
    or_,
    select,
    update,
)
from sqlmodel import col
from ulid import ULID

from engine.reach import ALL, Reach
from engine.records import LOCAL, ArtifactRecord, FlowVersion, Page, Run, RunSummary, Slot, StepRun
from engine.store import fence, slots
from engine.store.approvals import withdraw
from engine.store.artifacts import artifacts_of
from engine.store.calls import end_calls
from engine.store.clock import now_of
from engine.store.database import Database
from engine.store.errors import AlreadyFinishedError, AmbiguousIdError, LeaseLostError, UnknownRecordError
from engine.store.leases import LEASE
from engine.store.lineage import root_of
from engine.store.reach import within
from engine.store.run_audit import record_start
from engine.store.run_ends import RunEnds
from engine.store.steps import attempts_of, end_attempts
from engine.store.tables import DEFAULT_WORKSPACE, UNFINISHED, RunTable, WorkspaceTable
from engine.store.types import UtcDateTime, error_from_json, error_to_json
from engine.store.waits import be_due, withdraw_waits
from flows.contracts import StepError
from flows.values import Json, RunStatus

_ID_LENGTH = 26
_SUMMARY = (
    "id",
    "workspace",
    "principal",
    "flow",
    "flow_version_id",
    "status",
    "trigger",
    "error",
    "parent_id",
    "created_at",
    "started_at",
    "ended_at",
    "owner",
    "lease_until",
)
_TABLE = RunTable.__table__
SUMMARY_COLUMNS = tuple(_TABLE.c[name] for name in _SUMMARY)

_THIS = _TABLE.c.id == bindparam("this")
_NOW = bindparam("now", type_=UtcDateTime())
_INSERT = insert(_TABLE)
_ENGINE: BindParameter[str] = bindparam("engine")
_FREE = _TABLE.c.owner.is_(None) & _TABLE.c.status.in_((RunStatus.QUEUED.value, RunStatus.WAITING.value))
_UNFINISHED = update(_TABLE).where(_THIS, _TABLE.c.status.in_(UNFINISHED), or_(_TABLE.c.owner == _ENGINE, _FREE))
_FINISH = _UNFINISHED.values(owner=null(), lease_until=null())
_PARK = _UNFINISHED.values(status=RunStatus.WAITING.value, owner=null(), lease_until=null())
_START = _UNFINISHED.values(
    status=RunStatus.RUNNING.value,
    started_at=func.coalesce(_TABLE.c.started_at, bindparam("now", type_=UtcDateTime())),
    owner=_ENGINE,
    lease_until=bindparam("until", type_=UtcDateTime()),
)
_CANCEL_QUEUED = (
    update(_TABLE)
    .where(_THIS, _TABLE.c.status == RunStatus.QUEUED.value)
    .values(
        status=RunStatus.CANCELLED.value,
        error=bindparam("error", type_=_TABLE.c.error.type),
        ended_at=bindparam("now", type_=UtcDateTime()),
    )
)
_REQUEST_CANCEL = (
    update(_TABLE)
    .where(_THIS, _TABLE.c.status.in_(UNFINISHED))
    .values(
        cancel_requested_at=func.coalesce(_TABLE.c.cancel_requested_at, _NOW),
        cut_short_at=case(
            (_TABLE.c.cancel_requested_at.is_not(None), func.coalesce(_TABLE.c.cut_short_at, _NOW)), else_=null()
        ),
        due_at=_NOW,
    )
)
_IN_ANY_WORKSPACE = _TABLE.c.workspace.in_(select(WorkspaceTable.__table__.c.id))
"""All runs, found by the indices that begin with the workspace."""
_TO_CANCEL = _TABLE.c.cancel_requested_at.is_not(None) & _TABLE.c.parent_id.is_(None)
_ASKED_TO_CANCEL = select(_TABLE.c.id, _TABLE.c.cut_short_at).where(_TABLE.c.owner == bindparam("engine"), _TO_CANCEL)
_GET = select(_TABLE).where(_THIS)
_SUMMARY_OF = select(*SUMMARY_COLUMNS).where(_THIS)
_STATUS = select(_TABLE.c.status).where(_THIS)


class Runs:
    """The runs of all workspaces. Every method is one transaction.

    ``engine`` drives the runs that it starts. Their end raises :class:`engine.store.errors.LeaseLostError` where
    another one drives them now.
    """

    def __init__(self, database: Database, engine: str) -> None:
        self._database = database
        self._engine = engine
        self.ends = RunEnds(database)

    async def create(
        self,
        version: FlowVersion,
        inputs: Mapping[str, Json],
        *,
        trigger: Mapping[str, Json] | None = None,
        parent_id: str | None = None,
        running: bool = False,
        subflows: Mapping[str, str] | None = None,
        directories: Sequence[str] = (),
        slot: Slot | None = None,
        principal: str = LOCAL,
    ) -> Run:
        """Record a run of ``version``: queued, or, where it starts at once, running and driven by this engine.

        ``principal`` is the name of the one whom it acts for.

        Where the caller is cancelled meanwhile, so is the run: nobody else knows of it. ``slot`` is what it takes of
        its flow's concurrency; by the policy ``cancel_running`` :meth:`make_room` comes before.

        Raises:
            SlotsTakenError: there is no slot for a run that starts at once, or for one that is not to be queued.
        """
        now = datetime.now(UTC)
        run = Run(
            id=str(ULID()),
            workspace=version.workspace,
            principal=principal,
            flow=version.flow,
            flow_version_id=version.id,
            status=RunStatus.RUNNING if running else RunStatus.QUEUED,
            inputs=dict(inputs),
            trigger=dict(trigger or {}),
            parent_id=parent_id,
            created_at=now,
            started_at=now if running else None,
            owner=self._engine if running else None,
            subflows=dict(subflows or {}),
            directories=tuple(directories),
        )
        values = {
            "id": run.id,
            "workspace": run.workspace,
            "principal": run.principal,
            "flow": run.flow,
            "flow_version_id": run.flow_version_id,
            "status": run.status.value,
            "inputs": run.inputs,
            "trigger": run.trigger,
            "parent_id": run.parent_id,
            "created_at": run.created_at,
            "started_at": run.started_at,
            "owner": run.owner,
            "subflows": run.subflows or None,
            "directories": list(run.directories) or None,
            "slot": None if slot is None else slot.key,
            "slot_limit": None if slot is None else slot.limit,
        }

        def insert_run(connection: Connection) -> datetime | None:
            if slot is not None and (running or slot.policy == "skip"):
                slots.check_room(connection, run.workspace, run.flow, slot, starts=slot.policy != "skip")
            until = now_of(connection) + LEASE if running else None
            connection.execute(_INSERT, {**values, "lease_until": until})
            if parent_id is None:
                record_start(connection, run, version)
            return until

        try:
            run = replace(run, lease_until=await self._database.write(insert_run))
        except asyncio.CancelledError:
            error = StepError(code="run_cancelled", message="the run was cancelled before it began")
            await self.finish(run.id, RunStatus.CANCELLED, error=error)
            raise
        return run

    async def make_room(self, workspace: str, flow: str, slot: Slot) -> None:
        """Have the oldest runs of a flow and key cancelled, so that there is a slot for one more once they end."""
        async with self._database.transaction():
            for run_id in await self._database.write(
                lambda connection: slots.in_the_way(connection, workspace, flow, slot)
            ):
                await self._end_queued(run_id, "a later run of the flow has taken its place")
                await self._database.execute(slots.ASK_TO_CANCEL, {"this": run_id, "now": datetime.now(UTC)})

    async def start(self, run_id: str) -> None:
        """Mark a queued or waiting run as running, driven by this engine. One started before keeps its first start.

        Raises:
            UnknownRecordError: there is no such run.
            AlreadyFinishedError: the run has ended.
            LeaseLostError: another engine drives it.
        """
        await self._change(
            run_id,
            _START,
            lambda connection: {"now": datetime.now(UTC), "until": now_of(connection) + LEASE},
        )

    async def park(self, run_id: str, *, within: float | None = None) -> None:
        """Let go of a run that can't go on yet, until somebody takes it over: see :mod:`engine.store.waits`.

        It is due in ``within`` seconds at the latest, since its time is over then; None: it may wait for ever.

        Raises:
            AlreadyFinishedError: it has ended.
            LeaseLostError: another engine drives it.
        """
        await self._change(
            run_id, _PARK, lambda _connection: {}, lambda connection: be_due(connection, run_id, within=within)
        )

    async def finish(
        self,
        run_id: str,
        status: RunStatus,
        *,
        output: Json = None,
        error: StepError | None = None,
        granted: Sequence[Mapping[str, Json]] = (),
    ) -> None:
        """End a run for good. Attempts and tool calls of it that have no end get one with it: they were cut off.

        ``granted`` is what the audit tells of its steps (:func:`engine.grants.granted`).

        Raises:
            UnknownRecordError: there is no such run.
            AlreadyFinishedError: the run has ended before; it stays as it is.
            LeaseLostError: another engine drives it.
        """
        if status.value in UNFINISHED:
            raise ValueError(f"{status} doesn't end a run")
        now = datetime.now(UTC)
        values = {"status": status.value, "output": output, "error": error_to_json(error), "ended_at": now}

        def end_what_is_open(connection: Connection) -> None:
            end_attempts(connection, run_id, now)
            end_calls(connection, run_id, now)
            withdraw(connection, run_id, now)
            withdraw_waits(connection, run_id, now)

        change = self._changing(run_id, _FINISH, lambda _connection: values, end_what_is_open)
        await self.ends.make(run_id, status, change, granted)

    async def children(self, run_id: str) -> tuple[RunSummary, ...]:
        """The runs that a run started, the oldest first."""
        query = select(*SUMMARY_COLUMNS).where(col(RunTable.parent_id) == run_id).order_by(col(RunTable.id))
        return tuple(summary(row) for row in await self._database.rows(query))

    async def count(self, status: RunStatus) -> int:
        """How many runs of all workspaces have that status."""
        query = select(func.count().label("runs")).where(_IN_ANY_WORKSPACE, col(RunTable.status) == status.value)
        return int((await self._database.rows(query))[0].runs)

    async def cancel_queued(self, run_id: str) -> bool:
        """End a run as cancelled that nobody drives yet; False where somebody does, or it has ended."""
        return await self._end_queued(run_id, "the run was cancelled before it began")

    async def _end_queued(self, run_id: str, why: str) -> bool:
        error = error_to_json(StepError(code="run_cancelled", message=why))
        values = {"this": run_id, "now": datetime.now(UTC), "error": error}
        return await self.ends.make(
            run_id, RunStatus.CANCELLED, lambda connection: connection.execute(_CANCEL_QUEUED, values).rowcount == 1
        )

    async def request_cancel(self, run_id: str) -> None:
        """Ask whoever drives the run to cancel it; asked for the second time, to cut its end short.

        One that waits is due.

        Raises:
            UnknownRecordError: there is no such run.
            AlreadyFinishedError: it has ended.
        """

        def change(connection: Connection) -> None:
            if connection.execute(_REQUEST_CANCEL, {"this": run_id, "now": datetime.now(UTC)}).rowcount != 1:
                raise _ended(connection, run_id)

        await self._database.write(change)

    async def asked_to_cancel(self) -> Mapping[str, bool]:
        """Of the runs that this engine drives those that are to be cancelled; True where that was asked twice.

        Subflows are not among them: they end with the run that they are a part of.
        """
        rows = await self._database.rows(_ASKED_TO_CANCEL, {"engine": self._engine})
        return {row.id: row.cut_short_at is not None for row in rows}

    async def get(self, run_id: str) -> Run:
        """The run of that full id.

        Raises:
            UnknownRecordError: there is none.
        """
        rows = await self._database.rows(_GET, {"this": run_id})
        if not rows:
            raise _unknown(run_id)
        return _run(rows[0])

    async def begun(self, run_id: str) -> tuple[Run, tuple[StepRun, ...], tuple[ArtifactRecord, ...]]:
        """A run with its attempts, in the order in which they began, and what they left.

        Raises:
            UnknownRecordError: there is none.
        """

        def read(connection: Connection) -> tuple[Run, tuple[StepRun, ...], tuple[ArtifactRecord, ...]]:
            row = connection.execute(_GET, {"this": run_id}).one_or_none()
            if row is None:
                raise _unknown(run_id)
            return _run(row), attempts_of(connection, run_id), artifacts_of(connection, run_id)

        return await self._database.read(read)

    async def summary(self, run_id: str) -> RunSummary:
        """The run of that full id, without its inputs and its output. Raises :class:`UnknownRecordError`."""
        rows = await self._database.rows(_SUMMARY_OF, {"this": run_id})
        if not rows:
            raise _unknown(run_id)
        return summary(rows[0])

    async def root(self, run_id: str) -> RunSummary:
        """The run that a run is a part of in the end, or that itself. Raises :class:`UnknownRecordError`."""
        return await self.summary(await self._database.read(lambda connection: root_of(connection, run_id)))

    async def find(self, prefix: str, *, workspace: str = DEFAULT_WORKSPACE, reach: Reach = ALL) -> Run:
        """The one run whose id begins with ``prefix``, in either case, of the flows within reach.

        Raises:
            UnknownRecordError: there is none.
            AmbiguousIdError: there are several; the message names some.
        """
        start = prefix.strip().upper()
        if not start or len(start) > _ID_LENGTH or not start.isalnum() or not start.isascii():
            raise _unknown(prefix)
        query = (
            select(RunTable.__table__)
            .where(
                col(RunTable.workspace) == workspace,
                col(RunTable.id).between(start.ljust(_ID_LENGTH, "0"), start.ljust(_ID_LENGTH, "Z")),
                *within(reach, _TABLE.c.flow),
            )
            .order_by(col(RunTable.id).desc())
            .limit(4)
        )
        rows = await self._database.rows(query)
        if not rows:
            raise _unknown(prefix)
        if len(rows) > 1:
            raise AmbiguousIdError("run", prefix, [row.id for row in rows])
        return _run(rows[0])

    async def list(
        self,
        *,
        workspace: str | None = DEFAULT_WORKSPACE,
        flow: str | None = None,
        status: RunStatus | None = None,
        limit: int = 50,
        cursor: str | None = None,
        reach: Reach = ALL,
    ) -> Page[RunSummary]:
        """The newest runs first, those of flows within reach; ``cursor`` is the ``next`` of the page before.

        Those of all workspaces where that is None.
        """
        whose = _IN_ANY_WORKSPACE if workspace is None else col(RunTable.workspace) == workspace
        query = select(*SUMMARY_COLUMNS).where(whose, *within(reach, _TABLE.c.flow))
        if flow is not None:
            query = query.where(col(RunTable.flow) == flow)
        if status is not None:
            query = query.where(col(RunTable.status) == status.value)
        if cursor is not None:
            query = query.where(col(RunTable.id) < cursor)
        query = query.order_by(col(RunTable.id).desc()).limit(limit + 1)
        rows = await self._database.rows(query)
        items = tuple(summary(row) for row in rows[:limit])
        return Page(items=items, next=items[-1].id if len(rows) > limit else None)

    async def _change(
        self,
        run_id: str,
        unfinished: Update,
        values: Callable[[Connection], Mapping[str, Any]],
        also: Callable[[Connection], None] = lambda _connection: None,
    ) -> None:
        await self._database.write(self._changing(run_id, unfinished, values, also))

    def _changing(
        self,
        run_id: str,
        unfinished: Update,
        values: Callable[[Connection], Mapping[str, Any]],
        also: Callable[[Connection], None],
    ) -> Callable[[Connection], bool]:
        def change(connection: Connection) -> bool:
            fence.seize(connection, [run_id])
            given = {**values(connection), "this": run_id, "engine": self._engine}
            if connection.execute(unfinished, given).rowcount != 1:
                raise _ended(connection, run_id)
            also(connection)
            return True

        return change


def _ended(connection: Connection, run_id: str) -> Exception:
    """Why a run could not be changed."""
    status = connection.scalar(_STATUS, {"this": run_id})
    if status is None:
        return _unknown(run_id)
    if status in UNFINISHED:
        return LeaseLostError(run_id)
    return AlreadyFinishedError(f"run {run_id} has already ended as {status}; a finished run is never changed")


def _unknown(run_id: str) -> UnknownRecordError:
    return UnknownRecordError(f"there is no run {run_id!r}", fix="see the ids with: stepbox runs list")


def summary(row: Row[Any]) -> RunSummary:
    """The columns of ``SUMMARY_COLUMNS`` as a value."""
    return RunSummary(**_common(row))


def _run(row: Row[Any]) -> Run:
    return Run(
        **_common(row),
        inputs=row.inputs,
        output=row.output,
        subflows=row.subflows or {},
        directories=tuple(row.directories or ()),
        cancel_requested_at=row.cancel_requested_at,
    )


def _common(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "workspace": row.workspace,
        "principal": row.principal,
        "flow": row.flow,
        "flow_version_id": row.flow_version_id,
        "status": RunStatus(row.status),
        "trigger": row.trigger,
        "error": error_from_json(row.error),
        "parent_id": row.parent_id,
        "created_at": row.created_at,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "owner": row.owner,
        "lease_until": row.lease_until,
    }

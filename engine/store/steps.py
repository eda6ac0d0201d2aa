"""Attempts of steps."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, func, insert, null, select, update
from sqlalchemy.exc import IntegrityError
from ulid import ULID

from engine.records import ArtifactRecord, StepRun, StepSummary
from engine.store import code_slots, fence
from engine.store.artifacts import add_artifacts, artifacts_of
from engine.store.code_slots import CodeSlot
from engine.store.database import Database
from engine.store.errors import AlreadyFinishedError, UnknownRecordError
from engine.store.tables import NO_ITEM, StepRunTable
from engine.store.types import Payload, UtcDateTime, error_from_json, error_to_json
from flows.contracts import Artifact, StepError, StepResult
from flows.values import StepStatus

_TABLE = StepRunTable.__table__
_THIS = _TABLE.c.id == bindparam("this")
_INSERT = insert(_TABLE).values(run_id=fence.driven_run())
_INSERT_CODE = {
    dialect: insert(_TABLE)
    .values(
        run_id=fence.driven_run(),
        code_workspace=bindparam("code_of"),
        code_began_at=code_slots.begin_if_free(dialect),
    )
    .returning(_TABLE.c.code_began_at)
    for dialect in ("sqlite", "postgresql")
}
_KEEP = insert(_TABLE)
_FINISH = update(_TABLE).where(_THIS, _TABLE.c.status == StepStatus.RUNNING.value, fence.is_driven(_TABLE))
_STATE = select(_TABLE.c.status, _TABLE.c.run_id).where(_THIS)
_CUT_OFF = StepResult(
    status=StepStatus.CANCELLED,
    error=StepError(code="cancelled", message="the run ended before the attempt did"),
)
_END_OPEN = (
    update(_TABLE)
    .where(_TABLE.c.run_id == bindparam("run"), _TABLE.c.status == StepStatus.RUNNING.value)
    .values(
        status=bindparam("ended_as"),
        error=bindparam("why", type_=Payload()),
        ended_at=bindparam("now", type_=UtcDateTime()),
    )
)
_OF_RUN = select(_TABLE).where(_TABLE.c.run_id == bindparam("run")).order_by(_TABLE.c.id)
_CHANGED = (
    select(*(column for column in _TABLE.columns if column.name != "result"), null().label("result"))
    .where(
        _TABLE.c.run_id == bindparam("run"),
        func.coalesce(_TABLE.c.ended_at, _TABLE.c.code_began_at, _TABLE.c.started_at)
        >= bindparam("since", type_=UtcDateTime()),
    )
    .order_by(_TABLE.c.id)
)
_OF_STEPS = _OF_RUN.where(_TABLE.c.item == NO_ITEM)
_EXECUTED = _TABLE.c.attempt > 0
_WAITING = _TABLE.c.status == StepStatus.WAITING.value
_QUEUED = (
    (_TABLE.c.status == StepStatus.RUNNING.value)
    & _TABLE.c.code_workspace.is_not(None)
    & _TABLE.c.code_began_at.is_(None)
)
_TALLIES = (
    select(
        _TABLE.c.step_id,
        func.min(_TABLE.c.id).label("id"),
        func.min(_TABLE.c.started_at, type_=UtcDateTime()).label("started_at"),
        func.sum(case((_EXECUTED & ~_WAITING, 1), else_=0)).label("attempts"),
        func.sum(case((_TABLE.c.status == StepStatus.RUNNING.value, 1), else_=0)).label("running"),
        func.sum(case((_WAITING, 1), else_=0)).label("waiting"),
        func.max(case((_WAITING, _TABLE.c.id))).label("last_waiting"),
        func.sum(case((_QUEUED, 1), else_=0)).label("queued"),
        func.sum(case((_EXECUTED, _TABLE.c.tool_calls), else_=0)).label("tool_calls"),
        func.sum(case((_EXECUTED, _TABLE.c.egress), else_=0)).label("egress"),
    )
    .where(_TABLE.c.run_id == bindparam("run"))
    .group_by(_TABLE.c.step_id)
    .order_by(func.min(_TABLE.c.id))
)


class Steps:
    """The attempts of the steps of all runs. Every method is one transaction.

    What writes raises :class:`engine.store.errors.LeaseLostError` where ``engine`` doesn't drive the run.
    """

    def __init__(self, database: Database, engine: str) -> None:
        self._database = database
        self._engine = engine

    async def start(
        self,
        run_id: str,
        step_id: str,
        *,
        attempt: int = 1,
        item: int | None = None,
        policy: int | None = None,
        code: CodeSlot | None = None,
    ) -> StepRun:
        """Record that an attempt begins; ``attempt`` counts from 1, ``item`` from 0; ``policy`` is the one in force.

        One of ``code`` has its slot at once where one is free and nobody waits, else it is queued.

        Where the caller is cancelled meanwhile, so is the attempt: nobody else knows of it.
        """
        step = replace(_begun(run_id, step_id, attempt, item), policy=policy)
        try:
            if code is not None:
                return await self._start_code(step, code)
            await self.add(step)
        except asyncio.CancelledError:
            await self.finish(step.id, _CUT_OFF)
            raise
        return step

    async def _start_code(self, step: StepRun, code: CodeSlot) -> StepRun:
        values = {**_values(step, self._engine), "code_of": code.workspace, "code_limit": code.limit}

        def write(connection: Connection) -> datetime | None:
            code_slots.lock(connection, code.workspace)
            now = datetime.now(UTC)
            began: datetime | None = connection.scalar(_INSERT_CODE[connection.dialect.name], {**values, "now": now})
            return began

        try:
            began = await self._database.write(write)
        except IntegrityError as error:
            raise fence.lost(error, step.run_id) or error from None
        return replace(step, code_workspace=code.workspace, code_began_at=began)

    async def finish(self, step_run_id: str, result: StepResult) -> None:
        """End an attempt for good, and with it record the artifacts that it left.

        Raises:
            UnknownRecordError: there is no such attempt.
            AlreadyFinishedError: it has ended before; it stays as it is.
        """
        if result.status is StepStatus.RUNNING:
            raise ValueError("running doesn't end an attempt")
        now = datetime.now(UTC)
        values = {**_outcome(result), "ended_at": now, "this": step_run_id, "engine": self._engine}

        def change(connection: Connection) -> None:
            if connection.execute(_FINISH, values).rowcount == 1:
                add_artifacts(connection, step_run_id, result.artifacts, now)
                return
            state = connection.execute(_STATE, {"this": step_run_id}).one_or_none()
            if state is None:
                raise UnknownRecordError(f"there is no step attempt {step_run_id!r}")
            fence.hold(connection, state.run_id, self._engine)
            message = f"step attempt {step_run_id} has already ended as {state.status}; it is never changed"
            raise AlreadyFinishedError(message)

        await self._database.write(change)

    def over(
        self, run_id: str, step_id: str, result: StepResult, *, attempt: int = 1, item: int | None = None
    ) -> StepRun:
        """An attempt that is over as it begins, for :meth:`add`: a skipped step, a cached result."""
        begun = _begun(run_id, step_id, attempt, item)
        return begun.ended(result, begun.started_at)

    async def add(self, step: StepRun, artifacts: Sequence[Artifact] = ()) -> None:
        """Record an attempt that is over, with the artifacts that count as its own."""

        def write(connection: Connection) -> None:
            connection.execute(_INSERT, _values(step, self._engine))
            add_artifacts(connection, step.id, artifacts, step.started_at)

        try:
            await self._database.write(write)
        except IntegrityError as error:
            raise fence.lost(error, step.run_id) or error from None

    async def keep(self, run_id: str, ended: Sequence[tuple[StepRun, Sequence[Artifact]]]) -> None:
        """Record ends of another run's steps and items that hold for this one too, with what they left.

        In the transaction that makes the run, so that nobody drives it yet. They count as no execution of this run:
        their attempt is 0, and what they took is the other's.
        """
        now = datetime.now(UTC)
        ids = sorted(str(ULID()) for _each in ended)
        rows = [_kept(row, run_id, row_id, now) for row_id, (row, _left) in zip(ids, ended, strict=True)]

        def write(connection: Connection) -> None:
            if rows:
                connection.execute(_KEEP, rows)
            for row_id, (_row, left) in zip(ids, ended, strict=True):
                add_artifacts(connection, row_id, [replace(one, id=str(ULID())) for one in left], now)

        await self._database.write(write)

    async def list(self, run_id: str) -> tuple[StepRun, ...]:
        """All attempts of a run, in the order in which they began."""
        return await self._database.read(lambda connection: attempts_of(connection, run_id))

    async def changed(self, run_id: str, since: datetime) -> tuple[StepRun, ...]:
        """The attempts of a run that began or ended at ``since`` or later, without their results."""
        rows = await self._database.rows(_CHANGED, {"run": run_id, "since": since})
        return tuple(_step(row) for row in rows)

    async def summaries(self, run_id: str) -> tuple[StepSummary, ...]:
        """The steps of a run, in the order in which they began; of the items of a for-each only their numbers."""
        parameters = {"run": run_id}
        last_waits: dict[str, StepRun] = {}

        def read(
            connection: Connection,
        ) -> tuple[Sequence[Row[*tuple[Any, ...]]], dict[str, StepRun], tuple[ArtifactRecord, ...]]:
            rows = connection.execute(_OF_STEPS, parameters)
            last = {row.step_id: _step(row) for row in rows}
            tallies = connection.execute(_TALLIES, parameters).all()
            parked = [tally.last_waiting for tally in tallies if tally.last_waiting and tally.step_id not in last]
            if parked:
                waits = connection.execute(select(_TABLE).where(_TABLE.c.id.in_(parked)))
                last_waits.update({row.step_id: _step(row) for row in waits})
            return tallies, last, artifacts_of(connection, run_id)

        tallies, last, left = await self._database.read(read)
        artifacts: dict[str, list[Artifact]] = {}
        for record in left:
            if not record.superseded:
                artifacts.setdefault(record.step_id, []).append(record.artifact)
        return tuple(
            StepSummary(
                final=last.get(tally.step_id) or _under_way(run_id, tally, last_waits.get(tally.step_id)),
                attempts=tally.attempts,
                tool_calls=tally.tool_calls,
                egress=tally.egress,
                artifacts=tuple(artifacts.get(tally.step_id, ())),
                queued=tally.queued,
            )
            for tally in tallies
        )


def attempts_of(connection: Connection, run_id: str) -> tuple[StepRun, ...]:
    """All attempts of a run, in the order in which they began."""
    return tuple(_step(row) for row in connection.execute(_OF_RUN, {"run": run_id}))


def end_attempts(connection: Connection, run_id: str, now: datetime, outcome: StepResult = _CUT_OFF) -> None:
    """End the attempts of a run that have no end: as cancelled, unless ``outcome`` says otherwise."""
    values = {"ended_as": outcome.status.value, "why": error_to_json(outcome.error)}
    connection.execute(_END_OPEN, {**values, "run": run_id, "now": now})


def _begun(run_id: str, step_id: str, attempt: int, item: int | None) -> StepRun:
    return StepRun(
        id=str(ULID()),
        run_id=run_id,
        step_id=step_id,
        item=item,
        attempt=attempt,
        status=StepStatus.RUNNING,
        started_at=datetime.now(UTC),
    )


def _values(step: StepRun, engine: str) -> dict[str, Any]:
    return {
        "id": step.id,
        "of_run": step.run_id,
        "engine": engine,
        "step_id": step.step_id,
        "item": NO_ITEM if step.item is None else step.item,
        "attempt": step.attempt,
        **_outcome(step),
        "started_at": step.started_at,
        "ended_at": step.ended_at,
        "policy": step.policy,
    }


def _kept(row: StepRun, run_id: str, row_id: str, now: datetime) -> dict[str, Any]:
    outcome = StepResult(
        status=row.status, result=row.result, error=row.error, isolation=row.isolation, image=row.image
    )
    return {
        "id": row_id,
        "run_id": run_id,
        "step_id": row.step_id,
        "item": NO_ITEM if row.item is None else row.item,
        "attempt": 0,
        **_outcome(outcome),
        "started_at": now,
        "ended_at": now,
    }


def _under_way(run_id: str, tally: Row[Any], waits: StepRun | None) -> StepRun:
    """A for-each of which items have begun; it waits where none of them goes on, and one waits."""
    parked = tally.waiting and not tally.running
    error = StepError(code="waiting", message="items of it wait")
    if waits is not None and waits.error is not None:
        error = replace(waits.error, message=f"item {waits.item} {waits.error.message}")
    return StepRun(
        id=tally.id,
        run_id=run_id,
        step_id=tally.step_id,
        attempt=0,
        status=StepStatus.WAITING if parked else StepStatus.RUNNING,
        error=error if parked else None,
        started_at=tally.started_at,
    )


def _outcome(result: StepResult | StepRun) -> dict[str, Any]:
    return {
        "status": result.status.value,
        "result": result.result,
        "error": error_to_json(result.error),
        "isolation": result.isolation,
        "duration": result.duration,
        "tool_calls": result.tool_calls,
        "egress": result.egress,
        "peak_memory": result.peak_memory,
        "cpu_time": result.cpu_time,
        "image": result.image,
    }


def _step(row: Row[Any]) -> StepRun:
    return StepRun(
        id=row.id,
        run_id=row.run_id,
        step_id=row.step_id,
        item=None if row.item == NO_ITEM else row.item,
        attempt=row.attempt,
        status=StepStatus(row.status),
        result=row.result,
        error=error_from_json(row.error),
        isolation=row.isolation,
        duration=row.duration,
        tool_calls=row.tool_calls,
        egress=row.egress,
        peak_memory=row.peak_memory,
        cpu_time=row.cpu_time,
        image=row.image,
        started_at=row.started_at,
        ended_at=row.ended_at,
        policy=row.policy,
        code_workspace=row.code_workspace,
        code_began_at=row.code_began_at,
    )

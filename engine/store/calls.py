"""The journal of tool calls."""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, insert, select, true, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col
from ulid import ULID

from engine.records import ToolCall
from engine.store import fence
from engine.store.database import Database
from engine.store.errors import AlreadyFinishedError, UnknownRecordError
from engine.store.tables import NO_ITEM, StepRunTable, ToolCallTable
from engine.store.types import Payload, UtcDateTime, canonical_json, error_from_json, error_to_json
from flows.contracts import StepError
from flows.values import Json

_TABLE = ToolCallTable.__table__
_THIS = _TABLE.c.id == bindparam("this")
_INSERT = insert(_TABLE).values(run_id=fence.driven_run())
_FINISH = update(_TABLE).where(_THIS, _TABLE.c.ended_at.is_(None), fence.is_driven(_TABLE))
_KNOWN = select(_TABLE.c.run_id).where(_THIS)
OUTCOME_UNKNOWN: Final = "tool_outcome_unknown"
"""The error code of calls that had no end when their attempt, their run or their engine did."""
_CUT_OFF = StepError(code=OUTCOME_UNKNOWN, message="the run ended before the call did")
_END_OPEN = (
    update(_TABLE)
    .where(_TABLE.c.run_id == bindparam("run"), _TABLE.c.ended_at.is_(None))
    .values(error=bindparam("why", type_=Payload()), ended_at=bindparam("now", type_=UtcDateTime()), uncertain=true())
)
_ATTEMPT = StepRunTable.__table__
_OF_STEP = (
    _TABLE.c.run_id == bindparam("run"),
    _TABLE.c.step_id == bindparam("step"),
    _TABLE.c.item == bindparam("of"),
)
_EARLIER = select(_TABLE).where(*_OF_STEP, _TABLE.c.attempt < bindparam("before")).order_by(_TABLE.c.id)
_ATTEMPTS = select(_ATTEMPT.c.attempt, _ATTEMPT.c.started_at).where(
    _ATTEMPT.c.run_id == bindparam("run"),
    _ATTEMPT.c.step_id == bindparam("step"),
    _ATTEMPT.c.item == bindparam("of"),
    _ATTEMPT.c.attempt < bindparam("before"),
)


class Calls:
    """The tool calls of all runs. Every method is one transaction.

    What writes raises :class:`engine.store.errors.LeaseLostError` where ``engine`` doesn't drive the run.
    """

    def __init__(self, database: Database, engine: str) -> None:
        self._database = database
        self._engine = engine

    def new(
        self,
        run_id: str,
        step_id: str,
        tool: str,
        arguments: Json,
        *,
        attempt: int = 1,
        item: int | None = None,
        idempotency_key: str | None = None,
    ) -> ToolCall:
        """A call that begins now, not recorded yet. Its id is its idempotency key, unless it repeats one's."""
        call_id = str(ULID())
        return ToolCall(
            id=call_id,
            run_id=run_id,
            step_id=step_id,
            item=item,
            attempt=attempt,
            tool=tool,
            arguments=arguments,
            arguments_digest=arguments_digest(tool, arguments),
            idempotency_key=idempotency_key or call_id,
            started_at=datetime.now(UTC),
        )

    async def begin(
        self, run_id: str, step_id: str, tool: str, arguments: Json, *, attempt: int = 1, item: int | None = None
    ) -> ToolCall:
        """Record that a call begins, before it is made; see :meth:`new` and :meth:`open`."""
        call = self.new(run_id, step_id, tool, arguments, attempt=attempt, item=item)
        await self.open(call)
        return call

    async def open(self, call: ToolCall) -> None:
        """Record that a call begins, before it is made.

        Where the caller is cancelled meanwhile, the call has ended, without having been made.
        """
        try:
            await self._insert(call)
        except asyncio.CancelledError:
            error = StepError(code="cancelled", message="the attempt ended before the call was made")
            await self.finish(call.id, error=error)
            raise

    async def add(self, call: ToolCall, *, result: Json = None, error: StepError | None = None) -> None:
        """Record a call that is over: as :meth:`open` and :meth:`finish` together."""
        await self._insert(replace(call, result=result, error=error, ended_at=datetime.now(UTC)))

    async def finish(
        self, call_id: str, *, result: Json = None, error: StepError | None = None, uncertain: bool = False
    ) -> None:
        """Record how a call ended: with ``result``, or with ``error`` where that is given.

        ``uncertain``: in spite of the error the call may have done what it was to do.

        Raises:
            UnknownRecordError: there is no such call.
            AlreadyFinishedError: it has ended before; it stays as it is.
        """
        ended = {"result": result, "error": error_to_json(error), "uncertain": uncertain}
        ended |= {"ended_at": datetime.now(UTC), "this": call_id, "engine": self._engine}

        def change(connection: Connection) -> None:
            if connection.execute(_FINISH, ended).rowcount == 1:
                return
            run_id = connection.scalar(_KNOWN, {"this": call_id})
            if run_id is None:
                raise UnknownRecordError(f"there is no tool call {call_id!r}")
            fence.hold(connection, run_id, self._engine)
            raise AlreadyFinishedError(f"tool call {call_id} has already ended; it is never changed")

        await self._database.write(change)

    async def list(self, run_id: str, *, step_id: str | None = None, item: int | None = None) -> tuple[ToolCall, ...]:
        """The calls of a run in the order in which they began; of one step, or of one item of it, where given."""
        query = select(ToolCallTable.__table__).where(col(ToolCallTable.run_id) == run_id)
        if step_id is not None:
            query = query.where(col(ToolCallTable.step_id) == step_id)
        if item is not None:
            query = query.where(col(ToolCallTable.item) == item)
        return tuple(_call(row) for row in await self._database.rows(query.order_by(col(ToolCallTable.id))))

    async def earlier(
        self, run_id: str, step_id: str, *, item: int | None, attempt: int
    ) -> tuple[tuple[ToolCall, ...], Mapping[int, datetime]]:
        """The calls of the attempts before ``attempt``, as they began, and by attempt when it began."""
        values = {"run": run_id, "step": step_id, "of": NO_ITEM if item is None else item, "before": attempt}

        def read(connection: Connection) -> tuple[tuple[ToolCall, ...], Mapping[int, datetime]]:
            calls = tuple(_call(row) for row in connection.execute(_EARLIER, values))
            return calls, {row.attempt: row.started_at for row in connection.execute(_ATTEMPTS, values)}

        return await self._database.read(read)

    async def _insert(self, call: ToolCall) -> None:
        values = {
            "id": call.id,
            "of_run": call.run_id,
            "engine": self._engine,
            "step_id": call.step_id,
            "item": NO_ITEM if call.item is None else call.item,
            "attempt": call.attempt,
            "tool": call.tool,
            "arguments": call.arguments,
            "arguments_digest": call.arguments_digest,
            "idempotency_key": call.idempotency_key,
            "result": call.result,
            "error": error_to_json(call.error),
            "started_at": call.started_at,
            "ended_at": call.ended_at,
            "uncertain": call.uncertain,
        }
        try:
            await self._database.execute(_INSERT, values)
        except IntegrityError as error:
            raise fence.lost(error, call.run_id) or error from None


def end_calls(connection: Connection, run_id: str, now: datetime, why: StepError = _CUT_OFF) -> None:
    """End the calls of a run that have no end: nobody will hear of what they came to."""
    connection.execute(_END_OPEN, {"run": run_id, "now": now, "why": error_to_json(why)})


def arguments_digest(tool: str, arguments: Json) -> str:
    """What makes two calls the same call: the SHA-256 of the name and the arguments, whatever the order of keys."""
    return hashlib.sha256(canonical_json([tool, arguments]).encode()).hexdigest()


def _call(row: Row[Any]) -> ToolCall:
    return ToolCall(
        id=row.id,
        run_id=row.run_id,
        step_id=row.step_id,
        item=None if row.item == NO_ITEM else row.item,
        attempt=row.attempt,
        tool=row.tool,
        arguments=row.arguments,
        arguments_digest=row.arguments_digest,
        idempotency_key=row.idempotency_key,
        result=row.result,
        error=error_from_json(row.error),
        uncertain=row.uncertain,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )

"""The journal of tool calls."""

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update
from sqlmodel import col
from ulid import ULID

from engine.records import ToolCall
from engine.store.database import Database
from engine.store.errors import AlreadyFinishedError, UnknownRecordError
from engine.store.tables import NO_ITEM, ToolCallTable
from engine.store.types import UtcDateTime, canonical_json, error_from_json, error_to_json
from flows.contracts import StepError
from flows.values import Json

_TABLE = ToolCallTable.__table__
_THIS = _TABLE.c.id == bindparam("this")
_INSERT = insert(_TABLE)
_FINISH = update(_TABLE).where(_THIS, _TABLE.c.ended_at.is_(None))
_KNOWN = select(_TABLE.c.id).where(_THIS)
_CUT_OFF = StepError(code="cancelled", message="the run ended before the call did")
_END_OPEN = (
    update(_TABLE)
    .where(_TABLE.c.run_id == bindparam("run"), _TABLE.c.ended_at.is_(None))
    .values(error=error_to_json(_CUT_OFF), ended_at=bindparam("now", type_=UtcDateTime()))
)


class Calls:
    """The tool calls of all runs. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self,
        run_id: str,
        step_id: str,
        tool: str,
        arguments: Json,
        *,
        attempt: int = 1,
        item: int | None = None,
    ) -> ToolCall:
        """Record that a call begins, before it is made. Its id is its idempotency key.

        Where the caller is cancelled meanwhile, the call has ended, without having been made.
        """
        call_id = str(ULID())
        call = ToolCall(
            id=call_id,
            run_id=run_id,
            step_id=step_id,
            item=item,
            attempt=attempt,
            tool=tool,
            arguments=arguments,
            arguments_digest=arguments_digest(tool, arguments),
            idempotency_key=call_id,
            started_at=datetime.now(UTC),
        )
        values = {
            "id": call.id,
            "run_id": call.run_id,
            "step_id": call.step_id,
            "item": NO_ITEM if item is None else item,
            "attempt": call.attempt,
            "tool": call.tool,
            "arguments": call.arguments,
            "arguments_digest": call.arguments_digest,
            "idempotency_key": call.idempotency_key,
            "started_at": call.started_at,
        }
        try:
            await self._database.execute(_INSERT, values)
        except asyncio.CancelledError:
            error = StepError(code="cancelled", message="the attempt ended before the call was made")
            await self.finish(call.id, error=error)
            raise
        return call

    async def finish(self, call_id: str, *, result: Json = None, error: StepError | None = None) -> None:
        """Record how a call ended: with ``result``, or with ``error`` where that is given.

        Raises:
            UnknownRecordError: there is no such call.
            AlreadyFinishedError: it has ended before; it stays as it is.
        """
        ended = {"result": result, "error": error_to_json(error), "ended_at": datetime.now(UTC), "this": call_id}

        def change(connection: Connection) -> None:
            if connection.execute(_FINISH, ended).rowcount == 1:
                return
            if connection.scalar(_KNOWN, {"this": call_id}) is None:
                raise UnknownRecordError(f"there is no tool call {call_id!r}")
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


def end_calls(connection: Connection, run_id: str, now: datetime) -> None:
    """End the calls of a run that have no end: nobody will hear of what they came to."""
    connection.execute(_END_OPEN, {"run": run_id, "now": now})


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
        started_at=row.started_at,
        ended_at=row.ended_at,
    )

"""What the code of steps asked of the network."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError
from ulid import ULID

from engine.records import EgressRecord
from engine.store import fence
from engine.store.database import Database
from engine.store.errors import AlreadyFinishedError, UnknownRecordError
from engine.store.tables import NO_ITEM, EgressRecordTable
from flows.contracts import EgressDecision

_TABLE = EgressRecordTable.__table__
_THIS = _TABLE.c.id == bindparam("this")
_INSERT = insert(_TABLE).values(run_id=fence.driven_run())
_FINISH = update(_TABLE).where(_THIS, _TABLE.c.ended_at.is_(None), fence.is_driven(_TABLE))
_KNOWN = select(_TABLE.c.run_id).where(_THIS)
_OF_RUN = select(_TABLE).where(_TABLE.c.run_id == bindparam("run")).order_by(_TABLE.c.id)


class Egress:
    """The egress records of all runs. Every method is one transaction.

    What writes raises :class:`engine.store.errors.LeaseLostError` where ``engine`` doesn't drive the run.
    """

    def __init__(self, database: Database, engine: str) -> None:
        self._database = database
        self._engine = engine

    async def record(
        self, run_id: str, step_id: str, decision: EgressDecision, *, attempt: int = 1, item: int | None = None
    ) -> EgressRecord:
        """Record a decision. One with a reason is over with that, with no bytes either way."""
        now = datetime.now(UTC)
        over = decision.reason is not None
        record = EgressRecord(
            id=str(ULID()),
            run_id=run_id,
            step_id=step_id,
            item=item,
            attempt=attempt,
            host=decision.host,
            port=decision.port,
            address=decision.address,
            allowed=decision.allowed,
            reason=decision.reason,
            sent=0 if over else None,
            received=0 if over else None,
            started_at=now,
            ended_at=now if over else None,
        )
        columns = [name for name in _TABLE.columns.keys() if name != "run_id"]  # noqa: SIM118 - no mapping
        values = {name: getattr(record, name) for name in columns}
        values |= {"item": NO_ITEM if item is None else item, "of_run": run_id, "engine": self._engine}
        try:
            await self._database.execute(_INSERT, values)
        except IntegrityError as error:
            raise fence.lost(error, run_id) or error from None
        return record

    async def finish(self, record_id: str, *, sent: int, received: int, reason: str | None = None) -> None:
        """Record the end of a request that was let through: its bytes, and why it broke off, if it did.

        Raises:
            UnknownRecordError: there is no such record.
            AlreadyFinishedError: it has ended before; it stays as it is.
        """
        ended = {"sent": sent, "received": received, "reason": reason, "ended_at": datetime.now(UTC)}
        ended |= {"this": record_id, "engine": self._engine}

        def change(connection: Connection) -> None:
            if connection.execute(_FINISH, ended).rowcount == 1:
                return
            run_id = connection.scalar(_KNOWN, {"this": record_id})
            if run_id is None:
                raise UnknownRecordError(f"there is no egress record {record_id!r}")
            fence.hold(connection, run_id, self._engine)
            raise AlreadyFinishedError(f"egress record {record_id} has already ended; it is never changed")

        await self._database.write(change)

    async def list(self, run_id: str) -> tuple[EgressRecord, ...]:
        """The records of a run, in the order of the decisions."""
        return tuple(_record(row) for row in await self._database.rows(_OF_RUN, {"run": run_id}))


def _record(row: Row[Any]) -> EgressRecord:
    values = dict(row._mapping)  # noqa: SLF001 - its public name for attributes that could clash with columns
    return EgressRecord(**{**values, "item": None if row.item == NO_ITEM else row.item})

"""The ends of runs, and who is told of each one in the transaction that makes it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from sqlalchemy import Connection, bindparam, select

from engine.cancellation import Interruption
from engine.store.database import Database
from engine.store.run_audit import EndedRun, record_end
from engine.store.tables import FlowVersionTable, RunTable
from engine.store.types import error_from_json
from engine.store.waits import awaits_events
from flows.values import Json, RunStatus

_RUN = RunTable.__table__
_VERSION = FlowVersionTable.__table__
_ENDED = (
    select(
        _RUN.c.id,
        _RUN.c.workspace,
        _RUN.c.flow,
        _VERSION.c.number.label("version"),
        _VERSION.c.digest,
        _RUN.c.status,
        _RUN.c.trigger,
        _RUN.c.parent_id,
        _RUN.c.error,
        _RUN.c.started_at,
        _RUN.c.ended_at,
    )
    .join_from(_RUN, _VERSION, _RUN.c.flow_version_id == _VERSION.c.id)
    .where(_RUN.c.id == bindparam("this"))
)


Interest = Literal["each", "awaited", "none"]
"""Of which ends to be told: ``awaited`` are those that come while a run of the workspace waits for an event."""


class EndWitness(Protocol):
    """Is told of the ends that this process makes."""

    def cares(self, status: RunStatus) -> Interest:
        """Of which runs that end so to be told; asked of each, so it is to be quick."""

    async def ended(self, run: EndedRun) -> None:
        """A run has ended. What is written here is committed with its end; where this raises, the run has not ended."""


class _AwaitedError(Exception):
    """A run waits for events, so the end is to be made again, and told of; what was written of it is undone."""


class RunEnds:
    """Makes ends, one transaction each. ``witness`` is told of them; None: nobody is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.witness: EndWitness | None = None

    async def make(
        self,
        run_id: str,
        status: RunStatus,
        body: Callable[[Connection], bool],
        granted: Sequence[Mapping[str, Json]] = (),
    ) -> bool:
        """Write the end of a run by ``body``, which says whether it is one; what it said.

        ``granted`` is what the audit tells of its steps (:func:`engine.grants.granted`). As any write of the store, it
        is made where it raises :class:`asyncio.CancelledError`.
        """

        def end(connection: Connection) -> EndedRun | None:
            if not body(connection):
                return None
            ended = _ended(connection, run_id)
            record_end(connection, ended, granted)
            return ended

        witness = self.witness
        interest = "none" if witness is None else witness.cares(status)
        if witness is None or interest == "none":
            return await self._database.write(end) is not None
        if self._database.in_transaction:
            return await self._told(witness, end)
        with Interruption() as interruption:
            if interest == "each":
                return await interruption.outlast(self._told(witness, end))
            return await interruption.outlast(self._told_where_awaited(witness, run_id, end))

    async def _told_where_awaited(
        self, witness: EndWitness, run_id: str, end: Callable[[Connection], EndedRun | None]
    ) -> bool:
        """Ask in the statement that makes the end whether a run waits, since mostly none does."""

        def end_unless_awaited(connection: Connection) -> EndedRun | None:
            ended = end(connection)
            if ended is not None and awaits_events(connection, run_id):
                raise _AwaitedError
            return ended

        try:
            return await self._database.write(end_unless_awaited) is not None
        except _AwaitedError:
            return await self._told(witness, end)

    async def _told(self, witness: EndWitness, end: Callable[[Connection], EndedRun | None]) -> bool:
        async with self._database.transaction():
            ended = await self._database.write(end)
            if ended is not None:
                await witness.ended(ended)
        return ended is not None


def _ended(connection: Connection, run_id: str) -> EndedRun:
    row = connection.execute(_ENDED, {"this": run_id}).one()
    values = dict(row._mapping)  # noqa: SLF001 - its public name for attributes that could clash with columns
    return EndedRun(**{**values, "status": RunStatus(row.status), "error": error_from_json(row.error)})

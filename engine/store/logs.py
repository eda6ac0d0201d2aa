"""What steps print."""

from collections.abc import Sequence

from sqlalchemy import Connection, func, insert, select
from sqlmodel import col

from engine.records import LogLine, Page
from engine.store import fence
from engine.store.database import Database
from engine.store.locks import hold_name
from engine.store.tables import NO_ITEM, LogLineTable


class Logs:
    """The log lines of all runs. Every method is one transaction.

    What writes raises :class:`engine.store.errors.LeaseLostError` where ``engine`` doesn't drive the run.
    """

    def __init__(self, database: Database, engine: str) -> None:
        self._database = database
        self._engine = engine

    async def append(self, lines: Sequence[LogLine]) -> None:
        """Append lines, all or none, in their order. What isn't text (lone surrogates, NUL) becomes a visible mark."""
        if not lines:
            return
        values = [
            {
                "run_id": line.run_id,
                "step_id": line.step_id,
                "item": NO_ITEM if line.item is None else line.item,
                "attempt": line.attempt,
                "stream": line.stream,
                "line": _storable(line.line),
                "at": line.at,
            }
            for line in lines
        ]

        def insert_all(connection: Connection) -> None:
            for run_id in sorted({line.run_id for line in lines}):
                fence.hold(connection, run_id, self._engine)
                # Lines of a run become visible in the order of their ids, so that a reader's cursor skips none.
                hold_name(connection, f"lines/{run_id}")
            connection.execute(insert(LogLineTable.__table__), values)

        await self._database.write(insert_all)

    async def list(
        self, run_id: str, *, step_id: str | None = None, limit: int = 1000, cursor: int | None = None
    ) -> Page[LogLine]:
        """Lines of a run in the order of appending; of one step where ``step_id`` is given.

        ``cursor`` is the ``cursor`` of the last line already seen. ``next`` is None when there is no more for now.
        """
        query = select(LogLineTable.__table__).where(col(LogLineTable.run_id) == run_id)
        if step_id is not None:
            query = query.where(col(LogLineTable.step_id) == step_id)
        if cursor is not None:
            query = query.where(col(LogLineTable.id) > cursor)
        query = query.order_by(col(LogLineTable.id)).limit(limit + 1)
        rows = await self._database.rows(query)
        lines = tuple(
            LogLine(
                run_id=row.run_id,
                step_id=row.step_id,
                item=None if row.item == NO_ITEM else row.item,
                attempt=row.attempt,
                stream=row.stream,
                line=row.line,
                at=row.at,
                cursor=row.id,
            )
            for row in rows[:limit]
        )
        return Page(items=lines, next=str(rows[limit - 1].id) if len(rows) > limit else None)

    async def last(self, run_id: str) -> int:
        """The ``cursor`` of the last line of a run; 0 where it has none."""
        query = select(func.max(col(LogLineTable.id))).where(col(LogLineTable.run_id) == run_id)
        (row,) = await self._database.rows(query)
        return int(row[0] or 0)


def _storable(line: str) -> str:
    return line.replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode("utf-8")

"""Removing what has been kept long enough: ended runs with all that belongs to them, their output, and old events.

In small batches, each a transaction, so that nobody waits long. What refers to a run is found by its foreign keys: rows
of it go with it, and where the reference may be NULL it becomes that.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Table, delete, func, select, update

from engine.store.approval_table import ApprovalTable
from engine.store.contents import ArtifactContents
from engine.store.database import Database
from engine.store.lineage import family_of
from engine.store.notice_table import NoticeTable
from engine.store.tables import UNFINISHED, ArtifactTable, DeliveryTable, EventTable, LogLineTable, RunTable
from engine.store.tables import Table as StoreTable

BATCH: Final = 100
"""Runs or events that one transaction removes."""
DIGESTS: Final = 500
"""Contents that are looked for at once."""

_RUN = RunTable.__table__
_EVENT = EventTable.__table__
_DELIVERY = DeliveryTable.__table__
_LOG = LogLineTable.__table__
_ARTIFACT = ArtifactTable.__table__
_APPROVAL = ApprovalTable.__table__
_NOTICE = NoticeTable.__table__
_MAIN = _RUN.c.parent_id.is_(None) & _RUN.c.status.not_in(UNFINISHED)


class Retention:
    """Removes what is old. Every method does one batch and says how much that was; 0 where nothing is left to do."""

    def __init__(self, database: Database, contents: ArtifactContents) -> None:
        self._database = database
        self._contents = contents

    async def remove_runs(self, *, before: datetime | None = None, beyond: int | None = None) -> int:
        """Remove runs that ended ``before``, and of each flow those ``beyond`` so many newer ones that have ended.

        With each go its steps, output, calls, artifacts and the runs that it had started. Never an unfinished run, and
        none that another one had started without that one.
        """

        def remove(connection: Connection) -> int:
            ids = list(connection.scalars(_removable(before, beyond).limit(BATCH)))
            _remove_runs(connection, ids)
            return len(ids)

        return await self._database.write(remove)

    async def count_runs(self, *, before: datetime | None = None, beyond: int | None = None) -> int:
        """How many runs :meth:`remove_runs` would remove in all."""
        found = _removable(before, beyond).order_by(None).subquery()
        return await self._database.read(
            lambda connection: connection.scalar(select(func.count()).select_from(found)) or 0
        )

    async def remove_output(self, before: datetime) -> int:
        """Remove what the code of runs that ended ``before`` has printed."""
        return await self._remove_of_ended(_LOG, before)

    async def remove_artifacts(self, before: datetime) -> int:
        """Remove the records of files that runs which ended ``before`` have left; :meth:`sweep` removes contents."""
        return await self._remove_of_ended(_ARTIFACT, before)

    async def _remove_of_ended(self, table: Table, before: datetime) -> int:
        old = select(_RUN.c.id).where(_RUN.c.ended_at < before)
        some = select(table.c.id).where(table.c.run_id.in_(old)).limit(10 * BATCH)
        statement = delete(table).where(table.c.id.in_(some))
        return await self._database.write(lambda connection: connection.execute(statement).rowcount)

    async def remove_events(self, before: datetime) -> int:
        """Remove events that came ``before``, with their deliveries; none that is still to start a run.

        One with the key of a removed event is a new one.
        """
        pending = select(_DELIVERY.c.event_id).where(_DELIVERY.c.due_at.is_not(None))
        old = select(_EVENT.c.id).where(_EVENT.c.received_at < before, _EVENT.c.id.not_in(pending)).limit(BATCH)

        def remove(connection: Connection) -> int:
            ids = list(connection.scalars(old))
            connection.execute(delete(_DELIVERY).where(_DELIVERY.c.event_id.in_(ids)))
            connection.execute(delete(_EVENT).where(_EVENT.c.id.in_(ids)))
            return len(ids)

        return await self._database.write(remove)

    async def sweep(self, before: datetime) -> int:
        """Remove the contents of files last kept ``before`` that no record names; how many.

        Nothing where contents are kept at a URL: its own rules are for that.
        """
        removed = 0
        async for digests in self._contents.old(before, DIGESTS):
            named = await self._database.read(lambda connection, digests=digests: _named(connection, digests))  # type: ignore[misc]
            removed += await self._contents.remove([digest for digest in digests if digest not in named], before)
        return removed


def _removable(before: datetime | None, beyond: int | None) -> Any:
    """A SELECT of the ids of runs that may go, the oldest first."""
    query = select(_RUN.c.id).where(_MAIN).order_by(_RUN.c.id)
    if before is not None:
        return query.where(_RUN.c.ended_at < before)
    rank = func.row_number().over(partition_by=(_RUN.c.workspace, _RUN.c.flow), order_by=_RUN.c.id.desc())
    ranked = select(_RUN.c.id, rank.label("rank")).where(_MAIN).subquery()
    return query.where(_RUN.c.id.in_(select(ranked.c.id).where(ranked.c.rank > (beyond or 0))))


def _remove_runs(connection: Connection, ids: list[str]) -> None:
    if not ids:
        return
    family = family_of(connection, ids)
    asked = select(_APPROVAL.c.id).where(_APPROVAL.c.run_id.in_(family))
    connection.execute(delete(_NOTICE).where(_NOTICE.c.approval_id.in_(asked)))
    connection.execute(delete(_APPROVAL).where(_APPROVAL.c.run_id.in_(family)))
    for table in StoreTable.metadata.tables.values():
        if table is not _RUN:
            _forget(connection, table, family)
    connection.execute(delete(_RUN).where(_RUN.c.id.in_(family)))


def _forget(connection: Connection, table: Table, runs: Collection[str]) -> None:
    for column in table.columns:
        if any(key.column is _RUN.c.id for key in column.foreign_keys):
            ours = column.in_(runs)
            connection.execute(
                update(table).where(ours).values({column: None}) if column.nullable else delete(table).where(ours)
            )


def _named(connection: Connection, digests: Collection[str]) -> frozenset[str]:
    return frozenset(connection.scalars(select(_ARTIFACT.c.sha256).where(_ARTIFACT.c.sha256.in_(digests)).distinct()))

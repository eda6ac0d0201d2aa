"""Flows and their versions."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlmodel import col
from ulid import ULID

from engine.records import FlowSummary, FlowVersion, RunSummary
from engine.store.database import Database
from engine.store.errors import UnknownRecordError
from engine.store.runs import SUMMARY_COLUMNS, summary
from engine.store.tables import DEFAULT_WORKSPACE, FlowTable, FlowVersionTable, RunTable
from flows.definition import Definition


class Flows:
    """The flows of all workspaces. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put_version(
        self, workspace: str, flow: str, text: str, files: Mapping[str, str], digest: str
    ) -> FlowVersion:
        """Make this text the flow's current version.

        Text and files that the flow had before (the same ``digest``) are the version that they were then; new ones get
        the next number, counted from 1.
        """
        return await self._database.write(
            lambda connection: _put(connection, workspace, flow, text=text, files=files, digest=digest)
        )

    async def put_versions(self, workspace: str, definitions: Sequence[Definition]) -> Sequence[FlowVersion]:
        """Make these the current versions of their flows, all or none; see :meth:`put_version`."""
        return await self._database.write(
            lambda connection: [
                _put(connection, workspace, one.flow.flow, text=one.text, files=one.files, digest=one.digest)
                for one in definitions
            ]
        )

    async def current(self, flow: str, *, workspace: str = DEFAULT_WORKSPACE) -> FlowVersion | None:
        """The version that was put last, None where there is no such flow."""
        query = _versions().where(
            col(FlowTable.workspace) == workspace,
            col(FlowTable.name) == flow,
            col(FlowVersionTable.number) == col(FlowTable.current),
        )
        rows = await self._database.rows(query)
        return _version(rows[0]) if rows else None

    async def get(self, version_id: str) -> FlowVersion:
        """The version of that id.

        Raises:
            UnknownRecordError: there is none.
        """
        rows = await self._database.rows(_versions().where(col(FlowVersionTable.id) == version_id))
        if not rows:
            raise UnknownRecordError(f"there is no flow version {version_id!r}")
        return _version(rows[0])

    async def list(self, *, workspace: str = DEFAULT_WORKSPACE) -> tuple[FlowSummary, ...]:
        """All flows of a workspace by name, each with its current version and its newest run."""
        versions = (
            select(func.count())
            .where(col(FlowVersionTable.flow_id) == col(FlowTable.id))
            .correlate(FlowTable)
            .scalar_subquery()
        )
        newest_run = (
            select(func.max(RunTable.id))
            .where(col(RunTable.workspace) == col(FlowTable.workspace), col(RunTable.flow) == col(FlowTable.name))
            .correlate(FlowTable)
            .scalar_subquery()
        )
        query = (
            select(
                col(FlowTable.name).label("name"),
                col(FlowTable.updated_at).label("updated_at"),
                col(FlowVersionTable.id).label("version_id"),
                col(FlowVersionTable.number).label("number"),
                col(FlowVersionTable.digest).label("digest"),
                versions.label("versions"),
                newest_run.label("newest_run"),
            )
            .join_from(
                FlowTable,
                FlowVersionTable,
                (col(FlowVersionTable.flow_id) == col(FlowTable.id))
                & (col(FlowVersionTable.number) == col(FlowTable.current)),
            )
            .where(col(FlowTable.workspace) == workspace)
            .order_by(col(FlowTable.name))
        )

        def read(connection: Connection) -> tuple[Sequence[Row[*tuple[Any, ...]]], dict[str, RunSummary]]:
            rows = connection.execute(query).all()
            newest = [row.newest_run for row in rows if row.newest_run is not None]
            runs = connection.execute(select(*SUMMARY_COLUMNS).where(col(RunTable.id).in_(newest)))
            return rows, {row.id: summary(row) for row in runs}

        rows, runs = await self._database.read(read)
        return tuple(
            FlowSummary(
                flow=row.name,
                workspace=workspace,
                version_id=row.version_id,
                number=row.number,
                digest=row.digest,
                versions=row.versions,
                updated_at=row.updated_at,
                last_run=runs.get(row.newest_run),
            )
            for row in rows
        )


def _put(
    connection: Connection, workspace: str, flow: str, *, text: str, files: Mapping[str, str], digest: str
) -> FlowVersion:
    now = datetime.now(UTC)
    upsert = (sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert)(FlowTable)
    # The upsert also locks the flow's row, so that two versions never take one number.
    flow_id, current = connection.execute(
        upsert.values(id=str(ULID()), workspace=workspace, name=flow, current=0, updated_at=now)
        .on_conflict_do_update(index_elements=["workspace", "name"], set_={"name": upsert.excluded.name})
        .returning(col(FlowTable.id), col(FlowTable.current))
    ).one()
    known = connection.execute(
        _versions().where(col(FlowVersionTable.flow_id) == flow_id, col(FlowVersionTable.digest) == digest)
    ).one_or_none()
    if known is not None:
        version = _version(known)
    else:
        highest = select(func.max(FlowVersionTable.number)).where(col(FlowVersionTable.flow_id) == flow_id)
        version = FlowVersion(
            id=str(ULID()),
            workspace=workspace,
            flow=flow,
            number=(connection.scalar(highest) or 0) + 1,
            digest=digest,
            text=text,
            files=dict(files),
            created_at=now,
        )
        connection.execute(
            insert(FlowVersionTable).values(
                id=version.id,
                flow_id=flow_id,
                number=version.number,
                digest=digest,
                text=text,
                files=version.files,
                created_at=now,
            )
        )
    if current != version.number:
        connection.execute(
            update(FlowTable).where(col(FlowTable.id) == flow_id).values(current=version.number, updated_at=now)
        )
    return version


def _versions() -> Select[*tuple[Any, ...]]:
    return select(FlowVersionTable.__table__, col(FlowTable.workspace), col(FlowTable.name)).join_from(
        FlowVersionTable, FlowTable
    )


def _version(row: Row[Any]) -> FlowVersion:
    return FlowVersion(
        id=row.id,
        workspace=row.workspace,
        flow=row.name,
        number=row.number,
        digest=row.digest,
        text=row.text,
        files=row.files,
        created_at=row.created_at,
    )

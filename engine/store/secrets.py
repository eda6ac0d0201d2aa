"""Secrets, of which only encrypted values are ever here."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, delete, func, insert, or_, select, update
from sqlmodel import col

from engine.records import SealedSecret, SecretSummary
from engine.store.database import Database, upsert_into
from engine.store.tables import SecretTable, SecretVersionTable

_USE: Final = timedelta(minutes=1)
"""How exactly the last use is known, so that not each use is a write."""


class Secrets:
    """The secrets of all workspaces. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, workspace: str, name: str, sealed: SealedSecret, *, live: int) -> SecretSummary:
        """Make this the newest value of a secret, and keep ``live`` of its values, this one included."""
        return await self._database.write(lambda connection: _put(connection, workspace, name, sealed, live))

    async def values(self, workspace: str, name: str) -> tuple[SealedSecret, ...]:
        """The live values, the newest first; none where there is no such secret."""
        table = SecretVersionTable.__table__.c
        query = (
            select(table.id, table.key_id, table.sealed)
            .where(table.workspace == workspace, table.name == name)
            .order_by(table.number.desc())
        )
        rows = await self._database.rows(query)
        return tuple(SealedSecret(id=row.id, key_id=row.key_id, sealed=row.sealed) for row in rows)

    async def used(self, workspace: str, name: str) -> None:
        """Note that a secret has been used now; exact to a minute."""
        now = datetime.now(UTC)
        table = SecretTable.__table__.c
        recent = select(table.name).where(
            table.workspace == workspace, table.name == name, table.last_used_at > now - _USE
        )
        if await self._database.rows(recent):
            return
        await self._database.execute(
            update(SecretTable)
            .where(
                col(SecretTable.workspace) == workspace,
                col(SecretTable.name) == name,
                or_(col(SecretTable.last_used_at).is_(None), col(SecretTable.last_used_at) < now),
            )
            .values(last_used_at=now),
            {},
        )

    async def list(self, workspace: str) -> tuple[SecretSummary, ...]:
        """All secrets of a workspace by name."""
        query = _summaries().where(col(SecretTable.workspace) == workspace).order_by(col(SecretTable.name))
        return tuple(_summary(row) for row in await self._database.rows(query))

    async def delete(self, workspace: str, name: str, *, old_only: bool = False) -> int:
        """Remove a secret, or all but its newest value; gives how many values are gone."""
        return await self._database.write(lambda connection: _delete(connection, workspace, name, old_only=old_only))

    async def key_ids(self) -> frozenset[str]:
        """The ids of the keys that any secret of any workspace is encrypted by."""
        rows = await self._database.rows(select(col(SecretVersionTable.key_id)).distinct())
        return frozenset(row.key_id for row in rows)


def _put(connection: Connection, workspace: str, name: str, sealed: SealedSecret, live: int) -> SecretSummary:
    now = datetime.now(UTC)
    upsert = upsert_into(connection, SecretTable)
    # It also locks the secret's row, so that two values never take one number.
    connection.execute(
        upsert.values(workspace=workspace, name=name, created_at=now, updated_at=now).on_conflict_do_update(
            index_elements=["workspace", "name"], set_={"updated_at": now}
        )
    )
    table = SecretVersionTable.__table__.c
    own = (table.workspace == workspace, table.name == name)
    number = (connection.scalar(select(func.max(table.number)).where(*own)) or 0) + 1
    connection.execute(
        insert(SecretVersionTable).values(
            id=sealed.id,
            workspace=workspace,
            name=name,
            number=number,
            key_id=sealed.key_id,
            sealed=sealed.sealed,
            created_at=now,
        )
    )
    kept = select(table.number).where(*own).order_by(table.number.desc()).limit(live)
    connection.execute(delete(SecretVersionTable).where(*own, table.number.not_in(kept)))
    query = _summaries().where(col(SecretTable.workspace) == workspace, col(SecretTable.name) == name)
    return _summary(connection.execute(query).one())


def _delete(connection: Connection, workspace: str, name: str, *, old_only: bool) -> int:
    table = SecretVersionTable.__table__.c
    own = (table.workspace == workspace, table.name == name)
    if old_only:
        newest = select(func.max(table.number)).where(*own).scalar_subquery()
        return connection.execute(delete(SecretVersionTable).where(*own, table.number < newest)).rowcount
    gone = connection.execute(delete(SecretVersionTable).where(*own)).rowcount
    connection.execute(
        delete(SecretTable).where(col(SecretTable.workspace) == workspace, col(SecretTable.name) == name)
    )
    return gone


def _summaries() -> Select[*tuple[Any, ...]]:
    versions = (
        select(func.count())
        .where(
            col(SecretVersionTable.workspace) == col(SecretTable.workspace),
            col(SecretVersionTable.name) == col(SecretTable.name),
        )
        .correlate(SecretTable)
        .scalar_subquery()
    )
    return select(SecretTable.__table__, versions.label("versions"))


def _summary(row: Row[Any]) -> SecretSummary:
    return SecretSummary(
        name=row.name,
        versions=row.versions,
        created_at=row.created_at,
        updated_at=row.updated_at,
        last_used_at=row.last_used_at,
    )

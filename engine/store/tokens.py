"""Principals and their tokens."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, delete, insert, or_, select, update
from sqlmodel import col
from ulid import ULID

from engine.records import Role, TokenRecord
from engine.store.database import Database, upsert_into
from engine.store.tables import DEFAULT_WORKSPACE, PrincipalTable, TokenTable
from engine.store.types import UtcDateTime

USE_KEPT_FOR = timedelta(minutes=1)
"""How exact the time of the last use is: a write for each request would cost as much as the request."""

_TABLE = TokenTable.__table__
_COLUMNS: tuple[Any, ...] = (
    _TABLE,
    col(PrincipalTable.workspace),
    col(PrincipalTable.name).label("principal"),
    col(PrincipalTable.role),
)
_THIS = _TABLE.c.id == bindparam("this")
_TOUCH = (
    update(_TABLE)
    .where(
        _THIS,
        or_(_TABLE.c.last_used_at.is_(None), _TABLE.c.last_used_at < bindparam("before", type_=UtcDateTime())),
    )
    .values(last_used_at=bindparam("now", type_=UtcDateTime()))
)


class Tokens:
    """The tokens of all workspaces. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        token_id: str,
        digest: str,
        *,
        principal: str,
        role: Role,
        workspace: str = DEFAULT_WORKSPACE,
        expires_at: datetime | None = None,
    ) -> TokenRecord:
        """Keep a token of a principal, who is made where there is none of that name. It replaces one of the same id."""
        now = datetime.now(UTC)
        expires_at = None if expires_at is None else expires_at.astimezone(UTC)

        def create(connection: Connection) -> TokenRecord:
            upsert = upsert_into(connection, PrincipalTable)
            principal_id = connection.execute(
                upsert.values(id=str(ULID()), workspace=workspace, name=principal, role=role, created_at=now)
                .on_conflict_do_update(index_elements=["workspace", "name"], set_={"role": upsert.excluded.role})
                .returning(col(PrincipalTable.id))
            ).scalar_one()
            record = TokenRecord(
                id=token_id,
                workspace=workspace,
                principal_id=principal_id,
                principal=principal,
                role=role,
                digest=digest,
                created_at=now,
                expires_at=expires_at,
            )
            connection.execute(delete(_TABLE).where(_TABLE.c.id == token_id))
            connection.execute(
                insert(_TABLE).values(
                    id=token_id, principal_id=principal_id, digest=digest, created_at=now, expires_at=expires_at
                )
            )
            return record

        return await self._database.write(create)

    async def principals(self, workspace: str) -> Mapping[str, Role]:
        """The roles of the principals of a workspace who may act, by name."""
        query = select(col(PrincipalTable.name), col(PrincipalTable.role)).where(
            col(PrincipalTable.workspace) == workspace
        )
        return {row.name: row.role for row in await self._database.rows(query)}

    async def find(self, token_id: str) -> TokenRecord | None:
        """The token of that id, valid or not."""
        rows = await self._database.rows(_tokens().where(_THIS), {"this": token_id})
        return _token(rows[0]) if rows else None

    async def list(self, *, workspace: str = DEFAULT_WORKSPACE) -> tuple[TokenRecord, ...]:
        """All tokens of a workspace, the oldest first."""
        query = _tokens().where(col(PrincipalTable.workspace) == workspace)
        rows = await self._database.rows(query.order_by(_TABLE.c.created_at, _TABLE.c.id))
        return tuple(map(_token, rows))

    async def revoke(self, token_id: str, *, workspace: str = DEFAULT_WORKSPACE) -> TokenRecord | None:
        """Make a token open nothing from now on; None where the workspace has no such token."""
        now = datetime.now(UTC)

        def revoke(connection: Connection) -> TokenRecord | None:
            found = connection.execute(
                _tokens().where(_TABLE.c.id == token_id, col(PrincipalTable.workspace) == workspace)
            ).one_or_none()
            if found is None:
                return None
            if found.revoked_at is None:
                connection.execute(update(_TABLE).where(_TABLE.c.id == token_id).values(revoked_at=now))
            return _token(connection.execute(_tokens().where(_TABLE.c.id == token_id)).one())

        return await self._database.write(revoke)

    async def touch(self, token_id: str, now: datetime) -> None:
        """Record that a token was used, unless that was recorded a moment ago."""
        await self._database.execute(_TOUCH, {"this": token_id, "now": now, "before": now - USE_KEPT_FOR})


def _tokens() -> Select[*tuple[Any, ...]]:
    return select(*_COLUMNS).join_from(TokenTable, PrincipalTable)


def _token(row: Row[Any]) -> TokenRecord:
    return TokenRecord(
        id=row.id,
        workspace=row.workspace,
        principal_id=row.principal_id,
        principal=row.principal,
        role=row.role,
        digest=row.digest,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )

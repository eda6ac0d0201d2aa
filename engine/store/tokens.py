"""Tokens of principals."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, delete, insert, or_, select, update
from sqlmodel import col

from engine.principals import PrincipalRecord, TokenRecord
from engine.reach import EVERYTHING
from engine.records import DEFAULT_WORKSPACE
from engine.store.database import Database
from engine.store.principal_tables import PrincipalTable, TokenTable
from engine.store.types import UtcDateTime

USE_KEPT_FOR = timedelta(minutes=1)
"""How exact the time of the last use is: a write for each request would cost as much as the request."""

_TABLE = TokenTable.__table__
_COLUMNS: tuple[Any, ...] = (
    _TABLE,
    col(PrincipalTable.workspace),
    col(PrincipalTable.name).label("principal"),
    col(PrincipalTable.role),
    col(PrincipalTable.disabled_at),
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
        principal: PrincipalRecord,
        scopes: Sequence[str] = (EVERYTHING,),
        only_flows: Sequence[str] = (EVERYTHING,),
        expires_at: datetime | None = None,
    ) -> TokenRecord:
        """Keep a token of a principal. It replaces one of the same id."""
        values = {
            "id": token_id,
            "principal_id": principal.id,
            "digest": digest,
            "scopes": list(scopes),
            "only_flows": list(only_flows),
            "created_at": datetime.now(UTC),
            "expires_at": None if expires_at is None else expires_at.astimezone(UTC),
        }

        def create(connection: Connection) -> TokenRecord:
            connection.execute(delete(_TABLE).where(_THIS), {"this": token_id})
            connection.execute(insert(_TABLE).values(**values))
            return _token(connection.execute(_tokens().where(_THIS), {"this": token_id}).one())

        return await self._database.write(create)

    async def find(self, token_id: str) -> TokenRecord | None:
        """The token of that id, valid or not."""
        rows = await self._database.rows(_tokens().where(_THIS), {"this": token_id})
        return _token(rows[0]) if rows else None

    async def list(
        self, *, workspace: str = DEFAULT_WORKSPACE, principal: str | None = None
    ) -> tuple[TokenRecord, ...]:
        """All tokens of a workspace, or those of one of its principals by name, the oldest first."""
        query = _tokens().where(col(PrincipalTable.workspace) == workspace)
        if principal is not None:
            query = query.where(col(PrincipalTable.name) == principal)
        rows = await self._database.rows(query.order_by(_TABLE.c.created_at, _TABLE.c.id))
        return tuple(map(_token, rows))

    async def revoke(
        self, token_id: str, *, workspace: str = DEFAULT_WORKSPACE, principal: str | None = None
    ) -> TokenRecord | None:
        """Make a token open nothing from now on; None where the workspace, or its principal, has no such token."""
        now = datetime.now(UTC)
        whose = [col(PrincipalTable.workspace) == workspace]
        if principal is not None:
            whose.append(col(PrincipalTable.name) == principal)

        def revoke(connection: Connection) -> TokenRecord | None:
            found = connection.execute(_tokens().where(_TABLE.c.id == token_id, *whose)).one_or_none()
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
        scopes=tuple(row.scopes or (EVERYTHING,)),
        only_flows=tuple(row.only_flows or (EVERYTHING,)),
        disabled_at=row.disabled_at,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )

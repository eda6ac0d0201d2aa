"""Principals, and what they are granted."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update
from sqlmodel import col
from ulid import ULID

from engine.principals import Grant, GrantKind, GrantPatterns, PrincipalKind, PrincipalRecord
from engine.reach import fits
from engine.records import DEFAULT_WORKSPACE, LOCAL, Page, Role
from engine.store.database import Body, Database, Result, upsert_into
from engine.store.errors import LastAdminError, NameTakenError, UnknownRecordError
from engine.store.locks import hold_name
from engine.store.principal_tables import GrantTable, PrincipalTable, TokenTable

CURRENT_FOR: Final = 1.0
"""Seconds for which a process may not yet know what another one has changed of a principal."""

_TABLE = PrincipalTable.__table__
_GRANT = GrantTable.__table__
_THIS = _TABLE.c.id == bindparam("this")
_THERE = _TABLE.c.deleted_at.is_(None)
_NAMED = (_TABLE.c.workspace == bindparam("of_workspace")) & (_TABLE.c.name == bindparam("of_name"))
_FIND = select(_TABLE).where(_NAMED, _THERE)
_ANY = select(_TABLE.c.deleted_at).where(_NAMED)
_GRANTS = (
    select(_GRANT).where(_GRANT.c.principal_id == bindparam("this")).order_by(_GRANT.c.kind.desc(), _GRANT.c.pattern)
)
_ADMINS = (
    select(func.count())
    .select_from(_TABLE)
    .where(_TABLE.c.workspace == DEFAULT_WORKSPACE, _TABLE.c.role == "admin", _TABLE.c.disabled_at.is_(None), _THERE)
)
_UNGRANT = delete(_GRANT).where(_GRANT.c.principal_id == bindparam("this"))
_REVOKE_TOKENS = update(TokenTable.__table__).where(
    col(TokenTable.principal_id) == bindparam("this"), col(TokenTable.revoked_at).is_(None)
)


class Principals:
    """The principals of all workspaces. Every method is one transaction, or joins the caller's."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._current: dict[tuple[str, str], tuple[float, PrincipalRecord | None]] = {}
        self._changes = 0

    async def create(
        self,
        name: str,
        *,
        kind: PrincipalKind,
        role: Role,
        grants: GrantPatterns,
        by: str,
        workspace: str = DEFAULT_WORKSPACE,
    ) -> PrincipalRecord:
        """Make a principal. Raises :class:`NameTakenError` where there is one of that name, or ever was."""
        now = datetime.now(UTC)
        values = {"id": str(ULID()), "workspace": workspace, "name": name, "kind": kind, "role": role}

        def create(connection: Connection) -> PrincipalRecord:
            _hold(connection, workspace)
            known = connection.execute(_ANY, _named(workspace, name)).one_or_none()
            if known is not None:
                raise _taken(name, was=known.deleted_at is not None)
            connection.execute(insert(_TABLE).values(**values, created_at=now))
            _grant(connection, values["id"], grants, by, now)
            return _required(connection, workspace, name)

        return await self._change(create)

    async def find(self, name: str, *, workspace: str = DEFAULT_WORKSPACE) -> PrincipalRecord:
        """The principal of that name. Raises :class:`UnknownRecordError` where there is none."""
        return await self._database.read(lambda connection: _required(connection, workspace, name))

    async def current(self, workspace: str, name: str) -> PrincipalRecord | None:
        """The principal as of at most :data:`CURRENT_FOR` seconds ago, or None; what changed here is known at once.

        Whoever uses the home is no principal that is kept, so nothing is read for it.
        """
        if name == LOCAL:
            return None
        known = self._current.get((workspace, name))
        if known is not None and time.monotonic() - known[0] < CURRENT_FOR:
            return known[1]
        asked, changes = time.monotonic(), self._changes
        found = await self._database.read(lambda connection: _found(connection, workspace, name))
        if changes == self._changes:
            self._current[workspace, name] = (asked, found)
        return found

    async def list(
        self, *, workspace: str = DEFAULT_WORKSPACE, limit: int | None = None, after: str | None = None
    ) -> Page[PrincipalRecord]:
        """The principals of a workspace by name, from ``after`` on."""
        query = select(_TABLE).where(_TABLE.c.workspace == workspace, _THERE).order_by(_TABLE.c.name)
        if after is not None:
            query = query.where(_TABLE.c.name > after)
        if limit is not None:
            query = query.limit(limit + 1)

        def read(connection: Connection) -> tuple[PrincipalRecord, ...]:
            return tuple(_principal(connection, row) for row in connection.execute(query).all())

        found = await self._database.read(read)
        items = found[:limit]
        return Page(items=items, next=items[-1].name if len(found) > len(items) else None)

    async def roles(self, workspace: str, *, flow: str | None = None) -> Mapping[str, Role]:
        """The roles of those who may act, by name: enabled, and with a ``flow`` granted that one."""
        found = (await self.list(workspace=workspace)).items
        return {
            one.name: one.role for one in found if one.is_enabled and (flow is None or fits(one.patterns("flow"), flow))
        }

    async def set_role(self, name: str, role: Role, *, workspace: str = DEFAULT_WORKSPACE) -> PrincipalRecord:
        """Give a principal another role. Raises as :meth:`enable`."""
        return await self._update(name, workspace, {"role": role})

    async def enable(self, name: str, *, enabled: bool, workspace: str = DEFAULT_WORKSPACE) -> PrincipalRecord:
        """Let a principal act, or not.

        Raises:
            UnknownRecordError: there is none of that name.
            LastAdminError: nobody else could administer the installation.
        """
        at = None if enabled else func.coalesce(_TABLE.c.disabled_at, datetime.now(UTC))
        return await self._update(name, workspace, {"disabled_at": at})

    async def delete(self, name: str, *, workspace: str = DEFAULT_WORKSPACE) -> None:
        """Take a principal away, with its tokens and grants; raises as :meth:`enable`. Nobody else gets its name."""
        now = datetime.now(UTC)

        def remove(connection: Connection) -> None:
            _hold(connection, workspace)
            found = _required(connection, workspace, name)
            gone = {"deleted_at": now, "disabled_at": func.coalesce(_TABLE.c.disabled_at, now)}
            connection.execute(update(_TABLE).where(_THIS).values(gone), {"this": found.id})
            connection.execute(_UNGRANT, {"this": found.id})
            connection.execute(_REVOKE_TOKENS.values(revoked_at=now), {"this": found.id})
            _keep_an_admin(connection, found)

        await self._change(remove)

    async def grant(
        self, name: str, grants: GrantPatterns, *, by: str, workspace: str = DEFAULT_WORKSPACE
    ) -> PrincipalRecord:
        """Grant tools and flows; what is granted already stays as it was. Raises :class:`UnknownRecordError`."""
        now = datetime.now(UTC)

        def add(connection: Connection) -> PrincipalRecord:
            _grant(connection, _required(connection, workspace, name).id, grants, by, now)
            return _required(connection, workspace, name)

        return await self._change(add)

    async def revoke(self, name: str, grants: GrantPatterns, *, workspace: str = DEFAULT_WORKSPACE) -> PrincipalRecord:
        """Take grants back. Raises :class:`UnknownRecordError` where one of the patterns isn't granted."""

        def remove(connection: Connection) -> PrincipalRecord:
            found = _required(connection, workspace, name)
            for kind, pattern in _each(grants):
                gone = _UNGRANT.where(_GRANT.c.kind == kind, _GRANT.c.pattern == pattern)
                if connection.execute(gone, {"this": found.id}).rowcount != 1:
                    raise UnknownRecordError(
                        f"'{name}' is not granted the {kind} {pattern[:100]!r}",
                        fix=f"see what it is granted: stepbox principals show {name}",
                    )
            return _required(connection, workspace, name)

        return await self._change(remove)

    async def _update(self, name: str, workspace: str, values: dict[str, Any]) -> PrincipalRecord:
        def change(connection: Connection) -> PrincipalRecord:
            _hold(connection, workspace)
            found = _required(connection, workspace, name)
            connection.execute(update(_TABLE).where(_THIS).values(values), {"this": found.id})
            _keep_an_admin(connection, found)
            return _required(connection, workspace, name)

        return await self._change(change)

    async def _change(self, body: Body[Result]) -> Result:
        try:
            return await self._database.write(body)
        finally:
            self._database.once_committed(self._forget)

    def _forget(self) -> None:
        self._changes += 1
        self._current.clear()


def _hold(connection: Connection, workspace: str) -> None:
    """Let changes of a workspace's principals come one after another, so that they can't both take an admin away."""
    hold_name(connection, f"principals/{workspace}")


def _keep_an_admin(connection: Connection, before: PrincipalRecord) -> None:
    """Undo a change that has taken the installation's last admin away."""
    was_one = before.workspace == DEFAULT_WORKSPACE and before.role == "admin" and before.is_enabled
    if was_one and connection.scalar(_ADMINS) == 0:
        raise LastAdminError(
            f"'{before.name}' is the last admin of the installation",
            fix="make another one first: stepbox principals create NAME --role admin",
        )


def _grant(connection: Connection, principal_id: str, grants: GrantPatterns, by: str, at: datetime) -> None:
    for kind, pattern in _each(grants):
        values = {"principal_id": principal_id, "kind": kind, "pattern": pattern, "granted_by": by, "granted_at": at}
        connection.execute(upsert_into(connection, GrantTable).values(**values).on_conflict_do_nothing())


def _each(grants: GrantPatterns) -> Sequence[tuple[GrantKind, str]]:
    return [*(("tool", each) for each in grants.tools), *(("flow", each) for each in grants.flows)]


def _named(workspace: str, name: str) -> dict[str, str]:
    return {"of_workspace": workspace, "of_name": name}


def _found(connection: Connection, workspace: str, name: str) -> PrincipalRecord | None:
    row = connection.execute(_FIND, _named(workspace, name)).one_or_none()
    return None if row is None else _principal(connection, row)


def _required(connection: Connection, workspace: str, name: str) -> PrincipalRecord:
    found = _found(connection, workspace, name)
    if found is None:
        raise UnknownRecordError(
            f"there is no principal {name[:100]!r}", fix=f"make it: stepbox principals create {name[:100]} --role ROLE"
        )
    return found


def _taken(name: str, *, was: bool) -> NameTakenError:
    if was:
        return NameTakenError(
            f"there was a principal '{name}', and what it did has its name", fix="choose a name that nobody had"
        )
    return NameTakenError(f"there is a principal '{name}' already", fix=f"see it: stepbox principals show {name}")


def _principal(connection: Connection, row: Row[Any]) -> PrincipalRecord:
    grants = connection.execute(_GRANTS, {"this": row.id}).all()
    return PrincipalRecord(
        id=row.id,
        workspace=row.workspace,
        name=row.name,
        kind=row.kind,
        role=row.role,
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        grants=tuple(
            Grant(kind=each.kind, pattern=each.pattern, granted_by=each.granted_by, granted_at=each.granted_at)
            for each in grants
        ),
    )

"""Workspaces."""

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Table, delete, func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from engine.records import DEFAULT_WORKSPACE
from engine.store.database import Database
from engine.store.errors import NameTakenError, UnknownRecordError, WorkspaceInUseError
from engine.store.principal_tables import GrantTable, PrincipalTable, TokenTable
from engine.store.tables import Table as StoreTable
from engine.store.tables import WorkspaceTable
from engine.workspaces import Workspace

_TABLE = WorkspaceTable.__table__
_PRINCIPALS = PrincipalTable.__table__
_GO_WITH_IT: Final = ("principal", "trigger_state", "start_key", "workspace_policy")
_STAY: Final = ("audit_entry", "audit_head")
"""What tells of a workspace also when it is gone, and keeps none."""
"""Tables that don't make a workspace one that is in use."""


class Workspaces:
    """The workspaces of an installation. Every method is one transaction, or joins the caller's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, name: str) -> Workspace:
        """Make a workspace. Raises :class:`NameTakenError` where there is one of that name."""
        made = Workspace(name=name, created_at=datetime.now(UTC))

        def create(connection: Connection) -> Workspace:
            if connection.scalar(select(_TABLE.c.id).where(_TABLE.c.id == name)) is not None:
                raise NameTakenError(f"there is a workspace '{name}' already", fix="choose another name")
            connection.execute(insert(_TABLE).values(id=name, created_at=made.created_at))
            return made

        return await self._database.write(create)

    async def list(self) -> tuple[Workspace, ...]:
        """All workspaces, by name."""
        rows = await self._database.rows(select(_TABLE).order_by(_TABLE.c.id))
        return tuple(Workspace(name=row.id, created_at=row.created_at) for row in rows)

    async def require(self, name: str) -> None:
        """Raise :class:`UnknownRecordError` where there is no workspace of that name."""
        if not await self._database.rows(select(_TABLE.c.id).where(_TABLE.c.id == name)):
            raise unknown_workspace(name)

    async def delete(self, name: str) -> None:
        """Remove a workspace in which nothing is left but principals, with these.

        Raises:
            UnknownRecordError: there is none of that name.
            WorkspaceInUseError: it is the default one, or something is left in it; the message says what.
        """
        if name == DEFAULT_WORKSPACE:
            raise WorkspaceInUseError(f"the workspace '{name}' is always there", fix="delete another one")

        def remove(connection: Connection) -> None:
            if connection.scalar(select(_TABLE.c.id).where(_TABLE.c.id == name).with_for_update()) is None:
                raise unknown_workspace(name)
            left = _left(connection, name)
            if left:
                raise _in_use(name, left)
            own = select(_PRINCIPALS.c.id).where(_PRINCIPALS.c.workspace == name)
            for table in (GrantTable, TokenTable):
                connection.execute(delete(table).where(col(table.principal_id).in_(own)))
            for each in _tables():
                if each.name in _GO_WITH_IT:
                    connection.execute(delete(each).where(each.c.workspace == name))
            try:
                connection.execute(delete(_TABLE).where(_TABLE.c.id == name))
            except IntegrityError:
                raise _in_use(name, []) from None

        await self._database.write(remove)


def unknown_workspace(name: str) -> UnknownRecordError:
    """Says that there is no such workspace."""
    return UnknownRecordError(
        f"there is no workspace {name[:100]!r}", fix="see the names: stepbox workspaces list; make it: create NAME"
    )


def _tables() -> "list[Table]":
    """The tables whose rows are of a workspace."""
    apart = (_TABLE.name, *_STAY)
    return [each for each in StoreTable.metadata.sorted_tables if "workspace" in each.c and each.name not in apart]


def _left(connection: Connection, name: str) -> list[str]:
    """What keeps a workspace from being deleted, as ``3 run``."""
    left: list[str] = []
    for each in _tables():
        if each.name not in _GO_WITH_IT:
            query: Any = select(func.count()).select_from(each).where(each.c.workspace == name)
            count = connection.scalar(query)
            if count:
                left.append(f"{count} {each.name.replace('_', ' ')}{'' if count == 1 else 's'}")
    return left


def _in_use(name: str, left: list[str]) -> WorkspaceInUseError:
    what = ", ".join(left) or "something"
    return WorkspaceInUseError(
        f"the workspace '{name}' is not empty: it has {what}",
        fix="delete its flows and secrets, and prune its runs and events; what is never deleted keeps it",
    )

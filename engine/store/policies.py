"""The policies of workspaces, each version kept for good."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, bindparam, insert, select

from engine.store.database import Database
from engine.store.locks import hold_name
from engine.store.policy_table import WorkspacePolicyTable
from engine.workspace_policy import PolicyVersion
from flows.values import Json

_TABLE = WorkspacePolicyTable.__table__
_OF_WORKSPACE = select(_TABLE).where(_TABLE.c.workspace == bindparam("of")).order_by(_TABLE.c.number.desc())
_NEWEST = _OF_WORKSPACE.limit(1)
_NUMBERED = _OF_WORKSPACE.where(_TABLE.c.number == bindparam("numbered"))
_BEFORE = _OF_WORKSPACE.where(_TABLE.c.number < bindparam("before")).limit(bindparam("most"))
_ADD = insert(_TABLE)
_BEYOND = 2**31 - 1
"""No version has this number."""


class StoredPolicies:
    """The policies of all workspaces. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lock(self, workspace: str) -> None:
        """Keep others from adding a version until this task's transaction ends."""
        await self._database.write(lambda connection: hold_name(connection, f"policy/{workspace}"))

    async def current(self, workspace: str) -> PolicyVersion:
        """The version in force; number 0, and the default, where there is none."""
        rows = await self._database.rows(_NEWEST, {"of": workspace})
        return _version(rows[0]) if rows else PolicyVersion(workspace=workspace)

    async def find(self, workspace: str, number: int) -> PolicyVersion | None:
        """The version of that number."""
        rows = await self._database.rows(_NUMBERED, {"of": workspace, "numbered": number})
        return _version(rows[0]) if rows else None

    async def list(self, workspace: str, *, limit: int, before: int | None = None) -> tuple[PolicyVersion, ...]:
        """Versions, the newest first; with ``before`` only those with lower numbers."""
        values = {"of": workspace, "before": before or _BEYOND, "most": limit}
        return tuple(map(_version, await self._database.rows(_BEFORE, values)))

    async def add(self, workspace: str, number: int, document: Mapping[str, Json], by: str) -> PolicyVersion:
        """Put a version in force; within a transaction that holds :meth:`lock`."""
        now = datetime.now(UTC)
        version = PolicyVersion(workspace=workspace, number=number, document=document, set_by=by, set_at=now)
        await self._database.execute(
            _ADD, {"workspace": workspace, "number": number, "document": dict(document), "set_by": by, "set_at": now}
        )
        return version


def _version(row: Row[Any]) -> PolicyVersion:
    return PolicyVersion(
        workspace=row.workspace, number=row.number, document=row.document, set_by=row.set_by, set_at=row.set_at
    )

"""Who did what."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Protocol

from engine.audit import AuditEntry
from engine.audit_verdict import Verdict
from engine.records import Page


class AuditUseCases(Protocol):
    """Who did what."""

    async def audit(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        since: datetime | None = None,
        run: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[AuditEntry]:
        """The entries of the workspace, the newest first; see :meth:`engine.store.audit.Audit.list`."""

    async def export_audit(self, *, since: datetime | None = None) -> AsyncIterator[AuditEntry]:
        """All entries of the workspace, or those since a time, the oldest first."""

    async def verify_audit(self, since: Sequence[str] = ()) -> Sequence[Verdict]:
        """Look at the workspace's chain, from a checkpoint on where one of ``since`` is of it.

        In the workspace ``default``, whose admins are the installation's: at the chains of all workspaces.
        Raises InvalidCallError: one of ``since`` is no checkpoint.
        """

    async def rekey_audit(self) -> None:
        """Seal the entries to come by a new key, since the old one is lost; those before can't be verified any more."""

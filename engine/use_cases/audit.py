"""Who did what."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from engine.audit import AuditEntry
from engine.audit_verdict import Checkpoint, Verdict
from engine.records import DEFAULT_WORKSPACE, Page
from engine.store import Store
from engine.use_cases.acting import Acting
from engine.use_cases.cursors import number


class AuditUseCases(Acting):
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
        self._may("audit.read")
        before = None if cursor is None else number(cursor)
        store = await self._parts.store()
        return await store.audit.list(
            workspace=self._workspace, actor=actor, action=action, since=since, run=run, limit=limit, before=before
        )

    async def export_audit(self, *, since: datetime | None = None) -> AsyncIterator[AuditEntry]:
        self._may("audit.read")
        store = await self._parts.store()
        after = None if since is None else since.isoformat()
        await store.audit.append(workspace=self._workspace, action="audit.export", details={"since": after})
        return _entries(store, self._workspace, since)

    async def verify_audit(self, since: Sequence[str] = ()) -> Sequence[Verdict]:
        self._may("audit.read")
        checkpoints = {one.workspace: one for one in map(Checkpoint.parse, since)}
        store = await self._parts.store()
        chains = [self._workspace]
        if self._workspace == DEFAULT_WORKSPACE:
            chains = sorted({*chains, *await store.audit.chains(), *checkpoints})
        return [await store.audit.verify(chain, since=checkpoints.get(chain)) for chain in chains]

    async def rekey_audit(self) -> None:
        self._may("audit.change")
        await (await self._parts.store()).audit.rekey(workspace=self._workspace)


async def _entries(store: Store, workspace: str, since: datetime | None) -> AsyncIterator[AuditEntry]:
    last = 0
    while batch := await store.audit.after(last, workspace=workspace, since=since):
        for entry in batch:
            yield entry
        last = batch[-1].number

"""The audit of a service elsewhere."""

import json
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from urllib.parse import quote

from engine.audit import AuditEntry
from engine.audit_documents import entry_of, verdict_of
from engine.audit_verdict import Verdict
from engine.records import Page
from engine.remote.calling import Calling
from engine.remote.client import PATIENT
from flows.errors import InvalidCallError


class HomeOnlyError(InvalidCallError):
    """What is done on the machine whose home has the key."""

    code = "only_there"


class AuditCalls(Calling):
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
        after = None if since is None else since.isoformat()
        query = {"actor": actor, "action": action, "since": after, "run": run, "limit": limit, "cursor": cursor}
        page = await self._client.call("GET", "/audit", query=query)
        return Page(items=tuple(entry_of(one) for one in page["items"]), next=page["next"])

    async def export_audit(self, *, since: datetime | None = None) -> AsyncIterator[AuditEntry]:
        return self._entries("" if since is None else f"?since={quote(since.isoformat(), safe='')}")

    async def _entries(self, query: str) -> AsyncIterator[AuditEntry]:
        async with self._client.stream(f"/audit/export{query}", after=None) as lines:
            async for line in lines:
                yield entry_of(json.loads(line))

    async def verify_audit(self, since: Sequence[str] = ()) -> Sequence[Verdict]:
        body = {"since": list(since)}
        answer = await self._client.call("POST", "/audit/verify", body=body, patience=PATIENT)
        return [verdict_of(one) for one in answer["items"]]

    async def rekey_audit(self) -> None:
        raise HomeOnlyError(
            "the audit's key belongs to the machine of the service",
            fix="run stepbox audit rekey there, or unset STEPBOX_URL",
        )

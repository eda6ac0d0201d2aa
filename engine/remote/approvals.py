"""What runs ask of people."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from engine.questions import Approval, Decision
from engine.records import Page
from engine.remote import records
from engine.remote.calling import Calling
from engine.service import ApprovalDetail
from flows.values import Json

if TYPE_CHECKING:
    from engine.links import SignedLink


class ApprovalCalls(Calling):
    """What runs ask of people."""

    async def approvals(
        self, *, run: str | None, undecided: bool, limit: int | None = None, cursor: str | None = None
    ) -> Page[Approval]:
        query = {"run": run, "decided": "false" if undecided else "true"}
        if limit is None:
            found = await self._client.pages("/approvals", query=query)
            return Page(items=tuple(records.approval(one) for one in found))
        page = await self._client.call("GET", "/approvals", query={**query, "limit": limit, "cursor": cursor})
        return Page(items=tuple(records.approval(one) for one in page["items"]), next=page["next"])

    async def decide(
        self,
        target: str,
        decision: Decision,
        *,
        pairs: Mapping[str, str],
        comment: str | None,
        values: Mapping[str, Json] | None = None,
    ) -> tuple[Approval, str | None]:
        action = "approve" if decision == "approved" else "reject"
        body = {"comment": comment, "texts": dict(pairs), "values": dict(values or {})}
        decided = await self._client.call("POST", f"/approvals/{quote(target, safe='')}/{action}", body=body)
        run: str | None = decided["resumes"]
        if run is not None:
            self._decided.add(run)
        return records.approval(decided), run

    async def approval(self, target: str) -> ApprovalDetail:
        return records.approval_detail(await self._client.call("GET", f"/approvals/{quote(target, safe='')}"))

    async def revoke_approval(self, target: str) -> Approval:
        return records.approval(await self._client.call("POST", f"/approvals/{quote(target, safe='')}/revoke"))

    async def approval_link(self, target: str, principal: str, *, lasts: float | None = None) -> "SignedLink":
        from engine.links import SignedLink  # noqa: PLC0415 - few commands need it

        body = {"principal": principal, "lasts": lasts}
        made = await self._client.call("POST", f"/approvals/{quote(target, safe='')}/links", body=body)
        return SignedLink(
            url=made["url"], principal=made["principal"], expires_at=datetime.fromisoformat(made["expires_at"])
        )

"""What runs ask of people."""

from collections.abc import Mapping
from urllib.parse import quote

from engine.records import Approval, Decision, Page
from engine.remote import records
from engine.remote.calling import Calling
from flows.values import Json


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
    ) -> tuple[Approval, str]:
        action = "approve" if decision == "approved" else "reject"
        body = {"comment": comment, "texts": dict(pairs), "values": dict(values or {})}
        decided = await self._client.call("POST", f"/approvals/{quote(target, safe='')}/{action}", body=body)
        run = str(decided["resumes"])
        self._decided.add(run)
        return records.approval(decided), run

"""The policy of a workspace of a service elsewhere."""

from collections.abc import Mapping
from datetime import datetime

from engine.records import Page
from engine.remote.calling import Calling
from engine.service import Precondition
from engine.service.policy import PolicyChange
from engine.workspace_policy import PolicyVersion
from flows.values import Json


class PolicyCalls(Calling):
    """The use cases of :class:`engine.service.policy.PolicyUseCases`, over HTTP."""

    async def policy(self) -> PolicyVersion:
        return _version(await self._client.call("GET", "/policy"))

    async def policy_version(self, number: int) -> PolicyVersion:
        return _version(await self._client.call("GET", f"/policy/versions/{number}"))

    async def policy_versions(self, *, limit: int = 50, cursor: str | None = None) -> Page[PolicyVersion]:
        page = await self._client.call("GET", "/policy/versions", query={"limit": limit, "cursor": cursor})
        return Page(items=tuple(_version(one) for one in page["items"]), next=page["next"])

    async def set_policy(
        self, document: Mapping[str, Json], *, precondition: Precondition | None = None, dry_run: bool = False
    ) -> PolicyChange:
        headers = {} if precondition is None else {"If-Match": f'"{precondition.tag}"'}
        body = {"policy": dict(document), "dry_run": dry_run}
        done = await self._client.call("PUT", "/policy", body=body, headers=headers)
        return PolicyChange(version=_version(done), previous=done["previous"], change=done["change"], diff=done["diff"])


def _version(one: Mapping[str, Json]) -> PolicyVersion:
    return PolicyVersion(
        workspace=one["workspace"],
        number=one["number"],
        document=one["policy"],
        set_by=one["set_by"],
        set_at=None if one["set_at"] is None else datetime.fromisoformat(one["set_at"]),
    )

"""Who may act in the workspace."""

from urllib.parse import quote

from engine.principals import GrantPatterns, PrincipalKind, PrincipalRecord
from engine.records import Page, Role
from engine.remote.calling import Calling
from engine.remote.principal_records import principal
from flows.values import Json


class PrincipalCalls(Calling):
    """Who may act in the workspace: people and services, their roles, and what they are granted."""

    async def principals(self, *, limit: int | None = None, cursor: str | None = None) -> Page[PrincipalRecord]:
        if limit is None:
            return Page(items=tuple(principal(one) for one in await self._client.pages("/principals")))
        page = await self._client.call("GET", "/principals", query={"limit": limit, "cursor": cursor})
        return Page(items=tuple(principal(one) for one in page["items"]), next=page["next"])

    async def principal(self, name: str) -> PrincipalRecord:
        return principal(await self._client.call("GET", _path(name)))

    async def create_principal(
        self, name: str, *, role: Role, kind: PrincipalKind = "person", grants: GrantPatterns | None = None
    ) -> PrincipalRecord:
        body = {"name": name, "role": role, "kind": kind, **_patterns(grants or GrantPatterns())}
        return principal(await self._client.call("POST", "/principals", body=body))

    async def set_role(self, name: str, role: Role) -> PrincipalRecord:
        return principal(await self._client.call("PUT", f"{_path(name)}/role", body={"role": role}))

    async def enable_principal(self, name: str, *, enabled: bool) -> PrincipalRecord:
        action = "enable" if enabled else "disable"
        return principal(await self._client.call("POST", f"{_path(name)}/{action}"))

    async def delete_principal(self, name: str) -> None:
        await self._client.call("DELETE", _path(name))

    async def grant(self, name: str, grants: GrantPatterns) -> PrincipalRecord:
        return principal(await self._client.call("POST", f"{_path(name)}/grant", body=_patterns(grants)))

    async def ungrant(self, name: str, grants: GrantPatterns) -> PrincipalRecord:
        return principal(await self._client.call("POST", f"{_path(name)}/revoke", body=_patterns(grants)))


def _path(name: str) -> str:
    return f"/principals/{quote(name, safe='')}"


def _patterns(grants: GrantPatterns) -> dict[str, Json]:
    return {"tools": list(grants.tools), "flows": list(grants.flows)}

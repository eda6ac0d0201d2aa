"""Who may act in the workspace."""

from engine.principals import GrantPatterns, PrincipalKind, PrincipalRecord
from engine.reach import EVERYTHING
from engine.records import Page, Role
from engine.use_cases.acting import Acting
from engine.use_cases.cursors import no_cursor
from engine.use_cases.patterns import check_grants, check_name
from flows.errors import InvalidCallError
from flows.names import NAME
from flows.values import Json


class PrincipalUseCases(Acting):
    """Who may act in the workspace: people and services, their roles, and what they are granted."""

    async def principals(self, *, limit: int | None = None, cursor: str | None = None) -> Page[PrincipalRecord]:
        self._may("principals.read")
        if cursor is not None and not NAME.fullmatch(cursor):
            raise no_cursor(cursor)
        store = await self._parts.store()
        return await store.principals.list(workspace=self._workspace, limit=limit, after=cursor)

    async def principal(self, name: str) -> PrincipalRecord:
        self._may("principals.read")
        return await (await self._parts.store()).principals.find(name, workspace=self._workspace)

    async def create_principal(
        self, name: str, *, role: Role, kind: PrincipalKind = "person", grants: GrantPatterns | None = None
    ) -> PrincipalRecord:
        self._may("principals.change")
        check_name(name, "a principal")
        given = check_grants(grants or GrantPatterns())
        given = GrantPatterns(tools=given.tools or (EVERYTHING,), flows=given.flows or (EVERYTHING,))
        store = await self._parts.store()
        details = {"role": role, "kind": kind, **_patterns(given)}
        async with store.transaction():
            made = await store.principals.create(
                name, kind=kind, role=role, grants=given, by=self._principal.name, workspace=self._workspace
            )
            await self._record(store, "principal.create", "principal", name, details)
        return made

    async def set_role(self, name: str, role: Role) -> PrincipalRecord:
        self._may("principals.change")
        store = await self._parts.store()
        async with store.transaction():
            changed = await store.principals.set_role(name, role, workspace=self._workspace)
            await self._record(store, "principal.set_role", "principal", name, {"role": role})
        return changed

    async def enable_principal(self, name: str, *, enabled: bool) -> PrincipalRecord:
        self._may("principals.change")
        store = await self._parts.store()
        async with store.transaction():
            changed = await store.principals.enable(name, enabled=enabled, workspace=self._workspace)
            await self._record(store, "principal.enable" if enabled else "principal.disable", "principal", name)
        return changed

    async def delete_principal(self, name: str) -> None:
        self._may("principals.change")
        store = await self._parts.store()
        async with store.transaction():
            await store.principals.delete(name, workspace=self._workspace)
            await self._record(store, "principal.delete", "principal", name)

    async def grant(self, name: str, grants: GrantPatterns) -> PrincipalRecord:
        self._may("principals.change")
        given, by = _some(check_grants(grants)), self._principal.name
        store = await self._parts.store()
        async with store.transaction():
            changed = await store.principals.grant(name, given, by=by, workspace=self._workspace)
            await self._record(store, "grant.add", "principal", name, _patterns(given))
        return changed

    async def ungrant(self, name: str, grants: GrantPatterns) -> PrincipalRecord:
        self._may("principals.change")
        given = _some(check_grants(grants))
        store = await self._parts.store()
        async with store.transaction():
            changed = await store.principals.revoke(name, given, workspace=self._workspace)
            await self._record(store, "grant.remove", "principal", name, _patterns(given))
        return changed


def _patterns(grants: GrantPatterns) -> dict[str, Json]:
    return {"tools": list(grants.tools), "flows": list(grants.flows)}


def _some(grants: GrantPatterns) -> GrantPatterns:
    if not grants.tools and not grants.flows:
        raise InvalidCallError("no tool and no flow is named", fix="name some: --tool PATTERN, --flow PATTERN")
    return grants

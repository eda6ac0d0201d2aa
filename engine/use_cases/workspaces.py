"""Workspaces of the installation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.principals import GrantPatterns
from engine.reach import EVERYTHING
from engine.store import Store
from engine.use_cases.acting import Acting
from engine.use_cases.patterns import check_name
from engine.workspaces import Workspace

if TYPE_CHECKING:
    from engine.tokens import IssuedToken


class WorkspaceUseCases(Acting):
    """Workspaces, which the admins of the default one look after."""

    async def workspaces(self) -> Sequence[Workspace]:
        self._may("workspaces.read")
        return await (await self._parts.store()).workspaces.list()

    async def create_workspace(self, name: str, *, admin: str | None = None) -> "tuple[Workspace, IssuedToken | None]":
        self._may("workspaces.change")
        check_name(name, "a workspace")
        if admin is not None:
            self._may_open_all()
            check_name(admin, "a principal")
        store = await self._parts.store()
        async with store.transaction():
            made = await store.workspaces.create(name)
            issued = None if admin is None else await self._first_token(store, name, admin)
            await self._record(store, "workspace.create", "workspace", name, {"admin": admin})
        await self._tell_changed()
        return made, issued

    async def _first_token(self, store: Store, workspace: str, admin: str) -> "IssuedToken":
        from engine.tokens import issue  # noqa: PLC0415 - argon2, which other use cases don't need

        everything = GrantPatterns(tools=(EVERYTHING,), flows=(EVERYTHING,))
        principal = await store.principals.create(
            admin, kind="person", role="admin", grants=everything, by=self._principal.name, workspace=workspace
        )
        return await issue(store, principal)

    async def delete_workspace(self, name: str) -> None:
        self._may("workspaces.change")
        store = await self._parts.store()
        async with store.transaction():
            await store.workspaces.delete(name)
            await self._record(store, "workspace.delete", "workspace", name)
        await self._tell_changed()

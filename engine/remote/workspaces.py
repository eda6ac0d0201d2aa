"""Workspaces of the installation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from engine.remote.calling import Calling
from engine.remote.principal_records import token, workspace
from engine.workspaces import Workspace

if TYPE_CHECKING:
    from engine.tokens import IssuedToken


class WorkspaceCalls(Calling):
    """Workspaces, which the admins of the default one look after."""

    async def workspaces(self) -> Sequence[Workspace]:
        return [workspace(one) for one in await self._client.pages("/workspaces")]

    async def create_workspace(self, name: str, *, admin: str | None = None) -> "tuple[Workspace, IssuedToken | None]":
        from engine.tokens import IssuedToken  # noqa: PLC0415 - argon2, which other use cases don't need

        made = await self._client.call("POST", "/workspaces", body={"name": name, "admin": admin})
        issued = made["token"]
        return workspace(made), None if issued is None else IssuedToken(record=token(issued), text=issued["token"])

    async def delete_workspace(self, name: str) -> None:
        await self._client.call("DELETE", f"/workspaces/{quote(name, safe='')}")

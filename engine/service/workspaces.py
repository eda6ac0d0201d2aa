"""Workspaces of the installation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from engine.workspaces import Workspace

if TYPE_CHECKING:
    from engine.tokens import IssuedToken


class WorkspaceUseCases(Protocol):
    """Workspaces, which the admins of the default one look after."""

    async def workspaces(self) -> Sequence[Workspace]:
        """All workspaces, by name."""

    async def create_workspace(self, name: str, *, admin: str | None = None) -> "tuple[Workspace, IssuedToken | None]":
        """Make a workspace; with ``admin``, a principal of that name who is its admin, and a token of it.

        Raises:
            NameTakenError: there is one of that name.
            InvalidCallError: a name isn't one.
        """

    async def delete_workspace(self, name: str) -> None:
        """Remove a workspace in which nothing is left but principals.

        Raises:
            UnknownRecordError: there is none of that name.
            WorkspaceInUseError: it is the default one, or something is left in it.
        """

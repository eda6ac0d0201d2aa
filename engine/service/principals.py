"""Who may act in the workspace."""

from typing import Protocol

from engine.principals import GrantPatterns, PrincipalKind, PrincipalRecord
from engine.records import Page, Role


class PrincipalUseCases(Protocol):
    """Who may act in the workspace: people and services, their roles, and what they are granted."""

    async def principals(self, *, limit: int | None = None, cursor: str | None = None) -> Page[PrincipalRecord]:
        """The principals of the workspace, by name."""

    async def principal(self, name: str) -> PrincipalRecord:
        """The principal of that name. Raises :class:`UnknownRecordError` where there is none."""

    async def create_principal(
        self, name: str, *, role: Role, kind: PrincipalKind = "person", grants: GrantPatterns | None = None
    ) -> PrincipalRecord:
        """Make a principal. What ``grants`` leaves out of tools or of flows is granted whole.

        Raises:
            NameTakenError: there is one of that name, or ever was.
            InvalidCallError: the name or a pattern isn't one.
        """

    async def set_role(self, name: str, role: Role) -> PrincipalRecord:
        """Give a principal another role; raises as :meth:`enable_principal`."""

    async def enable_principal(self, name: str, *, enabled: bool) -> PrincipalRecord:
        """Let a principal act, or not: its tokens open nothing meanwhile, and runs that act for it go no further.

        Raises:
            UnknownRecordError: there is none of that name.
            LastAdminError: nobody else could administer the installation.
        """

    async def delete_principal(self, name: str) -> None:
        """Take a principal away; raises as :meth:`enable_principal`. What it did stays; nobody else gets its name."""

    async def grant(self, name: str, grants: GrantPatterns) -> PrincipalRecord:
        """Grant a principal tools and flows. Raises InvalidCallError where a pattern is none, or there is nobody."""

    async def ungrant(self, name: str, grants: GrantPatterns) -> PrincipalRecord:
        """Take grants back, by the patterns that were granted. Raises :class:`UnknownRecordError` where one wasn't."""

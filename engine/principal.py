"""Who acts."""

from dataclasses import dataclass
from typing import Final, Literal

from engine.reach import EVERYTHING, Reach
from engine.records import DEFAULT_WORKSPACE, LOCAL, Role


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who asks for something, in which workspace.

    ``token`` is the id of its token; None on this machine, and for a signed link, which opens one question only.
    ``scopes`` are patterns of the actions that the token is for, ``only_flows`` of the flows, and ``granted_flows`` of
    those that the principal is granted. ``door`` is what it came through, and ``address`` from where, where that
    is known: the audit tells them.
    """

    name: str
    workspace: str
    role: Role
    kind: Literal["local", "token", "link"]
    token: str | None = None
    scopes: tuple[str, ...] = (EVERYTHING,)
    only_flows: tuple[str, ...] = (EVERYTHING,)
    granted_flows: tuple[str, ...] = (EVERYTHING,)
    door: str | None = None
    address: str | None = None

    @property
    def flows(self) -> Reach:
        """The flows that it may see, with all that hangs on them, and, as its role allows, change and start."""
        return Reach.within(self.granted_flows, self.only_flows)


def local_admin(workspace: str) -> Principal:
    """Whoever may use the home directory of an installation by its command line, in one of its workspaces."""
    return Principal(name=LOCAL, workspace=workspace, role="admin", kind="local", door="cli")


LOCAL_ADMIN: Final = local_admin(DEFAULT_WORKSPACE)

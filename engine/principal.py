"""Who acts."""

from dataclasses import dataclass
from typing import Final, Literal

from engine.records import Role


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who asks for something, in which workspace.

    ``token`` is the id of its token; None on this machine, and for a signed link, which opens one question only.
    """

    name: str
    workspace: str
    role: Role
    kind: Literal["local", "token", "link"]
    token: str | None = None


LOCAL_ADMIN: Final = Principal(name="local", workspace="default", role="admin", kind="local")
"""Whoever may use the home directory of an installation by its command line."""

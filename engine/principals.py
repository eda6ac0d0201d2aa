"""Who may act in a workspace: people and services, their roles, and what they are granted."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from engine.reach import EVERYTHING
from engine.records import Role

PrincipalKind: TypeAlias = Literal["person", "service"]
GrantKind: TypeAlias = Literal["tool", "flow"]


@dataclass(frozen=True, kw_only=True)
class Grant:
    """Tools that a principal may use, or flows that it may see, change and start: ``*`` stands for any text."""

    kind: GrantKind
    pattern: str
    granted_by: str
    granted_at: datetime


@dataclass(frozen=True, kw_only=True)
class PrincipalRecord:
    """A person or a service of a workspace. ``disabled_at`` is None while it may act."""

    id: str
    workspace: str
    name: str
    kind: PrincipalKind
    role: Role
    created_at: datetime
    disabled_at: datetime | None = None
    grants: tuple[Grant, ...] = ()

    @property
    def is_enabled(self) -> bool:
        """Whether it may act at all."""
        return self.disabled_at is None

    def patterns(self, kind: GrantKind) -> tuple[str, ...]:
        """What it is granted of a kind. An admin isn't limited by grants."""
        if self.role == "admin":
            return (EVERYTHING,)
        return tuple(grant.pattern for grant in self.grants if grant.kind == kind)


@dataclass(frozen=True, kw_only=True)
class TokenRecord:
    """What is known of a token; its text is known to its holder only. ``digest`` is the argon2 hash of that.

    ``scopes`` are patterns of the actions that it opens, of those its principal may do; ``only_flows`` of the flows.
    ``disabled_at`` is its principal's.
    """

    id: str
    workspace: str
    principal_id: str
    principal: str
    role: Role
    digest: str
    scopes: tuple[str, ...] = (EVERYTHING,)
    only_flows: tuple[str, ...] = (EVERYTHING,)
    disabled_at: datetime | None = None
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def is_valid(self, at: datetime) -> bool:
        """Whether it opens anything at that time."""
        lasts = self.expires_at is None or at < self.expires_at
        return self.revoked_at is None and self.disabled_at is None and lasts


@dataclass(frozen=True, kw_only=True)
class TokenScope:
    """What a token opens of what its principal may do: patterns of actions and of names of flows, and for how long."""

    actions: Sequence[str] = (EVERYTHING,)
    only_flows: Sequence[str] = (EVERYTHING,)
    expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class GrantPatterns:
    """Patterns of names to grant, or to take back."""

    tools: Sequence[str] = ()
    flows: Sequence[str] = ()

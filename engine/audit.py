"""What the audit tells: who did what, to what, and what came of it; and who acts now."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, TypeAlias

from engine.principal import Principal
from flows.values import Json

Outcome: TypeAlias = Literal["succeeded", "failed", "cancelled", "refused"]
"""What came of it; ``refused``: it was not allowed, or can't be had or enforced here."""


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who acts.

    ``kind`` is that of its principal, or ``run`` for a run that acts for it, ``stepbox`` for what that does by itself,
    as by a trigger, and ``stranger`` for who has shown no valid token. ``door`` is what it came through (``cli``,
    ``api``), ``address`` from where, if known.
    """

    name: str
    kind: str
    token: str | None = None
    door: str | None = None
    address: str | None = None

    @classmethod
    def of(cls, principal: Principal) -> "Actor":
        """A principal, as it came."""
        return cls(
            name=principal.name,
            kind=principal.kind,
            token=principal.token,
            door=principal.door,
            address=principal.address,
        )


STEPBOX: Final = Actor(name="stepbox", kind="stepbox")
"""What nobody asked for at that moment: a schedule, a time that is over, what is old."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What something was done to, such as ``secret`` and its name."""

    kind: str
    id: str


@dataclass(frozen=True, kw_only=True)
class Act:
    """Something that was done, or refused, as it is to be recorded.

    ``run`` is the id of the run that it concerns. ``details`` are JSON without fractions, whose keys are ours: what
    others name stands in values. They are cut to a size where they are larger (:mod:`engine.audit_format`).
    """

    workspace: str
    actor: Actor
    action: str
    target: Target | None = None
    run: str | None = None
    outcome: Outcome = "succeeded"
    details: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """An act in the chain of its workspace.

    ``number`` counts from 1. ``previous`` is the hash of the entry before, ``key`` the id of the key that seals,
    ``text`` what the hash is of (:mod:`engine.audit_format`); ``hash`` and ``seal`` are hexadecimal.
    """

    number: int
    at: datetime
    act: Act
    previous: str
    key: str
    text: str
    hash: str
    seal: str


_ACTING: Final[ContextVar[Actor | None]] = ContextVar("acting", default=None)


@contextmanager
def acting_as(actor: Actor) -> Iterator[None]:
    """Let what is done inside the block, also by tasks that it starts, be this actor's doing."""
    token = _ACTING.set(actor)
    try:
        yield
    finally:
        _ACTING.reset(token)


def acting() -> Actor | None:
    """Whose doing it is what this task does; None where nobody asked for it."""
    return _ACTING.get()

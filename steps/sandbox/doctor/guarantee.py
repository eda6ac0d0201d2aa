"""What a guarantee is: a promise, the code that tries to break it, and how its success is told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from flows.values import Json, StepStatus
from steps.sandbox.doctor.canaries import Canaries
from steps.sandbox.doctor.sights import Sight
from steps.sandbox.limits import MB, Language, Limits
from steps.sandbox.protocol import Outcome

Verdict = Literal["enforced", "watched", "missing"]
Subject = Literal["machine", "network", "privileges", "limits", "channel", "remains"]

LOOK = "doctor.look"
"""The tool by which an attack lets the host look at it while it waits, and start its neighbour."""
DISTRUST = "run no code here that you don't trust; choose another runner by STEPBOX_RUNNER"

MODEST = Limits(timeout=15.0, grace=0.2, memory=128 * MB, disk=4 * MB)
"""The limits of an attack that is not on a limit."""


class AttackFailedError(Exception):
    """An attack did not come to its end, so that it proves nothing."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Whether the guarantee held, and what was seen: one short line."""

    held: bool
    evidence: str


def held(evidence: str) -> Reading:
    return Reading(held=True, evidence=evidence)


def broken(evidence: str) -> Reading:
    return Reading(held=False, evidence=evidence)


@dataclass(kw_only=True)
class Trial:
    """One attack and all that was observed of it.

    ``looks`` holds, for each time the attack called :data:`LOOK`, the marked processes that the host saw;
    ``said`` what the attack told then. ``calls`` are the calls of other tools that reached the host; ``lingering`` the
    marked processes that were there after the sandbox had ended; ``other`` the outcome of the neighbour or successor.
    """

    canaries: Canaries
    mark: str
    limits: Limits
    outcome: Outcome | None = None
    looks: list[list[Sight]] = field(default_factory=list)
    said: list[Json] = field(default_factory=list)
    found_at_look: list[str] = field(default_factory=list)
    calls: list[tuple[str, Json]] = field(default_factory=list)
    lingering: list[Sight] = field(default_factory=list)
    other: Outcome | None = None

    @property
    def ended(self) -> Outcome:
        """How the attack ended."""
        assert self.outcome is not None
        return self.outcome

    @property
    def result(self) -> Any:
        """What the attack found. Raises :class:`AttackFailedError` where it didn't come to its end."""
        return _result(self.ended)

    @property
    def result_of_other(self) -> Any:
        """What the neighbour or the successor found."""
        if self.other is None:
            raise AttackFailedError("the second sandbox was never started")
        return _result(self.other)

    @property
    def sights(self) -> list[Sight]:
        """Every process of the attack that the host saw at any time."""
        return [sight for look in self.looks for sight in look]


def _result(outcome: Outcome) -> Any:
    if outcome.status is not StepStatus.SUCCEEDED:
        error = outcome.error.message if outcome.error else ""
        raise AttackFailedError(f"the attack {outcome.status.value.replace('_', ' ')}: {error}"[:300])
    return outcome.result


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """One promise of the sandbox and how it is tried.

    ``code`` runs in a sandbox of its own, with the canaries among its inputs; ``read`` says what came of it.
    ``neighbour`` runs in a second sandbox when the first one calls :data:`LOOK`, with what that told as inputs;
    ``successor`` runs in one that is started once the first has ended. ``limit`` is the name of the limit in
    :meth:`steps.sandbox.protocol.Runner.enforcement`, None where there is nothing between enforced and missing.
    ``fallback`` are the limits where the runner refuses ``limits``. ``alone`` keeps other attacks away meanwhile, where
    they would disturb what is measured. ``fix`` is for a machine where the promise doesn't hold.
    """

    id: str
    subject: Subject
    promise: str
    code: str
    read: Callable[[Trial], Reading]
    fix: str = DISTRUST
    language: Language = "python"
    limits: Limits = MODEST
    fallback: Limits | None = None
    limit: str | None = None
    inputs: Mapping[str, Json] = field(default_factory=dict)
    neighbour: str | None = None
    successor: str | None = None
    tools: tuple[str, ...] = ()
    alone: bool = False


def some(names: Sequence[str], *, most: int = 3) -> str:
    """The first few names, as text."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

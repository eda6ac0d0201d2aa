"""What looking at a chain of the audit comes to."""

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from flows.errors import InvalidCallError

Fault: TypeAlias = Literal["changed", "missing", "order", "added", "cut", "head", "key", "broken", "checkpoint"]
"""What is wrong: an entry was changed; is missing; stands where another belongs; was added by somebody without the key;
the end was cut off; the head was changed; the key is another one or missing; an earlier tampering was found when
Stepbox went on; it is not the chain that a checkpoint was of."""

_CHECKPOINT: Final = re.compile(r"([A-Za-z0-9_-]{1,64}):(\d{1,18}):([0-9a-f]{64})")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """How far a chain had come, for somebody to keep elsewhere and give back: ``WORKSPACE:NUMBER:HASH``."""

    workspace: str
    number: int
    hash: str

    def __str__(self) -> str:
        return f"{self.workspace}:{self.number}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """A checkpoint as it was printed. Raises InvalidCallError."""
        found = _CHECKPOINT.fullmatch(text.strip())
        if found is None:
            raise InvalidCallError(
                f"{text[:100]!r} is no checkpoint", fix="give one that `stepbox audit verify` printed: NAME:NUMBER:HASH"
            )
        return cls(workspace=found[1], number=int(found[2]), hash=found[3])


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The first thing that is wrong with a chain; ``number`` is the entry where it shows."""

    fault: Fault
    number: int
    message: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A chain, looked at from its entry ``first`` to ``last``; both 0 where it has none.

    ``checkpoint`` is its end, None where there is a problem. ``notes`` are what could not be looked at.
    """

    workspace: str
    entries: int
    first: int = 0
    last: int = 0
    checkpoint: Checkpoint | None = None
    problem: Problem | None = None
    notes: tuple[str, ...] = ()

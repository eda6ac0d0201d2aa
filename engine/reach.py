"""Which names somebody may reach: patterns, all of whose groups must let a name through."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from triggers.event.patterns import like

EVERYTHING: Final = "*"


@dataclass(frozen=True, kw_only=True)
class Reach:
    """The names that one pattern of each group fits, in which ``*`` stands for any text. Without groups: all names."""

    groups: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def within(cls, *groups: Sequence[str]) -> "Reach":
        """Names that a pattern of every group fits."""
        return cls(groups=tuple(tuple(group) for group in groups if EVERYTHING not in group))

    @property
    def is_all(self) -> bool:
        """Whether it keeps nothing out."""
        return not self.groups

    def covers(self, name: str) -> bool:
        """Whether a name is let through."""
        return all(fits(group, name) for group in self.groups)


ALL: Final = Reach()


def fits(patterns: Sequence[str], name: str) -> bool:
    """Whether one of the patterns fits a name.

    The name may be a pattern itself: then one that fits it fits all that it fits, since only a ``*`` takes a ``*``.
    """
    return any(like(pattern, name) for pattern in patterns)

"""Domains that nothing in a workspace may reach, whatever a step's own allowlist says."""

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

_LABEL: Final = r"[a-z0-9*](?:[a-z0-9*-]{0,61}[a-z0-9*])?"
_PATTERN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MAX_NAME: Final = 253


@dataclass(frozen=True)
class DeniedDomains:
    """Patterns of names, each without a :func:`pattern_problem`.

    ``example.com`` has that name and every one below it. ``*`` stands for any text within a label, so ``*.example.com``
    has what is below only, and ``ads-*.example.net`` each such name with what is below it. Ports don't matter.
    """

    patterns: tuple[str, ...] = ()
    _labels: tuple[tuple[str, ...], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_labels", tuple(tuple(pattern.split(".")) for pattern in self.patterns))

    def denied_by(self, host: str) -> str | None:
        """The first pattern that has the host, which is as :func:`steps.addresses.normal_host` gives it; None: none."""
        if not self.patterns:
            return None
        labels = host.split(".")
        for pattern, wanted in zip(self.patterns, self._labels, strict=True):
            if len(labels) >= len(wanted) and all(map(fnmatchcase, labels[-len(wanted) :], wanted)):
                return pattern
        return None

    def denied_entry(self, entry: str) -> str | None:
        """The pattern that has all that an entry of an allowlist has, so that the entry allows nothing; None: none."""
        return self.denied_by(entry.partition(":")[0])


NONE_DENIED: Final = DeniedDomains()


def pattern_problem(pattern: str) -> tuple[str, str] | None:
    """Why a pattern isn't one, and the fix; None where it is."""
    shown = pattern[:100]
    problem: tuple[str, str] | None = None
    if not pattern.isascii():
        problem = f"`{shown}` is not in ASCII", "write the name as DNS has it (`xn--…`)"
    elif "/" in pattern:
        problem = f"`{shown}` is an address, not a domain", "write only the name, such as `example.com`"
    elif ":" in pattern:
        problem = f"`{shown}` has a port", "write the name alone: a denied domain is denied at every port"
    elif pattern != pattern.lower():
        problem = f"`{shown}` has capitals", f"write `{shown.lower()}`"
    elif len(pattern) > _MAX_NAME or not _PATTERN.fullmatch(pattern):
        problem = f"`{shown}` is not a domain", "write a name such as `example.com`, or `*.example.com`"
    elif _NUMERIC_LABEL.fullmatch(pattern.rpartition(".")[2]):
        problem = f"`{shown}` is an IP address", "write the name of the host"
    return problem

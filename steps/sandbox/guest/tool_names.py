"""By which names code may call the tools that it was granted."""

from __future__ import annotations

# Importing `typing` alone would take longer than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def callable_names(granted: Iterable[str]) -> dict[str, str]:
    """Full name by callable name: each full name, and each short one that no other granted tool shares."""
    full = list(granted)
    names: dict[str, str] = {}
    ambiguous: set[str] = set()
    for name in full:
        short = name.rpartition(".")[2]
        if short in names:
            ambiguous.add(short)
        names[short] = name
    for short in ambiguous:
        del names[short]
    names.update({name: name for name in full})
    return names


def refusal(name: str, granted: Iterable[str]) -> str:
    """What to tell code that calls a tool by a name that stands for none."""
    candidates = sorted(full for full in granted if full.rpartition(".")[2] == name)
    if candidates:
        return f"the short name {name!r} could be {' or '.join(candidates)}; call it by its full name"
    have = ", ".join(sorted(granted)) or "none"
    return f"the tool {name!r} is not granted to this step; add it to the step's `tools:` (granted: {have})"

"""What led to an event: the chain of runs, by which flows that start each other without end are found.

The chain travels with an event as the CloudEvents extension attribute ``stepboxcauses``: ``flow/run`` for each run, the
first one first, separated by commas. So it survives a way through another system that passes attributes on.
"""

import re
from collections.abc import Iterable
from typing import Final

from flows.events import Event
from flows.names import MAX_NAME, NAME

ATTRIBUTE: Final = "stepboxcauses"
MAX_CAUSES: Final = 16
"""Runs that may lead to an event before it starts nothing more."""
OWN_TYPES: Final = "stepbox."
"""What the types of Stepbox's own events begin with."""
_RUN = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


def read_causes(text: str | None) -> tuple[str, ...]:
    """The chain that an attribute says.

    Raises:
        ValueError: it says none.
    """
    if text is None:
        return ()
    causes = tuple(text.split(","))
    for cause in causes:
        flow, _, run = cause.partition("/")
        if len(flow) > MAX_NAME or not NAME.fullmatch(flow) or not _RUN.fullmatch(run):
            raise ValueError(f"`{ATTRIBUTE}` must be `flow/run`, separated by commas")
    return causes


def write_causes(causes: tuple[str, ...]) -> str:
    """The attribute of a chain."""
    return ",".join(causes)


def caused_by(causes: Iterable[str], *, flow: str, run: str) -> tuple[str, ...]:
    """The chain of an event that comes of a run of ``flow``; ``causes`` is that of what started it."""
    return (*causes, f"{flow}/{run}")


def loop(flow: str, event: Event) -> str | None:
    """Why the event must not start a run of ``flow``, so that no flows start each other without end; else None.

    An event of Stepbox's own (a run has failed, …) never starts a flow that it comes of. Any other may, as flows that
    go through pages do, until the chain is ``MAX_CAUSES`` long.
    """
    flows = [cause.partition("/")[0] for cause in event.causes]
    own = str(event.data.get("type", "")).startswith(OWN_TYPES)
    if own and flow in flows:
        whose = f"a run of `{flow}` itself" if flows[-1] == flow else f"a run that `{flow}` led to"
        return f"a loop: the event tells of {whose}"
    if len(flows) >= MAX_CAUSES:
        return (
            f"a loop: {len(flows)} runs have led to the event one after the other, of {', '.join(sorted(set(flows)))}"
        )
    return None

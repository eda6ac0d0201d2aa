"""Who asks for what a run asks people for."""

from collections.abc import Mapping

from flows.values import Json


def requester_of(trigger: Mapping[str, Json]) -> str | None:
    """The principal for whom a run acts, by what the outermost one records of its start; None: nobody is known.

    Nobody is for a run that was started on this machine: who may use the home may decide anything.
    """
    started_by = trigger.get("trigger")
    by = started_by.get("principal") if isinstance(started_by, Mapping) else None
    return by if isinstance(by, str) and by != LOCAL else None


LOCAL = "local"
"""The name of whoever may use the home; see :data:`engine.principal.LOCAL_ADMIN`."""

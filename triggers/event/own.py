"""Stepbox's own events: what they tell, as CloudEvents that triggers and other systems take.

``SCHEMAS`` is the JSON Schema of ``data`` for each type. A field may be added to one, but none is taken away or changes
its meaning while the type has its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from flows.contracts import StepError
from flows.events import Event
from flows.values import Json
from triggers.event.causes import ATTRIBUTE, write_causes

RunOutcome = Literal["succeeded", "failed", "cancelled"]

_TEXT: Final = {"type": "string"}
_TEXT_OR_NULL: Final = {"type": ["string", "null"]}
_TIME: Final = {"type": "string", "format": "date-time"}
_ERROR: Final = {
    "type": ["object", "null"],
    "properties": {"code": _TEXT, "message": _TEXT},
    "required": ["code", "message"],
    "additionalProperties": False,
}


def _object(**properties: Json) -> dict[str, Json]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_RUN: Final = _object(
    workspace=_TEXT,
    flow=_TEXT,
    version={"type": "integer", "minimum": 1},
    run=_TEXT,
    status={"enum": ["succeeded", "failed", "cancelled"]},
    started_at=_TIME | _TEXT_OR_NULL,
    ended_at=_TIME,
    trigger=_TEXT_OR_NULL,
    error=_ERROR,
)
SCHEMAS: Final[Mapping[str, Mapping[str, Json]]] = {
    "stepbox.run.succeeded": _RUN,
    "stepbox.run.failed": _RUN,
    "stepbox.run.cancelled": _RUN,
    "stepbox.approval.requested": _object(
        workspace=_TEXT,
        flow=_TEXT,
        run=_TEXT,
        step=_TEXT,
        approval=_TEXT,
        message=_TEXT,
        expires_at=_TIME | _TEXT_OR_NULL,
    ),
    "stepbox.trigger.dead": _object(
        workspace=_TEXT,
        flow=_TEXT,
        trigger=_TEXT,
        event=_TEXT,
        attempts={"type": "integer", "minimum": 1},
        error=_ERROR,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where an event of ours comes of: the flow, and the chain of runs that led to it."""

    workspace: str
    flow: str
    causes: tuple[str, ...]

    @property
    def source(self) -> str:
        """The CloudEvents attribute: a relative URI."""
        return f"/workspaces/{self.workspace}/flows/{self.flow}"


def run_ended(
    origin: Origin,
    *,
    run: str,
    version: int,
    status: RunOutcome,
    started_at: datetime | None,
    ended_at: datetime,
    trigger: str | None,
    error: StepError | None,
) -> Event:
    """A run has ended; one that was cancelled in the queue was never started.

    ``trigger`` is the id of what started it. Its output is not in it, since it may be anything.
    """
    data = {
        "version": version,
        "run": run,
        "status": status,
        "started_at": None if started_at is None else started_at.isoformat(),
        "ended_at": ended_at.isoformat(),
        "trigger": trigger,
        "error": _error(error),
    }
    return _event(origin, f"stepbox.run.{status}", subject=run, key=run, at=ended_at, data=data)


def approval_requested(
    origin: Origin,
    *,
    run: str | None,
    step: str | None,
    approval: str,
    message: str,
    at: datetime,
    expires_at: datetime | None,
) -> Event:
    """A step waits for a person; or a flow version does, which has neither run nor step."""
    data = {
        "run": run,
        "step": step,
        "approval": approval,
        "message": message,
        "expires_at": None if expires_at is None else expires_at.isoformat(),
    }
    return _event(origin, "stepbox.approval.requested", subject=run or approval, key=approval, at=at, data=data)


def trigger_dead(
    origin: Origin, *, trigger: str, event: str, attempts: int, at: datetime, error: StepError | None
) -> Event:
    """An event could start no run and is among the dead letters; ``event`` is its id there."""
    data = {"trigger": trigger, "event": event, "attempts": attempts, "error": _error(error)}
    return _event(origin, "stepbox.trigger.dead", subject=trigger, key=f"{trigger}/{event}", at=at, data=data)


def _event(origin: Origin, type_: str, *, subject: str, key: str, at: datetime, data: Mapping[str, Json]) -> Event:
    identity = f"{type_}/{key}"
    attributes: dict[str, Json] = {
        "specversion": "1.0",
        "id": identity,
        "source": origin.source,
        "type": type_,
        "subject": subject,
        "time": at.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": {"workspace": origin.workspace, "flow": origin.flow, **data},
    }
    if origin.causes:
        attributes[ATTRIBUTE] = write_causes(origin.causes)
    return Event(kind="event", key=f"{origin.source} {identity}", occurred_at=at, data=attributes, causes=origin.causes)


def _error(error: StepError | None) -> Json:
    return None if error is None else {"code": error.code, "message": error.message}

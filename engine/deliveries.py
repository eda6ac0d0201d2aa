"""What came in and what became of it, as values: an event, and for each trigger that it concerns a delivery."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from engine import trace_context
from flows.contracts import StepError
from flows.events import Event
from flows.values import Json


class DeliveryStatus(StrEnum):
    """What became of an event at one trigger. All but ``PENDING`` are final; ``DEAD`` can be redriven."""

    PENDING = "pending"
    """It is kept, and is to start a run as soon as can be."""
    STARTED = "started"
    """It started a run."""
    FILTERED = "filtered"
    """The trigger's ``if`` said no, or can't be evaluated, or the event would go round in a loop."""
    DEDUPLICATED = "deduplicated"
    """It had come before."""
    SKIPPED = "skipped"
    """The flow's ``concurrency`` or the schedule's ``catch_up`` passed it over, or the flow is disabled."""
    DEAD = "dead"
    """It could start no run however often that was tried, or never can."""


@dataclass(frozen=True, kw_only=True)
class NewEvent:
    """An event before it is kept.

    ``kind`` is the key of the trigger's kind. ``origin`` says where it came in, such as ``webhook:orders`` or
    ``schedule:report/nightly``; two events of one workspace and origin with the same ``key`` are the same event, and
    None is the key of none. ``data`` is what expressions see as ``event``. ``causes`` are the runs that led to it, as
    ``flow/run``, the first one first. ``traceparent`` is the span that it is a part of.
    """

    workspace: str
    kind: str
    origin: str
    key: str | None
    data: Mapping[str, Json]
    causes: tuple[str, ...] = ()
    traceparent: str | None = None
    occurred_at: datetime

    @classmethod
    def of(cls, event: Event, *, workspace: str, origin: str) -> "NewEvent":
        """What happened, as an event that came in there, for the request or the run that is worked for."""
        here = trace_context.current()
        return NewEvent(
            workspace=workspace,
            kind=event.kind,
            origin=origin,
            key=event.key,
            data=event.data,
            causes=event.causes,
            traceparent=None if here is None else here.header,
            occurred_at=event.occurred_at,
        )


@dataclass(frozen=True, kw_only=True)
class KeptEvent(NewEvent):
    """An event that is kept."""

    id: str
    received_at: datetime


@dataclass(frozen=True, kw_only=True)
class Recipient:
    """A trigger that an event concerns, in the flow version that holds it.

    ``status`` is what becomes of the event there, with the ``reason``, where that is known when it is kept.
    """

    flow: str
    flow_version_id: str
    trigger_id: str
    status: DeliveryStatus = DeliveryStatus.PENDING
    reason: str | None = None
    held: bool = False
    """Whether a pending delivery is due only once it is released (:class:`engine.store.held.Held`)."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What became of an event at one trigger.

    ``attempts`` counts those that failed to start a run, ``error`` is why the last one did, and ``due_at`` is when the
    next one is made; None once it has ended.
    """

    id: str
    event_id: str
    workspace: str
    flow: str
    flow_version_id: str
    trigger_id: str
    status: DeliveryStatus
    reason: str | None = None
    error: StepError | None = None
    run_id: str | None = None
    attempts: int = 0
    due_at: datetime | None = None
    created_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class HeldDelivery:
    """A pending delivery that is due only once it is released, with its event's ``key`` and ``data``."""

    id: str
    event_id: str
    key: str | None
    data: Mapping[str, Json]


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """An event that is kept, with what became of it so far. ``duplicate``: it had come before.

    ``repeats`` is how often it came again, the last time at ``repeated_at``; each of those started nothing more.
    """

    event: KeptEvent
    deliveries: tuple[Delivery, ...]
    duplicate: bool
    repeats: int = 0
    repeated_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class TriggerPosition:
    """Where a trigger stands that remembers something, such as the last time of a schedule that was decided on.

    ``moves`` counts how often it has moved: a move is made from what was read, and fails where another engine has
    moved it meanwhile. 0 is that of one that has no position yet. ``value`` is the trigger kind's own.
    """

    workspace: str
    flow: str
    trigger_id: str
    moves: int
    value: Json

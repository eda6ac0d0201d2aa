"""Brings each delivery to its end: it starts a run, or there is a reason why it doesn't."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from engine import trace_context
from engine.cancellation import happened
from engine.deliveries import Delivery, DeliveryStatus, KeptEvent
from engine.intake.subscriptions import Subscription, subscriptions_of
from engine.plans import KindUnavailableError, Plan
from engine.records import FlowVersion, Run
from engine.store import Store
from engine.store.errors import AlreadyFinishedError, StoreError
from engine.trace_context import TraceContext
from flows.contracts import StepError
from flows.definition import Definition
from flows.errors import FeatureUnavailableError, InvalidCallError, InvalidFlowError, StepboxError
from flows.events import Event
from flows.expressions import ExpressionError
from flows.inputs import InvalidInputError, validate_inputs
from flows.values import Json
from triggers.admission import Filtered, admit

_log = logging.getLogger(__name__)

CLAIM: Final = timedelta(seconds=10)
"""For how long a delivery that was claimed is nobody else's, so after which it starts its run where the engine that
claimed it was killed: longer than any takes that doesn't hang, and each ends once all the same."""
BATCH: Final = 50
"""Deliveries claimed at once."""
AT_ONCE: Final = 8
"""Flows whose deliveries are worked on at once."""
POLL: Final = 2.0
"""Seconds after which deliveries are looked for that another engine, or a clock that was set, left."""
ATTEMPTS: Final = 8
"""After so many a delivery is dead: the last one comes about ten minutes after the first."""
_FIRST_DELAY: Final = timedelta(seconds=5)
_LONGEST_DELAY: Final = timedelta(minutes=5)
_FOR_GOOD: Final = (ExpressionError, InvalidCallError, InvalidFlowError, FeatureUnavailableError, KindUnavailableError)
"""What doesn't go by without a change of a flow or of Stepbox."""


class Starting(Protocol):
    """Creates the run of a delivery."""

    async def plan(self, version: FlowVersion, definition: Definition, inputs: Mapping[str, Json]) -> Plan:
        """Make sure that the flow can run here; raises as :meth:`engine.runs.Runs.plan`."""

    async def create(self, version: FlowVersion, plan: Plan, trigger: Mapping[str, Json]) -> Run | str:
        """Record a queued run, within the caller's transaction; or say why the flow passes this one over."""

    def wake(self) -> None:
        """Say that a queued run is there to be driven."""


@dataclass(kw_only=True)
class _Watched:
    """A delivery whose end somebody waits for; ``run_id`` is what it has started."""

    over: asyncio.Event = field(default_factory=asyncio.Event)
    run_id: str | None = None


class Deliverer:
    """Works on what is due until it is cancelled. Several may, in several engines: each delivery ends once.

    ``load`` gives the definition of a version, None where this Stepbox no longer takes it; ``died`` is called for each
    delivery that becomes dead, in the transaction that ends it.
    """

    def __init__(
        self,
        *,
        store: Store,
        load: Callable[[FlowVersion], Definition | None],
        starting: Starting,
        died: Callable[[Delivery, KeptEvent, StepError], Awaitable[None]],
    ) -> None:
        self._store = store
        self._load = load
        self._starting = starting
        self._died = died
        self._stirred = asyncio.Event()
        self._versions: dict[str, tuple[FlowVersion, dict[str, Subscription]] | None] = {}
        self._watched: dict[str, _Watched] = {}

    def wake(self) -> None:
        """Say that there is something to deliver."""
        self._stirred.set()

    async def ended(self, delivery: Delivery, *, within: float) -> Delivery:
        """A delivery as it has ended, or as it is after so many seconds."""
        watched = self._watched.setdefault(delivery.id, _Watched())
        try:
            await happened(watched.over, within=within)
        finally:
            self._watched.pop(delivery.id, None)
        if watched.run_id is not None:
            return replace(delivery, status=DeliveryStatus.STARTED, run_id=watched.run_id, due_at=None)
        found = await self._store.events.get(delivery.event_id)
        return next(each for each in found.deliveries if each.id == delivery.id)

    async def run(self) -> None:
        """Deliver what is due, and what comes to be, until cancelled. A store that is away is waited for."""
        while True:
            self._stirred.clear()
            try:
                while await self.deliver_due() == BATCH:
                    pass
                pause = await self._pause()
            except StoreError:
                _log.warning("deliveries wait for the database", exc_info=True)
                pause = POLL
            await happened(self._stirred, within=pause)

    async def deliver_due(self) -> int:
        """Work on what is due now, in the order of its coming for each flow; how many that were."""
        now = datetime.now(UTC)
        claimed = await self._store.events.claim(now=now, until=now + CLAIM, limit=BATCH)
        slots = asyncio.Semaphore(AT_ONCE)
        of_flow: dict[tuple[str, str], list[tuple[Delivery, KeptEvent]]] = {}
        for delivery, event in claimed:
            of_flow.setdefault((delivery.workspace, delivery.flow), []).append((delivery, event))

        async def in_order(those: list[tuple[Delivery, KeptEvent]]) -> None:
            async with slots:
                for delivery, event in those:
                    await self._deliver(delivery, event)

        async with asyncio.TaskGroup() as group:
            for those in of_flow.values():
                group.create_task(in_order(those))
        return len(claimed)

    async def _pause(self) -> float:
        due = await self._store.events.next_due()
        if due is None:
            return POLL
        return min(POLL, max(0.0, (due - datetime.now(UTC)).total_seconds()))

    async def _deliver(self, delivery: Delivery, event: KeptEvent) -> None:
        try:
            await self._decide(delivery, event)
        except AlreadyFinishedError:
            _log.info("delivery %s was brought to its end elsewhere", delivery.id)
        except StoreError:
            # Its claim runs out, and it is due again.
            _log.warning("delivery %s waits for the database", delivery.id, exc_info=True)
        except Exception as problem:  # noqa: BLE001 - one poisoned event must not hold up the others
            _log.exception("delivery %s could not start its run", delivery.id)
            with suppress(StoreError):
                await self._failed(delivery, event, problem)
        if (watched := self._watched.get(delivery.id)) is not None:
            watched.over.set()

    async def _decide(self, delivery: Delivery, event: KeptEvent) -> None:
        found = await self._subscription(delivery)
        if isinstance(found, StepError):
            await self._die(delivery, event, found)
            return
        definition = found.definition
        verdict = admit(found.trigger, _as_event(event), flow=delivery.flow, kind=found.kind)
        if isinstance(verdict, Filtered):
            error = StepError(code="invalid_expression", message=verdict.reason) if verdict.error else None
            await self._store.events.end(delivery.id, DeliveryStatus.FILTERED, reason=verdict.reason, error=error)
            return
        try:
            inputs = validate_inputs(definition.flow, verdict.inputs)
        except InvalidInputError as problem:
            message = f"what the trigger's `with` gives doesn't fit the flow: {problem.message}"
            error = StepError(code=problem.code, message=message, fix="change the trigger, then redrive the delivery")
            await self._die(delivery, event, error)
            return
        plan = await self._starting.plan(found.version, definition, inputs)
        with trace_context.within(TraceContext.parse(event.traceparent)):
            run_id = await self._start(delivery, found, plan, event)
        if run_id is not None:
            if (watched := self._watched.get(delivery.id)) is not None:
                watched.run_id = run_id
            self._starting.wake()

    async def _start(self, delivery: Delivery, found: Subscription, plan: Plan, event: KeptEvent) -> str | None:
        """Create the run of a delivery, which ends it; gives the run's id, None where the flow passes it over."""
        async with self._store.transaction():
            made = await self._starting.create(found.version, plan, _trigger(found, event))
            if isinstance(made, str):
                await self._store.events.end(delivery.id, DeliveryStatus.SKIPPED, reason=made)
                return None
            await self._store.events.end(delivery.id, DeliveryStatus.STARTED, run_id=made.id)
        return made.id

    async def _subscription(self, delivery: Delivery) -> Subscription | StepError:
        """The trigger of a delivery, or why there is none."""
        if delivery.flow_version_id not in self._versions:
            version = await self._store.flows.get(delivery.flow_version_id)
            definition = self._load(version)
            self._versions[delivery.flow_version_id] = (
                None
                if definition is None
                else (version, {each.trigger.id: each for each in subscriptions_of(version, definition)})
            )
        found = self._versions[delivery.flow_version_id]
        if found is None:
            message = f"this Stepbox doesn't take the version of `{delivery.flow}` any more"
            return StepError(code="invalid_flow", message=message, fix="apply a valid one, then redrive the delivery")
        subscription = found[1].get(delivery.trigger_id)
        if subscription is None:
            message = f"`{delivery.flow}` has no trigger `{delivery.trigger_id}` any more"
            return StepError(code="unknown_trigger", message=message, fix="give it one of that id, then redrive")
        return subscription

    async def _failed(self, delivery: Delivery, event: KeptEvent, problem: Exception) -> None:
        """Note a failure that may go by, and back off; the last one makes the delivery dead."""
        error = (
            StepError.of(problem)
            if isinstance(problem, StepboxError)
            else StepError(code="internal_error", message=f"{type(problem).__name__}: {problem}")
        )
        if delivery.attempts + 1 >= ATTEMPTS or isinstance(problem, _FOR_GOOD):
            await self._die(delivery, event, error)
            return
        delay = min(_FIRST_DELAY * 2**delivery.attempts, _LONGEST_DELAY)
        await self._store.events.postpone(delivery.id, due_at=datetime.now(UTC) + delay, error=error)

    async def _die(self, delivery: Delivery, event: KeptEvent, error: StepError) -> None:
        async with self._store.transaction():
            await self._store.events.end(delivery.id, DeliveryStatus.DEAD, reason=error.message, error=error)
            await self._died(delivery, event, error)


def _as_event(event: KeptEvent) -> Event:
    return Event(kind=event.kind, key=event.key, occurred_at=event.occurred_at, data=event.data, causes=event.causes)


def _trigger(subscription: Subscription, event: KeptEvent) -> dict[str, Json]:
    """What a run knows of its start: ``event`` and ``trigger`` in expressions, and the chain of causes."""
    return {
        "trigger": {"id": subscription.trigger.id, "kind": subscription.kind},
        "event": dict(event.data),
        "event_id": event.id,
        "causes": list(event.causes),
    }

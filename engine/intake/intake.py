"""All that starts runs by itself, going on together: what is sent, the clock, directories and queues, deliveries."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from engine.deliveries import Accepted, Delivery, KeptEvent
from engine.intake.active_flows import EnabledFlows
from engine.intake.deliverer import Deliverer, Starting
from engine.intake.own_events import OwnEvents
from engine.intake.receiver import Receiver
from engine.intake.schedules import Schedules
from engine.intake.sources import Sources
from engine.intake.subscriptions import Subscriptions
from engine.language import Language
from engine.service import ShuttingDownError
from engine.store import Store
from engine.store.errors import StoreError
from flows.contracts import StepError
from flows.events import Event

_log = logging.getLogger(__name__)

LOOK_AGAIN: Final = 1.0
"""Seconds between two looks whether another process has changed flows."""
AGAIN: Final = 5.0
"""Seconds after which a part that failed goes on."""

Died = Callable[[Delivery, KeptEvent, StepError], Awaitable[None]]


class Intake:
    """Takes what comes from :meth:`start` to :meth:`stop`.

    ``secrets`` gives the live values of a workspace's secret, ``consumer`` names this engine to queues. ``died`` are
    called for each delivery that becomes dead, in the transaction that ends it; others may be added.
    """

    def __init__(
        self,
        *,
        store: Store,
        language: Language,
        starting: Starting,
        secrets: Callable[[str, str], Awaitable[Sequence[str]]],
        consumer: str,
    ) -> None:
        self.subscriptions = Subscriptions(EnabledFlows(store), language)
        self.deliverer = Deliverer(store=store, load=self.subscriptions.load, starting=starting, died=self._tell_dead)
        common: dict[str, Any] = {"store": store, "subscriptions": self.subscriptions, "deliverer": self.deliverer}
        self.receiver = Receiver(secrets=secrets, **common)
        self.schedules = Schedules(**common)
        self.sources = Sources(secrets=secrets, consumer=consumer, died=self._tell_dead, **common)
        self._store = store
        self._own_events = OwnEvents(self.receiver)
        self.died: list[Died] = [self._own_events.died]
        self._refreshing = asyncio.Lock()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, str] = {}
        self.stopping = False
        """Whether nothing more is taken."""

    async def tell(self, workspace: str, event: Event) -> Accepted | None:
        """Take an event of Stepbox's own; see :meth:`engine.intake.receiver.Receiver.tell`."""
        return await self.receiver.tell(workspace, event)

    def wake(self) -> None:
        """Say that there is something to deliver, once the transaction that added it is committed."""
        self.deliverer.wake()

    async def refresh(self) -> None:
        """Take note at once of flows that were applied, enabled, disabled or deleted."""
        async with self._refreshing:
            changed = await self.subscriptions.refresh()
        if changed:
            _log.info("triggers", extra=self.subscriptions.counts())
            self.schedules.wake()
            self.sources.wake()

    async def start(self) -> None:
        """Know the flows, and begin; from now on the runs that end here are told of, even once this is stopped."""
        await self.refresh()
        self._store.runs.ends.witness = self._own_events
        self._store.approvals.witness = self._own_events
        parts: Mapping[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "flows": self._keep_fresh,
            "deliveries": self.deliverer.run,
            "schedules": self.schedules.run,
            "sources": self.sources.run,
        }
        self._tasks = {name: asyncio.create_task(self._go_on(name, run)) for name, run in parts.items()}

    async def stop(self) -> None:
        """Take nothing more, and wait until nothing goes on. What is kept and not delivered is so after a restart."""
        self.stopping = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def refuse_when_stopping(self) -> None:
        """Raise :class:`engine.service.ShuttingDownError` once nothing more is taken."""
        if self.stopping:
            raise ShuttingDownError("the service is shutting down", fix="try again in a moment")

    @property
    def trouble(self) -> str | None:
        """Why it doesn't take what comes; None where it does."""
        if self.stopping:
            return "the service is shutting down"
        ended = [name for name, task in self._tasks.items() if task.done()]
        if ended or not self._tasks:
            return f"not going on: {', '.join(ended) or 'anything'}"
        return "; ".join(f"{name}: {problem}" for name, problem in self._failures.items()) or None

    async def _go_on(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a part until it is cancelled, again where it fails."""
        while True:
            try:
                await run()
            except Exception as problem:  # noqa: BLE001 - a bug of one part must not end all intake
                _log.exception("intake: %s failed, and goes on in %g s", name, AGAIN)
                self._failures[name] = f"{type(problem).__name__}: {problem}"
            await asyncio.sleep(AGAIN)
            self._failures.pop(name, None)

    async def _keep_fresh(self) -> None:
        troubles: dict[str, str] = {}
        while True:
            await asyncio.sleep(LOOK_AGAIN)
            known, troubles = troubles, self.sources.troubles
            for name, trouble in troubles.items():
                if known.get(name) != trouble:
                    _log.warning("the source %s doesn't tell of all there is: %s", name, trouble)
            for name in known.keys() - troubles.keys():
                if self.sources.listens(name):
                    _log.info("the source %s tells of all there is again", name)
            try:
                await self.refresh()
            except StoreError:
                _log.warning("flows wait for the database", exc_info=True)

    async def _tell_dead(self, delivery: Delivery, event: KeptEvent, error: StepError) -> None:
        _log.warning(
            "%s/%s could not start a run: %s",
            delivery.flow,
            delivery.trigger_id,
            error.message,
            extra={"event_id": event.id, "delivery": delivery.id, "code": error.code},
        )
        for told in self.died:
            await told(delivery, event, error)

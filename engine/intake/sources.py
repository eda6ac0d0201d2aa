"""Listens where events come from that nobody sends: directories and queues."""

import asyncio
import hashlib
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from engine.deliveries import Delivery, DeliveryStatus, KeptEvent, NewEvent, Recipient, TriggerPosition
from engine.intake.archiving import Archiving
from engine.intake.schedules import Woken
from engine.intake.subscriptions import Subscription, Subscriptions, fingerprint
from engine.store import Store
from engine.store.errors import StoreError
from engine.store.events import MovedError
from flows.contracts import StepError
from flows.errors import StepboxError
from flows.events import Arrival, Source
from flows.model import TriggerConfig
from triggers.file.archive import place_for
from triggers.file.config import FileTrigger
from triggers.file.snapshot import Snapshot
from triggers.file.source import FileSource
from triggers.queue.config import QueueTrigger
from triggers.queue.source import QueueSource

_log = logging.getLogger(__name__)

AGAIN: Final = 5.0
"""Seconds after which a source that failed is opened again."""
KEEP: Final = 1.0
"""Seconds between two times that the state of a directory is kept. What comes twice because of it has the same key."""


class Sources:
    """Listens to all directories and queues of the active flows until it is cancelled.

    ``secrets`` gives the live values of a workspace's secret, ``consumer`` names this engine to queues, the same after
    a restart. ``died`` is called for each event that can't start a run, in the transaction that keeps it.
    """

    def __init__(
        self,
        *,
        store: Store,
        subscriptions: Subscriptions,
        deliverer: Woken,
        secrets: Callable[[str, str], Awaitable[Sequence[str]]],
        consumer: str,
        died: Callable[[Delivery, KeptEvent, StepError], Awaitable[None]],
    ) -> None:
        self._store = store
        self._subscriptions = subscriptions
        self._deliverer = deliverer
        self._secrets = secrets
        self._consumer = consumer
        self._died = died
        self._stirred = asyncio.Event()
        self._listening: dict[str, asyncio.Task[None]] = {}
        self._troubles: dict[str, str] = {}
        self._open: dict[str, Source] = {}
        self._archiving: dict[str, Archiving] = {}

    @property
    def troubles(self) -> dict[str, str]:
        """By the name of its subscription, what keeps a source from telling of all there is."""
        found = [(name, source.trouble) for name, source in self._open.items()]
        found += [(name, archiving.trouble) for name, archiving in self._archiving.items()]
        return {**self._troubles, **{name: trouble for name, trouble in found if trouble is not None}}

    def listens(self, name: str) -> bool:
        """Whether a source of that name is open."""
        return name in self._open

    def wake(self) -> None:
        """Say that the flows have changed."""
        self._stirred.set()

    async def run(self) -> None:
        """Listen until cancelled."""
        try:
            while True:
                self._stirred.clear()
                await self._reconcile()
                await self._stirred.wait()
        finally:
            await _end(list(self._listening.values()))
            self._listening.clear()

    async def _reconcile(self) -> None:
        wanted: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}
        for subscription, file_trigger in self._subscriptions.of(FileTrigger):
            wanted[_key(subscription)] = _bound(self._directory, subscription, file_trigger)
        for subscription, queue_trigger in self._subscriptions.of(QueueTrigger):
            wanted[_key(subscription)] = _bound(self._queue, subscription, queue_trigger)
        await _end([self._listening.pop(key) for key in list(self._listening) if key not in wanted])
        for key, listen in wanted.items():
            if key not in self._listening:
                self._listening[key] = asyncio.create_task(self._again_and_again(key, listen))

    async def _again_and_again(self, key: str, listen: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            while True:
                try:
                    await listen()
                except StepboxError as problem:
                    self._troubles[key] = str(problem)
                    _log.warning("the source %s waits: %s", key, problem)
                except Exception as problem:  # noqa: BLE001 - one source's bug must not end the others
                    self._troubles[key] = f"{type(problem).__name__}: {problem}"
                    _log.exception("the source %s failed", key)
                await asyncio.sleep(AGAIN)
        finally:
            self._troubles.pop(key, None)
            self._open.pop(key, None)

    async def _directory(self, subscription: Subscription, trigger: FileTrigger) -> None:
        version = subscription.version
        position = await self._store.events.position(version.workspace, version.flow, trigger.id)
        source = FileSource(trigger, known=_known(trigger, position))
        moves = 0 if position is None else position.moves
        archiving = Archiving(subscription, store=self._store, deliverer=self._deliverer, died=self._died)
        self._archiving[_key(subscription)] = archiving
        keeping = asyncio.create_task(self._keep_state(subscription, source, moves))
        moving = asyncio.create_task(archiving.run())
        try:
            await self._listen(subscription, source)
        finally:
            self._archiving.pop(_key(subscription), None)
            await _end([moving])
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping

    async def _queue(self, subscription: Subscription, trigger: QueueTrigger) -> None:
        url = trigger.queue.url
        if trigger.queue.secret is not None:
            url = (await self._secrets(subscription.version.workspace, trigger.queue.secret))[0]
        assert url is not None
        await self._listen(subscription, QueueSource(trigger, url=url, consumer=self._consumer))

    async def _listen(self, subscription: Subscription, source: Source) -> None:
        key = _key(subscription)
        self._troubles.pop(key, None)
        self._open[key] = source
        async for arrival in source.arrivals():
            event, recipient = _new(subscription, await _with_place(subscription.trigger, arrival))
            while True:
                try:
                    await self._keep(event, recipient)
                    break
                except StoreError:
                    _log.warning("the source %s waits for the database", key, exc_info=True)
                    await asyncio.sleep(AGAIN)
            await arrival.acknowledge()
            if recipient.held:
                self._archiving[key].wake()
            else:
                self._deliverer.wake()

    async def _keep(self, event: NewEvent, recipient: Recipient) -> None:
        async with self._store.transaction():
            accepted = await self._store.events.accept(event, [recipient])
            if recipient.status is DeliveryStatus.DEAD and not accepted.duplicate:
                error = StepError(code="unfit_event", message=str(recipient.reason))
                await self._died(accepted.deliveries[0], accepted.event, error)

    async def _keep_state(self, subscription: Subscription, source: FileSource, moves: int) -> None:
        """Keep what is known of a directory as it changes, and at the end."""
        of = _watched(subscription.trigger)
        kept: object = None
        ended = False
        while not ended:
            try:
                await asyncio.sleep(KEEP)
            except asyncio.CancelledError:
                ended = True
            state = {"of": of, "files": source.known.document()}
            if state == kept or (kept is None and not source.has_looked):
                continue
            version = subscription.version
            position = TriggerPosition(
                workspace=version.workspace,
                flow=version.flow,
                trigger_id=subscription.trigger.id,
                moves=moves,
                value=state,
            )
            try:
                await self._store.events.move(position)
                moves, kept = moves + 1, state
            except MovedError:
                # Another engine watches the directory too; its events have the same keys.
                found = await self._store.events.position(version.workspace, version.flow, subscription.trigger.id)
                moves = found.moves if found is not None else 0
            except StoreError:
                _log.warning("the state of %s can't be kept yet", _key(subscription), exc_info=True)


def consumer_of(home: Path) -> str:
    """The name of this machine's engine of a home to queues, the same after a restart."""
    place = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:8]
    return f"stepbox-{socket.gethostname()}-{place}"


def _key(subscription: Subscription) -> str:
    return f"{subscription.name}@{subscription.version.number}"


def _known(trigger: FileTrigger, position: TriggerPosition | None) -> Snapshot | None:
    """What was known of a directory; None of one that the trigger watches since it was changed."""
    value = None if position is None else position.value
    if not isinstance(value, dict) or value.get("of") != _watched(trigger):
        return None
    return Snapshot.read(value["files"])


def _watched(trigger: TriggerConfig) -> str:
    assert isinstance(trigger, FileTrigger)
    return fingerprint(trigger.file)


def _bound(
    listen: Callable[[Subscription, Any], Coroutine[Any, Any, None]], subscription: Subscription, trigger: object
) -> Callable[[], Coroutine[Any, Any, None]]:
    return lambda: listen(subscription, trigger)


async def _with_place(trigger: TriggerConfig, arrival: Arrival) -> Arrival:
    """An arrival whose event says where its file is to be moved, where the trigger wants that."""
    archive = trigger.file.archive if isinstance(trigger, FileTrigger) else None
    if archive is None or arrival.unfit is not None:
        return arrival
    place = await asyncio.to_thread(place_for, archive, arrival.event.data["name"])
    return replace(arrival, event=replace(arrival.event, data={**arrival.event.data, "path": str(place)}))


def _new(subscription: Subscription, arrival: Arrival) -> tuple[NewEvent, Recipient]:
    new = NewEvent.of(arrival.event, workspace=subscription.version.workspace, origin=subscription.origin)
    if arrival.unfit is None:
        data = arrival.event.data
        return new, replace(subscription.recipient, held=data.get("path") != data.get("original"))
    return new, replace(subscription.recipient, status=DeliveryStatus.DEAD, reason=arrival.unfit)


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

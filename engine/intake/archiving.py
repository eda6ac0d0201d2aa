"""Moves the files that events tell of into archives, and has the events delivered once they are there.

The event of such a file is kept with its delivery held, and says where the file is to be. So whatever is killed, the
database knows which files are still to be moved, and no run begins before its file is in its place.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from engine.cancellation import happened
from engine.deliveries import Delivery, DeliveryStatus, HeldDelivery, KeptEvent
from engine.intake.schedules import Woken
from engine.intake.subscriptions import Subscription
from engine.store import Store
from engine.store.errors import AlreadyFinishedError, StoreError
from flows.contracts import StepError
from triggers.file.archive import move, place_for, state_of

_log = logging.getLogger(__name__)

AGAIN: Final = 5.0
"""Seconds after which a move that failed is tried again."""
_IDLE: Final = 3600.0


class Archiving:
    """Moves the files of one trigger; :meth:`run` goes on until it is cancelled. ``died``: see :class:`Sources`."""

    def __init__(
        self,
        subscription: Subscription,
        *,
        store: Store,
        deliverer: Woken,
        died: Callable[[Delivery, KeptEvent, StepError], Awaitable[None]],
    ) -> None:
        self._subscription = subscription
        self._store = store
        self._deliverer = deliverer
        self._died = died
        self._stirred = asyncio.Event()
        self.trouble: str | None = None
        """Why a file could not be moved yet."""

    def wake(self) -> None:
        """Say that an event was kept whose file is to be moved."""
        self._stirred.set()

    async def run(self) -> None:
        version, trigger = self._subscription.version, self._subscription.trigger
        while True:
            self._stirred.clear()
            trouble: str | None = None
            try:
                for held in await self._store.held.list(version.workspace, version.flow, trigger.id):
                    trouble = await self._settle(held) or trouble
            except StoreError:
                _log.warning("files of %s wait for the database", self._subscription.name, exc_info=True)
                trouble = trouble or "the database is away"
            self.trouble = trouble
            await happened(self._stirred, within=_IDLE if trouble is None else AGAIN)

    async def _settle(self, held: HeldDelivery) -> str | None:
        """Bring a file to its place, and its event to be delivered; why not, where it can't be moved."""
        state = await asyncio.to_thread(state_of, held.key, held.data)
        if state == "changed":
            reason = "the file changed before it was moved, and is told of again"
            await self._end(held, DeliveryStatus.SKIPPED, reason)
            return None
        if state == "gone":
            await self._end(held, DeliveryStatus.DEAD, f"{held.data['original']} has gone before it was moved")
            return None
        if state == "there":
            original, place = Path(held.data["original"]), Path(held.data["path"])
            try:
                await self._move(held, original, place)
            except OSError as problem:
                return f"{original} can't be moved to {place.parent}: {problem.strerror or problem}"
        await self._store.held.release(held)
        self._deliverer.wake()
        return None

    async def _move(self, held: HeldDelivery, original: Path, place: Path) -> None:
        while True:
            try:
                await asyncio.to_thread(move, original, place)
            except FileExistsError:
                place = await asyncio.to_thread(place_for, place.parent, original.name)
                # First, so that the event never tells of another file.
                await self._store.held.retell(held, {**held.data, "path": str(place)})
            else:
                return

    async def _end(self, held: HeldDelivery, status: DeliveryStatus, reason: str) -> None:
        error = StepError(code="file_gone", message=reason) if status is DeliveryStatus.DEAD else None
        found = await self._store.events.get(held.event_id)
        try:
            async with self._store.transaction():
                await self._store.events.end(held.id, status, reason=reason, error=error)
                if error is not None:
                    (delivery,) = [each for each in found.deliveries if each.id == held.id]
                    await self._died(delivery, found.event, error)
        except AlreadyFinishedError:
            _log.info("delivery %s was brought to its end elsewhere", held.id)

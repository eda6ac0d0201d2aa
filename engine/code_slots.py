"""Has the code of this process wait for its workspace's slots, where as much goes on as may; in the order of coming."""

import asyncio
import logging
from collections import defaultdict
from contextvars import Context
from typing import Final

from engine.cancellation import happened
from engine.policies import Policies
from engine.store import Store
from engine.store.code_slots import CodeSlot

_log = logging.getLogger(__name__)

LOOK_AGAIN: Final = 0.25
"""Seconds between two looks while somebody waits: another process may have ended what had the slot."""


class CodeSlots:
    """The code of one process that waits. An attempt that got its slot as it began never comes here."""

    def __init__(self, store: Store, policies: Policies) -> None:
        self._store = store
        self._policies = policies
        self._waiting: defaultdict[str, dict[str, asyncio.Future[None]]] = defaultdict(dict)
        self._freed: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._looking: dict[str, asyncio.Task[None]] = {}

    async def wait(self, workspace: str, attempt: str) -> None:
        """Return once the attempt of that id has a slot. Where this is cancelled, its end gives up its place."""
        turn = self._waiting[workspace][attempt] = asyncio.get_running_loop().create_future()
        self._freed[workspace].set()
        if workspace not in self._looking:
            # On behalf of no run: what goes wrong for one is not to end the others.
            look = asyncio.get_running_loop().create_task(self._look(workspace), context=Context())
            self._looking[workspace] = look
        try:
            await turn
        finally:
            self._waiting[workspace].pop(attempt, None)

    def freed(self, workspace: str) -> None:
        """Hear that an attempt of code has ended here."""
        if self._waiting.get(workspace):
            self._freed[workspace].set()

    async def _look(self, workspace: str) -> None:
        waiting, freed = self._waiting[workspace], self._freed[workspace]
        try:
            while waiting:
                await happened(freed, within=LOOK_AGAIN)
                freed.clear()
                try:
                    limit = (await self._policies.current(workspace)).concurrent_code
                    slot = CodeSlot(workspace=workspace, limit=limit)
                    granted = await self._store.code_slots.grant(slot, list(waiting))
                except Exception:  # noqa: BLE001 - whatever it is, the next look may come through
                    _log.warning("can't look for slots of code", exc_info=True)
                    await asyncio.sleep(LOOK_AGAIN)
                    continue
                for attempt in granted:
                    if attempt in waiting and not waiting[attempt].done():
                        waiting[attempt].set_result(None)
                        del waiting[attempt]
        finally:
            del self._looking[workspace]

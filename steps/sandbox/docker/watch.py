"""What the Engine says happens to our containers: one connection for all of them."""

import asyncio
from contextlib import aclosing, suppress
from typing import Any

from steps.sandbox.docker import stream
from steps.sandbox.docker.container import OWNER_LABEL
from steps.sandbox.docker.engine import Engine


class Fate:
    """What has happened to one container."""

    def __init__(self) -> None:
        self.out_of_memory = asyncio.Event()
        """The kernel ended a process of it for its memory."""
        self.ended = asyncio.Event()
        """Its first process has ended."""
        self.exit_status: int | None = None
        """How that ended, as a shell gives it."""
        self.removed = asyncio.Event()
        """The Engine has removed it."""
        self.engine_lost = asyncio.Event()
        """The connection to the Engine broke, so that something may have been missed."""


class Watch:
    """Follows the events of the containers with one owner."""

    def __init__(self, engine: Engine, owner: str) -> None:
        self._engine = engine
        self._filters = {
            "type": ["container"],
            "label": [f"{OWNER_LABEL}={owner}"],
            "event": ["oom", "die", "destroy"],
        }
        self._fates: dict[str, Fate] = {}
        self._listening = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def follow(self, container: str) -> Fate:
        """Follow a container that has not been started yet; returns once nothing of it can be missed.

        Raises:
            OSError: the Engine can't be reached.
            StreamError: it gives no events.
        """
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._listen())
        listening = asyncio.ensure_future(self._listening.wait())
        try:
            await asyncio.wait({listening, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            listening.cancel()
        if not self._listening.is_set():
            await self._task
            raise stream.StreamError("the Engine went away")
        return self._fates.setdefault(container, Fate())

    def forget(self, container: str) -> None:
        self._fates.pop(container, None)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError, OSError, stream.StreamError):
                await self._task

    async def _listen(self) -> None:
        """Listen until the Engine goes away; the next container to follow begins it anew."""
        try:
            engine = self._engine
            async with aclosing(stream.events(engine.endpoint, engine.version, self._filters)) as events:
                async for event in events:
                    self._listening.set()
                    self._take(event)
        finally:
            self._listening.clear()
            for fate in self._fates.values():
                fate.engine_lost.set()

    def _take(self, event: dict[str, Any]) -> None:
        fate = self._fates.get(event.get("Actor", {}).get("ID", ""))
        if fate is None:
            return
        if event.get("Action") == "oom":
            fate.out_of_memory.set()
        elif event.get("Action") == "die":
            told = event["Actor"].get("Attributes", {}).get("exitCode", "")
            fate.exit_status = int(told) if told.isdecimal() else None
            fate.ended.set()
        elif event.get("Action") == "destroy":
            fate.removed.set()

"""What a source of events tells, as far as a test asks it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from flows.events import Arrival, Source

HANG = 30.0


class Told:
    """The arrivals of a source, of which one may be waited for without losing it."""

    def __init__(self, arrivals: AsyncIterator[Arrival]) -> None:
        self._arrivals = arrivals
        self._coming: asyncio.Task[Arrival] | None = None

    async def next(self, *, acknowledge: bool = True) -> Arrival:
        async with asyncio.timeout(HANG):
            arrival = await asyncio.shield(self._begin())
        self._coming = None
        if acknowledge:
            await arrival.acknowledge()
        return arrival

    async def take(self, count: int, *, acknowledge: bool = True) -> list[Arrival]:
        return [await self.next(acknowledge=acknowledge) for _ in range(count)]

    async def nothing(self, seconds: float = 0.8) -> bool:
        """Whether it tells of nothing for a while."""
        done, _ = await asyncio.wait({self._begin()}, timeout=seconds)
        return not done

    async def close(self) -> None:
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.gather(self._coming, return_exceptions=True)
        closing: Any = self._arrivals
        await closing.aclose()

    def _begin(self) -> asyncio.Task[Arrival]:
        if self._coming is None:
            self._coming = asyncio.ensure_future(_first(self._arrivals))
        return self._coming


async def _first(arrivals: AsyncIterator[Arrival]) -> Arrival:
    return await anext(arrivals)


@asynccontextmanager
async def told(source: Source) -> AsyncIterator[Told]:
    """What it tells, until the block ends."""
    events = Told(source.arrivals())
    try:
        yield events
    finally:
        await events.close()

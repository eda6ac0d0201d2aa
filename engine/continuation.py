"""Runs that the service which goes on in this process is asked to continue."""

import asyncio
from datetime import UTC, datetime
from typing import Final

from engine.dispatcher import Dispatcher
from engine.feed import Feed
from engine.following import Position
from engine.records import Run
from engine.service import AllDrivenError, Resumption, ShuttingDownError
from engine.store import Store
from flows.errors import InvalidCallError
from flows.values import RunStatus

BEGUN_WITHIN: Final = 20.0
"""Seconds that a run which is asked to go on waits for others to end."""
_LOOK: Final = 0.5


async def drive_again(store: Store, dispatcher: Dispatcher | None, feed: Feed, run: Run) -> Resumption:
    """Have a run driven that no engine drives; gives it once that has begun.

    Raises:
        AllDrivenError: as many runs go on as may.
        ShuttingDownError: nothing more is started.
        InvalidCallError: nothing drives runs here but commands.
    """
    if dispatcher is None:
        raise InvalidCallError("no service drives runs here", fix=f"stepbox runs resume {run.id}")
    loop = asyncio.get_running_loop()
    position = Position(line=await store.logs.last(run.id), attempts=datetime.now(UTC))
    until = loop.time() + BEGUN_WITHIN
    with feed.follower(run.id) as follower:
        driven = dispatcher.want(run.id)
        while (now := await store.runs.summary(run.id)).status is RunStatus.WAITING and not driven.done():
            if dispatcher.stopping or loop.time() > until:
                dispatcher.let_be(run.id)
                if dispatcher.stopping:
                    raise ShuttingDownError("the service is shutting down", fix="try again in a moment")
                raise AllDrivenError(
                    "as many runs go on as the service drives at once",
                    fix="try again later, or raise STEPBOX_CONCURRENT_RUNS",
                )
            await follower.wait(_LOOK)
    return Resumption(run=now, position=str(position))

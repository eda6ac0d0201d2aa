"""Removes the containers that nobody owns any more.

A container of ours ends by itself when the connection of its owner breaks, and the Engine then removes it. What is left
for the sweeper are those that something kept from it: an Engine that was restarted, a machine that was cut off.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from flows.errors import RefusedError
from steps.sandbox import owner
from steps.sandbox.docker.container import DEADLINE_LABEL, OWNER_LABEL
from steps.sandbox.docker.engine import Engine

INTERVAL = 60.0
CREATION = 120.0
"""Seconds that creating a container may take; a younger one of our own may not be known to us yet."""


async def keep_sweeping(engine: Engine, own: str, known: Callable[[], Collection[str]]) -> None:
    """Sweep now and every minute. ``own`` is the identity of this owner, ``known`` gives its containers' ids."""
    while True:
        # An Engine that doesn't answer now may do so in a minute.
        with suppress(RefusedError):
            await sweep(engine, own, known)
        await asyncio.sleep(INTERVAL)


async def sweep(engine: Engine, own: str, known: Callable[[], Collection[str]]) -> list[str]:
    """Remove what nobody owns; gives the ids.

    Other owners' containers are left alone unless their process has certainly ended, or their deadline has passed.

    Raises:
        RefusedError: the Engine doesn't answer, or refuses.
    """
    removed = []
    now = time.time()
    for found in await engine.labelled(OWNER_LABEL):
        labels, container = found["Labels"], str(found["Id"])
        if labels[OWNER_LABEL] == own:
            abandoned = container not in known() and now - found["Created"] > CREATION
        else:
            abandoned = owner.is_dead(labels[OWNER_LABEL]) or _is_over(labels.get(DEADLINE_LABEL, ""), now)
        if abandoned:
            await engine.remove(container)
            removed.append(container)
    return removed


def _is_over(deadline: str, now: float) -> bool:
    """Whether a deadline, in seconds since 1970, has passed; one that is none never does."""
    return deadline.isdecimal() and int(deadline) < now

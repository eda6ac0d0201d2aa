"""Runs that wait for events: which event is one that a step waits for, and what sees them come."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from engine.store import Store
from flows.contracts import Awaited
from flows.events import Event
from flows.expressions import ExpressionError, condition
from flows.values import Json
from triggers.event.patterns import like

_log = logging.getLogger(__name__)

SOON: Final = 0.05
"""Seconds after which the transaction that an event is seen in is most likely committed."""


def fits(awaited: Awaited, event: Mapping[str, Json]) -> bool:
    """Whether an event, as expressions see it, is the one that is waited for; not where that can't be evaluated."""
    if awaited.event is None or not like(awaited.event, event.get("type")):
        return False
    if awaited.match is None:
        return True
    try:
        return condition(awaited.match, {**awaited.names, "event": dict(event)})
    except ExpressionError as problem:
        _log.info("an event is not taken by a step that waits for %s: %s", awaited.event, problem.message)
        return False


class EventWaits:
    """Gives events to the runs that wait for them (:class:`engine.intake.receiver.Witness`).

    ``woken`` is called when runs can go on, as a hint: it may come before they can be seen.
    """

    def __init__(self, store: Store, woken: Callable[[], None]) -> None:
        self._store = store
        self._woken = woken

    async def saw(self, workspace: str, event: Event) -> None:
        """See :meth:`engine.intake.receiver.Witness.saw`."""
        if await self._store.waits.take(workspace, event.data, key=event.key, fits=fits):
            asyncio.get_running_loop().call_later(SOON, self._woken)

"""The flows whose triggers hold: those that are in service and enabled, as the store has them."""

from collections.abc import Sequence

from engine.records import FlowVersion
from engine.store import Store


class EnabledFlows:
    """Implements :class:`engine.intake.subscriptions.ActiveFlows`, for all workspaces."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def stamp(self) -> str:
        """See there; one small query, for all that any process changes."""
        return await self._store.flows.stamp()

    async def versions(self) -> Sequence[FlowVersion]:
        """See there."""
        return await self._store.flows.enabled()

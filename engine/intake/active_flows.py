"""The flows whose triggers hold: those that are in service and enabled, as the store has them."""

from collections.abc import Sequence

from engine.records import FlowVersion
from engine.store import Store


class EnabledFlows:
    """Implements :class:`engine.intake.subscriptions.ActiveFlows`, for all workspaces."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def stamp(self) -> str:
        """See there; two small queries, for all that any process changes."""
        return f"{await self._store.flows.stamp()} {' '.join(await self.workspaces())}"

    async def workspaces(self) -> Sequence[str]:
        """See there."""
        return [workspace.name for workspace in await self._store.workspaces.list()]

    async def versions(self) -> Sequence[FlowVersion]:
        """See there."""
        return await self._store.flows.enabled()

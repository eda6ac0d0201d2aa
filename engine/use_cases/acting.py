"""What all use cases have: the parts of the installation, and who acts."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from engine.audit import Target
from engine.bootstrap.parts import Parts
from engine.dispatcher import Dispatcher
from engine.feed import Feed
from engine.flow_sources import StoredFlows
from engine.policy import Action, require, require_narrower
from engine.principal import Principal
from engine.progress import NoObserver, Observer
from engine.reach import EVERYTHING, Reach
from engine.records import Run
from engine.refusals import Refusals
from engine.service import ShuttingDownError
from engine.store import Store
from flows.values import Json


class Acting:
    """Base of the use cases. Parts are opened when first needed.

    With a ``dispatcher``, which drives the runs that are started here. ``feed`` hears of what happens in runs, and
    ``observer`` of code that is executed by itself. ``changed`` is called once flows have changed.
    """

    def __init__(
        self,
        parts: Parts,
        principal: Principal,
        *,
        dispatcher: Dispatcher | None = None,
        feed: Feed | None = None,
        observer: Observer | None = None,
        changed: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._parts = parts
        self._language = parts.language
        self._principal = principal
        self._workspace = principal.workspace
        self._dispatcher = dispatcher
        self._feed = feed or Feed()
        self._observer = observer or NoObserver()
        self._changed = changed

    @property
    def who(self) -> Principal:
        """Who acts."""
        return self._principal

    async def refusals(self) -> Refusals:
        """What records what is refused."""
        return await self._parts.refusals()

    def _refuse_while_stopping(self) -> None:
        if self._dispatcher is not None and self._dispatcher.stopping:
            raise ShuttingDownError("the service is shutting down", fix="try again in a moment")

    def _wake(self) -> None:
        """Have what can go on driven, where this is a service."""
        if self._dispatcher is not None:
            self._dispatcher.wake()

    async def _record(
        self, store: Store, action: str, kind: str, target: str, details: Mapping[str, Json] | None = None
    ) -> None:
        """Record in the audit what the principal does, with what this task's transaction writes."""
        at = Target(kind=kind, id=target)
        await store.audit.append(workspace=self._workspace, action=action, target=at, details=details)

    def _may(self, action: Action, *, flow: str | None = None) -> None:
        require(self._principal, action, flow=flow)

    def _may_open(self, actions: Sequence[str], only_flows: Sequence[str]) -> None:
        """Let the principal make a token for that: for no more than its own is for."""
        require_narrower(self._principal, actions, only_flows)

    def _may_open_all(self) -> None:
        """Let the principal make a token for everything."""
        self._may_open((EVERYTHING,), (EVERYTHING,))

    @property
    def _reach(self) -> Reach:
        """The flows that the principal may see."""
        return self._principal.flows

    async def _run(self, run: str) -> tuple[Store, Run]:
        store = await self._parts.store()
        return store, await store.runs.find(run, workspace=self._workspace, reach=self._reach)

    async def _tell_changed(self) -> None:
        if self._changed is not None:
            await self._changed()

    async def _stored(self) -> StoredFlows:
        return StoredFlows(await self._parts.store(), self._language, self._workspace)

"""The runs that deliveries start: planned as any others, and recorded for a dispatcher to drive."""

from collections.abc import Awaitable, Callable, Mapping

from engine.artifacts import of_event
from engine.flow_sources import StoredFlows
from engine.language import Language
from engine.plans import Plan
from engine.policy import ForbiddenError, require_acting
from engine.records import FlowVersion, Run
from engine.runs import Runs
from engine.starts import queue
from engine.store import Store
from engine.store.errors import SlotsTakenError
from flows.definition import Definition
from flows.values import Json


class QueuedRuns:
    """Implements :class:`engine.intake.deliverer.Starting`. ``queued`` hears that there is a run to be driven."""

    def __init__(
        self, *, store: Store, language: Language, runs: Callable[[], Awaitable[Runs]], queued: Callable[[], None]
    ) -> None:
        self._store = store
        self._language = language
        self._runs = runs
        self._queued = queued

    async def plan(self, version: FlowVersion, definition: Definition, inputs: Mapping[str, Json]) -> Plan:
        """See there. Subflows are those that the store has now.

        Raises:
            ForbiddenError: who applied the version may not start it, or a flow that it can start, any more.
        """
        runs = await self._runs()
        source = StoredFlows(self._store, self._language, version.workspace)
        plan = await runs.plan(definition, inputs, source, workspace=version.workspace)
        applied_by = await self._applied_by(version)
        record = await self._store.principals.current(version.workspace, applied_by)
        for flow in (version.flow, *plan.subflows):
            require_acting(applied_by, record, flow)
        return plan

    async def _applied_by(self, version: FlowVersion) -> str:
        found = await self._store.flows.applied_by(version.id)
        if found is None:
            raise ForbiddenError(
                f"nobody has put version {version.number} of '{version.flow}' into service", fix="apply the flow"
            )
        return found

    async def create(self, version: FlowVersion, plan: Plan, trigger: Mapping[str, Json]) -> Run | str:
        """See there. The flow may have been disabled or deleted since the event came."""
        state = await self._store.flows.state(version.flow, workspace=version.workspace)
        if state != "enabled":
            return "the flow is disabled" if state == "disabled" else "the flow is not in service any more"
        try:
            run = await queue(self._store, version, plan, trigger, principal=await self._applied_by(version))
        except SlotsTakenError as taken:
            return taken.message
        await self._store.artifacts.add_of_event(run, of_event(trigger))
        return run

    def wake(self) -> None:
        """See there."""
        self._queued()

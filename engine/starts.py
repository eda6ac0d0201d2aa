"""Recording runs that are asked for, each once, for a dispatcher to drive."""

from collections.abc import Awaitable, Callable, Mapping

from engine import flow_changes, full_network, trace_context
from engine.bootstrap.parts import Parts
from engine.flow_sources import FlowSource, StoredFlows
from engine.plans import Plan, UnknownFlowError
from engine.policy import require
from engine.principal import Principal
from engine.progress import Observer
from engine.questions import requesters_of
from engine.records import FlowVersion, Run
from engine.retries import plan_retry, queue_retry
from engine.service import StartedRun, StartKeyReusedError, Target
from engine.slots import slot_of
from engine.store import Store
from engine.store.calls import arguments_digest
from flows.definition import Definition
from flows.values import Json


async def start(
    parts: Parts, principal: Principal, target: Target, inputs: Mapping[str, Json], *, key: str | None
) -> StartedRun:
    """Record a run; see :meth:`engine.service.Service.start`."""
    store, workspace = await parts.store(), principal.workspace
    asked = _digest(target, inputs)
    if key is not None and (earlier := await _started_before(store, workspace, key, asked)) is not None:
        return earlier
    source = StoredFlows(store, parts.language, workspace)
    if isinstance(target, str):
        definition = await known(source, target)
    else:
        definition = flow_changes.load(target, parts.language)
        require(principal, "runs.start", flow=definition.flow.flow)
    runs = await parts.runs()
    plan = await runs.plan(definition, inputs, source, workspace=principal.workspace)
    require_subflows(principal, plan)
    by: dict[str, Json] = {"kind": "api" if principal.kind == "token" else "manual", "principal": principal.name}

    async def record() -> Run:
        (version,) = await store.flows.put_versions(workspace, [plan.definition])
        if not isinstance(target, str) and full_network.needs_approval(plan.definition):
            # Who hands a flow over has put this version, and is one who asks for it.
            requesters = requesters_of(principal.name)
            await full_network.ask(store, version, plan.definition, requesters=requesters)
        return await queue(store, version, plan, {"trigger": by}, principal=principal.name)

    return await _once(store, workspace, key, asked, record)


async def start_retry(
    parts: Parts, principal: Principal, run: Run, step: str | None, *, key: str | None, observer: Observer
) -> StartedRun:
    """Record a run that is made again; see :meth:`engine.service.Service.start_retry`."""
    store, workspace = await parts.store(), principal.workspace
    asked = arguments_digest(f"retry {run.id}", step)
    if key is not None and (earlier := await _started_before(store, workspace, key, asked)) is not None:
        return earlier
    runs = await parts.runs()
    retry = await plan_retry(runs, store, parts.language, run, step, by=principal, observer=observer)
    return await _once(store, workspace, key, asked, lambda: queue_retry(store, retry))


async def known(source: FlowSource, name: str) -> Definition:
    """The current version of a flow.

    Raises:
        UnknownFlowError: there is no such flow.
        FlowDisabledError: it is disabled.
    """
    definition = await source.find(name)
    if definition is None:
        raise unknown_flow(name)
    return definition


def require_subflows(principal: Principal, plan: Plan) -> None:
    """Let a principal start the flows that a run can start, too.

    Raises:
        ForbiddenError: it isn't granted one of them.
    """
    for name in plan.subflows:
        require(principal, "runs.start", flow=name)


def unknown_flow(name: str) -> UnknownFlowError:
    """Says that there is no such flow."""
    return UnknownFlowError(f"there is no flow '{name}'", fix="see the names with: stepbox flows list")


class _KeyTakenError(Exception):
    """Somebody used the key meanwhile; what was written in the transaction is undone."""


async def _once(
    store: Store, workspace: str, key: str | None, asked: str, record: Callable[[], Awaitable[Run]]
) -> StartedRun:
    """Record a run and its key together; where the key has one by now, it is that."""
    try:
        async with store.transaction():
            run = await record()
            if key is not None:
                await _claim(store, workspace, key, asked, run.id)
    except _KeyTakenError:
        # Two requests with one key at once: the other one was faster.
        started = await _started_before(store, workspace, str(key), asked)
        assert started is not None
        return started
    return StartedRun(run=run, repeated=False)


async def queue(store: Store, version: FlowVersion, plan: Plan, trigger: Mapping[str, Json], *, principal: str) -> Run:
    """Record a queued run of a version, with the versions of the flows that it can start, for who has that name.

    Raises:
        SlotsTakenError: the flow's concurrency leaves no room for it, and it is not to be queued.
        ExpressionError: the key of its concurrency can't be evaluated.
    """
    subflows: dict[str, str] = {}
    if plan.subflows:
        put = await store.flows.put_versions(version.workspace, list(plan.subflows.values()))
        subflows = {each.flow: each.id for each in put}
    slot = slot_of(plan.definition.flow, plan.inputs, trigger)
    if slot is not None and slot.policy == "cancel_running":
        await store.runs.make_room(version.workspace, version.flow, slot)
    kept = trace_context.kept(trigger)
    return await store.runs.create(
        version, plan.inputs, trigger=kept, subflows=subflows, slot=slot, principal=principal
    )


async def _claim(store: Store, workspace: str, key: str, asked: str, run_id: str) -> None:
    if not await store.start_keys.claim(workspace, key, asked, run_id):
        raise _KeyTakenError


async def _started_before(store: Store, workspace: str, key: str, asked: str) -> StartedRun | None:
    found = await store.start_keys.find(workspace, key)
    if found is None:
        return None
    digest, run_id = found
    if digest != asked:
        raise StartKeyReusedError(
            f"the idempotency key {key!r} was used for another request", fix="use a new key for a new request"
        )
    return StartedRun(run=await store.runs.get(run_id), repeated=True)


def _digest(target: Target, inputs: Mapping[str, Json]) -> str:
    """What makes two requests the same."""
    if isinstance(target, str):
        return arguments_digest(target, dict(inputs))
    return arguments_digest("", [target.text.decode(errors="replace"), dict(target.files), dict(inputs)])

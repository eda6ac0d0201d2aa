"""Runs that are made again: a new run of the same version and inputs, for which what had ended well stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from engine import trace_context
from engine.artifacts import of_event
from engine.flow_sources import disabled
from engine.language import Language
from engine.past import Past
from engine.plans import Plan
from engine.policy import require
from engine.principal import Principal
from engine.progress import Observer
from engine.records import Run
from engine.resumption import plan_again, refuse_part
from engine.runs import Kept, Runs
from engine.slots import slot_of
from engine.store import Store
from flows.definition import Definition
from flows.errors import InvalidCallError
from flows.suggestions import instead, listing
from flows.values import Json, RunStatus, StepStatus

_TOLERABLE: Final = frozenset(
    {StepStatus.FAILED, StepStatus.TIMED_OUT, StepStatus.OUT_OF_MEMORY, StepStatus.LIMIT_EXCEEDED, StepStatus.KILLED}
)
"""Ends that a step with ``on_error: continue`` may have of its own, without having been cut off."""


class NotRetryableError(InvalidCallError):
    """A run that goes on, or that has succeeded, so that it must be said which step is to be executed again."""

    code = "not_retryable"


class UnknownStepError(InvalidCallError):
    """The run's flow has no such step, or none that a run can be made again from."""

    code = "unknown_step"


@dataclass(frozen=True, kw_only=True)
class Retry:
    """A run to be made: ``of`` is the one that has ended, ``done`` what stands of it, with what that left.

    ``principal`` is the name of who makes it again, for whom it acts.
    """

    of: Run
    principal: str
    plan: Plan
    trigger: Mapping[str, Json]
    done: Sequence[Kept]


async def plan_retry(
    runs: Runs, store: Store, language: Language, run: Run, step: str | None, *, by: Principal, observer: Observer
) -> Retry:
    """Make sure that a run can be made again, from ``step`` on or from the first steps that did not succeed.

    Raises:
        PartOfRunError: it is the run of a subflow.
        NotRetryableError: it goes on; or it has succeeded, and no step is given.
        UnknownStepError: there is no such step, or it is none of ``steps``.
        FlowDisabledError: the flow is disabled.
        ForbiddenError: whoever makes it again isn't granted a flow that it can start.
        StepboxError: as :meth:`engine.runs.Runs.plan`.
    """
    refuse_part(run, "retry")
    if run.ended_at is None:
        raise NotRetryableError(
            f"run {run.id} has not ended: it is {run.status.value}",
            fix=f"wait for its end, or cancel it: stepbox runs cancel {run.id}",
        )
    if run.status is RunStatus.SUCCEEDED and step is None:
        raise NotRetryableError(
            f"run {run.id} has succeeded: nothing of it is left to do",
            fix=f"say from which step on it is to be done again: stepbox runs retry {run.id} --from STEP",
        )
    if await store.flows.state(run.flow, workspace=run.workspace) == "disabled":
        raise disabled(run.flow)
    plan = await plan_again(runs, store, language, run, observer)
    for flow in plan.subflows:
        require(by, "runs.start", flow=flow)
    if step is not None:
        _expect_step(plan.definition, step)
    attempts, left = await store.steps.list(run.id), await store.artifacts.list(run.id)
    past = Past.of(plan.definition, attempts, left)
    done = what_stands(plan.definition, past, step)
    return Retry(of=run, principal=by.name, plan=plan, trigger=_trigger(run, by), done=done)


def what_stands(definition: Definition, past: Past, step: str | None = None) -> Sequence[Kept]:
    """What need not be done again, with what it left, in the order in which it had begun.

    That is what had ended well, or badly where the flow goes on all the same, but for ``step`` and all that comes
    after something that is done again. Of a for-each that is done again, the items that had succeeded stand, unless it
    is that step or comes after one.
    """
    again: set[str] = set()
    anew: set[str] = set()
    for each in definition.order:
        after = any(need in again for need in definition.needs[each])
        if each == step or after:
            anew.add(each)
        if each == step or after or not _has_ended_well(definition, past, each):
            again.add(each)
    main = frozenset(definition.order)
    stands: list[Kept] = []
    for (step_id, item), row in past.ended.items():
        succeeded = item is not None and row.status is StepStatus.SUCCEEDED and step_id not in anew
        if step_id in main and (step_id not in again or succeeded):
            # Of a for-each, the items have what was left.
            is_sum = item is None and definition.steps[step_id].for_each is not None
            stands.append((row, () if is_sum else past.left.get((step_id, item), ())))
    return stands


async def queue_retry(store: Store, retry: Retry) -> Run:
    """Record the new run for a dispatcher to drive. Only within a transaction.

    Raises:
        SlotsTakenError: the flow's concurrency leaves no room for it, and it is not to be queued.
    """
    run, plan = retry.of, retry.plan
    version = await store.flows.get(run.flow_version_id)
    slot = slot_of(plan.definition.flow, plan.inputs, retry.trigger)
    if slot is not None and slot.policy == "cancel_running":
        await store.runs.make_room(version.workspace, version.flow, slot)
    new = await store.runs.create(
        version,
        plan.inputs,
        trigger=retry.trigger,
        subflows=run.subflows,
        directories=run.directories,
        slot=slot,
        principal=retry.principal,
    )
    await store.steps.keep(new.id, retry.done)
    await store.artifacts.add_of_event(new, of_event(retry.trigger))
    return new


def _has_ended_well(definition: Definition, past: Past, step_id: str) -> bool:
    row = past.ended.get((step_id, None))
    if row is None:
        return False
    if row.status is StepStatus.SKIPPED:
        return row.error is None
    tolerated = definition.steps[step_id].on_error == "continue" and row.status in _TOLERABLE
    return row.status is StepStatus.SUCCEEDED or tolerated


def _expect_step(definition: Definition, step: str) -> None:
    known = definition.order
    if step in known:
        return
    if step in definition.steps:
        raise UnknownStepError(
            f"step '{step}' is not one of `steps`: those of on_failure and finally are executed anew anyway",
            fix=f"name one of {listing(known)}",
        )
    raise UnknownStepError(
        f"the flow of the run has no step '{step[:80]}'",
        fix=instead(step, known, otherwise=f"name one of {listing(known)}"),
    )


def _trigger(run: Run, by: Principal) -> Mapping[str, Json]:
    """What the new run says of its start: what the old one said, and that it is made again, by whom.

    Its trace is another one.
    """
    before = run.trigger.get("trigger")
    known: dict[str, Json] = dict(before) if isinstance(before, Mapping) else {}
    first = known.get("first", known.get("kind"))
    again = {**known, "kind": "retry", "run": run.id, "first": first, "principal": by.name}
    return trace_context.kept({**run.trigger, "trigger": again})

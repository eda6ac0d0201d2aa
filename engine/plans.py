"""Plans of runs: whether a flow can run here, with all that it can start, before anything of it does."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from engine.flow_sources import FlowSource
from engine.given import check_given
from engine.run_secrets import secrets_named
from flows.contracts import StepExecutor
from flows.definition import Definition
from flows.errors import InvalidCallError, RefusedError
from flows.inputs import validate_inputs
from flows.model import StepConfig
from flows.values import Json
from steps.ceilings import Ceilings
from steps.subflow import SubflowStep

MAX_DEPTH = 10
"""How deep subflows may start subflows."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A flow that can run here, its checked inputs, and by name every flow that it can start."""

    definition: Definition
    inputs: Mapping[str, Json]
    subflows: Mapping[str, Definition]


class KindUnavailableError(RefusedError):
    """A step of a kind that this installation can't execute; nothing of the flow has run."""

    code = "kind_unavailable"


class UnknownFlowError(InvalidCallError):
    """A flow that is neither beside the calling one nor in the store."""

    code = "unknown_flow"


class RecursiveFlowError(InvalidCallError):
    """A flow that starts itself through its subflows, or subflows that go too deep."""

    code = "recursive_flow"


class Planner:
    """Makes plans, for an installation that has these executors."""

    def __init__(
        self, executors: Mapping[type[StepConfig], StepExecutor], given: Callable[[str, str], Awaitable[object]]
    ) -> None:
        """``given`` gives a secret of a workspace to a run, and raises where there is none, or it can't be."""
        self._executors = executors
        self._given = given

    async def plan(
        self,
        definition: Definition,
        given: Mapping[str, Json],
        source: FlowSource,
        *,
        workspace: str,
        ceilings: Ceilings,
    ) -> Plan:
        """The plan of a flow in a workspace with these ceilings; raises as :meth:`engine.runs.Runs.plan`."""
        inputs = validate_inputs(definition.flow, given)
        subflows: dict[str, Definition] = {}
        await self._check(definition, source, subflows, {}, (definition.flow.flow,), ceilings=ceilings)
        for name in sorted(frozenset[str]().union(*map(secrets_named, (definition, *subflows.values())))):
            await self._given(workspace, name)
        return Plan(definition=definition, inputs=inputs, subflows=subflows)

    async def _check(
        self,
        definition: Definition,
        source: FlowSource,
        found: dict[str, Definition],
        depths: dict[str, int],
        chain: tuple[str, ...],
        *,
        ceilings: Ceilings,
    ) -> None:
        """Check a flow at the end of a chain of subflows; again only where it is deeper than the last time."""
        if depths.get(definition.flow.flow, 0) >= len(chain):
            return
        depths[definition.flow.flow] = len(chain)
        if len(chain) > MAX_DEPTH:
            raise RecursiveFlowError(f"subflows go deeper than {MAX_DEPTH}: {' → '.join(chain)}", fix="flatten them")
        for step_id, step in definition.steps.items():
            await self._refuse_unavailable(definition, step_id, step, ceilings)
            if not isinstance(step, SubflowStep):
                continue
            if step.flow in chain:
                raise RecursiveFlowError(
                    f"the flow starts itself: {' → '.join((*chain, step.flow))}", fix=f"change step '{step_id}'"
                )
            if step.flow not in found:
                subflow = await source.find(step.flow)
                if subflow is None:
                    raise UnknownFlowError(
                        f"step '{step_id}' starts the flow '{step.flow}', which doesn't exist",
                        fix=f"put {step.flow}.yaml beside {definition.flow.flow}, or run `stepbox flows apply` on it",
                    )
                found[step.flow] = subflow
            check_given(found[step.flow], step)
            await self._check(found[step.flow], source, found, depths, (*chain, step.flow), ceilings=ceilings)

    async def _refuse_unavailable(
        self, definition: Definition, step_id: str, step: StepConfig, ceilings: Ceilings
    ) -> None:
        executor = self._executors.get(type(step))
        if executor is None:
            kind = definition.kinds[step_id]
            raise KindUnavailableError(
                f"step '{step_id}' is of kind '{kind}', which this version of Stepbox can validate but not execute",
                fix="leave the step out for now",
            )
        refusal = ceilings.refusal(step, executor.isolation) or await executor.refusal(ceilings.bounded(step))
        if refusal is not None:
            raise type(refusal)(f"step '{step_id}': {refusal.message}", fix=refusal.fix)

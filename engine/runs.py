"""Runs: from a definition and inputs to a recorded end."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine.attempts import Attempts
from engine.cancellation import Interruption
from engine.execution import Execution, RunOutcome, why_ended
from engine.flow_sources import FlowSource
from engine.logbook import Logbook
from engine.progress import NoObserver, Observer, RunEnded, RunStarted, Undisturbed
from engine.records import Run
from engine.report import RunReport, report
from engine.store import Store
from engine.tool_calls import ToolCaller
from flows.contracts import StepError, StepExecutor, StepResult
from flows.definition import Definition
from flows.errors import FeatureUnavailableError, InvalidCallError, RefusedError, StepboxError
from flows.inputs import InvalidInputError, validate_inputs
from flows.model import StepConfig
from flows.templates import is_wired
from flows.values import Json, RunStatus, StepStatus
from steps.subflow import SubflowStep

_log = logging.getLogger(__name__)

MAX_DEPTH = 10
"""How deep subflows may start subflows."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A flow that can run here, its checked inputs, and by name every flow that it can start."""

    definition: Definition
    inputs: Mapping[str, Json]
    subflows: Mapping[str, Definition]


class Driver(Protocol):
    """Runs an execution to its end: the orchestrator."""

    async def run(self, execution: Execution) -> RunOutcome: ...


class KindUnavailableError(RefusedError):
    """A step of a kind that this installation can't execute; nothing of the flow has run."""

    code = "kind_unavailable"


class UnknownFlowError(InvalidCallError):
    """A flow that is neither beside the calling one nor in the store."""

    code = "unknown_flow"


class RecursiveFlowError(InvalidCallError):
    """A flow that starts itself through its subflows, or subflows that go too deep."""

    code = "recursive_flow"


class Runs:
    """Starts runs and sees them to their end."""

    def __init__(
        self,
        *,
        workspace: str,
        store: Store,
        executors: Mapping[type[StepConfig], StepExecutor],
        tools: ToolCaller,
        driver: Driver,
    ) -> None:
        self._workspace = workspace
        self._store = store
        self._executors = executors
        self._tools = tools
        self._driver = driver

    async def plan(self, definition: Definition, given: Mapping[str, Json], source: FlowSource) -> Plan:
        """Make sure that a flow can run here, before anything of it does.

        Raises:
            InvalidCallError: the inputs don't fit, or a subflow doesn't exist.
            InvalidFlowError: a subflow is not valid.
            RefusedError: a step asks for what can't be had or enforced here.
        """
        inputs = validate_inputs(definition.flow, given)
        subflows: dict[str, Definition] = {}
        await self._check(definition, source, subflows, {}, (definition.flow.flow,))
        return Plan(definition=definition, inputs=inputs, subflows=subflows)

    async def run(
        self,
        plan: Plan,
        *,
        observer: Observer,
        trigger: Mapping[str, Json],
        host_directories: tuple[Path, ...] = (),
    ) -> RunReport:
        """Run a planned flow to its end. ``host_directories`` are those from which its tool steps may import files.

        Raises:
            StepboxError: the driver can't run it; the run is recorded as failed.
            asyncio.CancelledError: the run was cancelled, and is recorded as such.
        """
        run = await self._run(plan, observer, trigger, host_directories, parent=None)
        return report(run, await self._store.steps.summaries(run.id))

    async def run_child(self, plan: Plan, *, parent: Run, host_directories: tuple[Path, ...]) -> Run:
        """Run a subflow to its end; as :meth:`run`."""
        trigger = {"trigger": {"kind": "flow", "run": parent.id}}
        return await self._run(plan, NoObserver(), trigger, host_directories, parent)

    async def drive(self, run: Run, plan: Plan, *, observer: Observer) -> Run:
        """Run to its end what was recorded before and is marked as running; as :meth:`run`."""
        self._expect(plan.definition)
        with Interruption() as interruption:
            return await self._to_its_end(run, plan, Undisturbed(observer), (), interruption)

    async def _run(
        self,
        plan: Plan,
        observer: Observer,
        trigger: Mapping[str, Json],
        host_directories: tuple[Path, ...],
        parent: Run | None,
    ) -> Run:
        definition = plan.definition
        self._expect(definition)
        version = await self._store.flows.put_version(
            self._workspace, definition.flow.flow, definition.text, definition.files, definition.digest
        )
        with Interruption() as interruption:
            parent_id = None if parent is None else parent.id
            creating = self._store.runs.create(version, plan.inputs, trigger=trigger, parent_id=parent_id, running=True)
            run = await interruption.outlast(creating)
            return await self._to_its_end(run, plan, Undisturbed(observer), host_directories, interruption)

    def _expect(self, definition: Definition) -> None:
        for step in definition.flow.steps:
            if step.for_each is None:
                self._executors[type(step)].expect(step, 1)

    async def _to_its_end(
        self,
        run: Run,
        plan: Plan,
        observer: Observer,
        host_directories: tuple[Path, ...],
        interruption: Interruption,
    ) -> Run:
        refusal: StepboxError | None = None
        observer.notice(RunStarted(run=run))
        execution = self._execution(plan, run, observer, host_directories)
        if interruption.came:
            execution.cancel()
        try:
            outcome = await self._driver.run(execution)
        except asyncio.CancelledError as problem:
            interruption.came_with(problem)
            outcome = RunOutcome(status=RunStatus.CANCELLED, error=why_ended(problem))
        except Exception as problem:  # noqa: BLE001 - a bug must not leave a run without an end
            outcome = RunOutcome(status=RunStatus.FAILED, error=why_ended(problem))
            if isinstance(problem, StepboxError):
                refusal = problem
            else:
                _log.exception("run %s failed inside Stepbox", run.id)
        await interruption.after(self._close(execution, outcome))
        ended = await self._store.runs.get(run.id)
        observer.notice(RunEnded(run=ended))
        if refusal is not None:
            raise refusal
        return ended

    def _execution(self, plan: Plan, run: Run, observer: Observer, host_directories: tuple[Path, ...]) -> Execution:
        attempts = Attempts(
            run=run,
            store=self._store,
            executors=self._executors,
            tools=self._tools,
            logbook=Logbook(self._store),
            observer=observer,
            children=_Children(self, run, plan.subflows, host_directories),
            host_directories=host_directories,
            subflow_digests=tuple(sorted(subflow.digest for subflow in plan.subflows.values())),
        )
        return Execution(definition=plan.definition, run=run, attempts=attempts, observer=observer)

    async def _close(self, execution: Execution, outcome: RunOutcome) -> None:
        """Complete the record of a run, whatever happens meanwhile."""
        run = execution.run
        with Interruption() as interruption:
            try:
                if not execution.entered and outcome.error is not None:
                    await interruption.after(execution.abandon(outcome.error))
                await interruption.after(execution.attempts.logbook.close())
            finally:
                finish = self._store.runs.finish(run.id, outcome.status, output=outcome.output, error=outcome.error)
                await interruption.after(finish)

    async def _check(
        self,
        definition: Definition,
        source: FlowSource,
        found: dict[str, Definition],
        depths: dict[str, int],
        chain: tuple[str, ...],
    ) -> None:
        """Check a flow at the end of a chain of subflows; again only where it is deeper than the last time."""
        if depths.get(definition.flow.flow, 0) >= len(chain):
            return
        depths[definition.flow.flow] = len(chain)
        if definition.flow.concurrency is not None:
            raise FeatureUnavailableError(
                f"flow '{definition.flow.flow}' has `concurrency`, which this version of Stepbox can't enforce",
                fix="leave `concurrency` out for now",
            )
        if len(chain) > MAX_DEPTH:
            raise RecursiveFlowError(f"subflows go deeper than {MAX_DEPTH}: {' → '.join(chain)}", fix="flatten them")
        for step_id, step in definition.steps.items():
            await self._refuse_unavailable(definition, step_id, step)
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
            await self._check(found[step.flow], source, found, depths, (*chain, step.flow))

    async def _refuse_unavailable(self, definition: Definition, step_id: str, step: StepConfig) -> None:
        executor = self._executors.get(type(step))
        if executor is None:
            kind = definition.kinds[step_id]
            raise KindUnavailableError(
                f"step '{step_id}' is of kind '{kind}', which this version of Stepbox can validate but not execute",
                fix="leave the step out for now",
            )
        refusal = await executor.refusal(step)
        if refusal is not None:
            raise type(refusal)(f"step '{step_id}': {refusal.message}", fix=refusal.fix)


def check_given(subflow: Definition, step: SubflowStep) -> None:
    """Check what a step gives to the flow that it starts, as far as that is known before the run.

    Raises:
        InvalidInputError: an input is unknown, missing, or of the wrong type.
    """
    known = {name: schema for name, schema in subflow.flow.inputs.items() if not is_wired(step.with_.get(name))}
    literal = {name: value for name, value in step.with_.items() if not is_wired(value)}
    try:
        validate_inputs(subflow.flow.model_copy(update={"inputs": known}), literal)
    except InvalidInputError as problem:
        message = f"step '{step.id}' starts flow '{step.flow}': {problem.message}"
        raise InvalidInputError(message, fix=problem.fix) from None


class _Children:
    """Starts the subflows of one run."""

    def __init__(
        self, runs: Runs, parent: Run, subflows: Mapping[str, Definition], host_directories: tuple[Path, ...]
    ) -> None:
        self._runs = runs
        self._parent = parent
        self._subflows = subflows
        self._host_directories = host_directories

    async def run_child(self, name: str, inputs: Mapping[str, Json]) -> StepResult:
        definition = self._subflows[name]
        plan = Plan(definition=definition, inputs=validate_inputs(definition.flow, inputs), subflows=self._subflows)
        child = await self._runs.run_child(plan, parent=self._parent, host_directories=self._host_directories)
        if child.status is RunStatus.SUCCEEDED:
            return StepResult(status=StepStatus.SUCCEEDED, result=child.output)
        cause = child.error.message if child.error else child.status.value
        error = StepError(code="subflow_failed", message=f"flow '{name}' (run {child.id}) failed: {cause}")
        return StepResult(status=StepStatus.FAILED, error=error)

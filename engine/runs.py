"""Runs: from a definition and inputs to a recorded end."""

import asyncio
import logging
from collections.abc import Collection, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from engine import log_context, trace_context
from engine.artifacts import of_event
from engine.attempts import Attempts, Origin
from engine.cancellation import Interruption
from engine.code_slots import CodeSlots
from engine.execution import Execution, RunOutcome, why_ended
from engine.flow_sources import FlowSource
from engine.full_network import Admission
from engine.grants import granted
from engine.heartbeat import HandedOverError, Heartbeat, TakenOverError
from engine.logbook import Logbook
from engine.past import NOTHING, Past
from engine.plans import Plan, Planner
from engine.policies import Policies
from engine.principal import Principal
from engine.progress import NoObserver, Notice, Observer, Observers, RunEnded, RunStarted, Undisturbed
from engine.records import FlowVersion, Run, RunSummary, Slot, StepRun
from engine.refusals import Refusals
from engine.report import RunReport, report
from engine.run_secrets import RunSecrets
from engine.secrets import Secrets
from engine.slots import slot_of
from engine.store import Store
from engine.store.database import Behalf, on_behalf_of
from engine.store.errors import AlreadyFinishedError, LeaseLostError, SlotsTakenError, StoreUnavailableError
from engine.tool_calls import ToolCaller
from engine.trace_context import Traces, Untraced
from flows.contracts import Artifact, StepError, StepExecutor, StepResult, waiting
from flows.definition import Definition
from flows.errors import InvalidCallError, StepboxError
from flows.inputs import validate_inputs
from flows.model import StepConfig
from flows.values import Json, RunStatus, StepStatus
from steps.ceilings import NO_CEILINGS
from steps.sandbox.owner import is_dead

_log = logging.getLogger(__name__)

LOOK_FOR_SLOT = 0.5
"""Seconds between two tries to begin a run for which its flow's concurrency has no slot."""


Kept: TypeAlias = tuple[StepRun, Sequence[Artifact]]
"""The end of a step or an item that stands for another run too, with what it left."""


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """A run that this engine drives, and what another one has left of it."""

    run: Run
    past: Past
    again: bool = False
    """Whether it had begun before."""


class Driver(Protocol):
    """Runs an execution to its end: the orchestrator."""

    async def run(self, execution: Execution) -> RunOutcome: ...


class NotResumableError(InvalidCallError):
    """A run that has ended, or that goes on only as a part of the one that started it."""

    code = "not_resumable"


class Runs:
    """Starts runs and sees them to their end."""

    def __init__(
        self,
        *,
        store: Store,
        executors: Mapping[type[StepConfig], StepExecutor],
        tools: ToolCaller,
        secrets: Secrets,
        driver: Driver,
        traces: Traces | None = None,
        observer: Observer | None = None,
        policies: Policies | None = None,
        code_slots: CodeSlots | None = None,
        refusals: Refusals | None = None,
    ) -> None:
        """``observer`` sees what happens in all runs, those of subflows too; so do ``traces``."""
        self.policies = policies or Policies.of(store)
        self._code_slots = code_slots or CodeSlots(store, self.policies)
        self._refusals = refusals or Refusals(store)
        self._store = store
        self._executors = executors
        self._tools = tools
        self._driver = driver
        self._traces: Traces = traces or Untraced()
        self._observer = observer or NoObserver()
        self._secrets = secrets
        self._planner = Planner(executors, secrets.given)
        self._heartbeat = Heartbeat(store)
        self._let_go: set[str] = set()
        self._behalves: dict[str, Behalf] = {}
        self._leaving: set[str] = set()

    @property
    def let_go(self) -> Collection[str]:
        """The runs that this engine had to leave as they were, because the database failed; to be resumed."""
        return self._let_go

    def hand_over(self, run_ids: Collection[str]) -> Collection[str]:
        """Let go of runs that are resumed here, as this engine ends; gives those that it lets go of.

        Not those that somebody asked to cancel: they come to their end here. From now on nothing is written of the
        others, but for what they had printed. Who cancels their tasks then ends what they do, and they are any
        engine's to take over.
        """
        leaving = [run_id for run_id in run_ids if not self._heartbeat.is_ending(run_id)]
        self._leaving.update(leaving)
        for run_id in leaving:
            if run_id in self._behalves:
                self._behalves[run_id].give_up(HandedOverError(run_id))
        return leaving

    def look_for_cancellations(self) -> None:
        """Look at once whether a run that is driven here is to be cancelled, which happens every second anyway."""
        self._heartbeat.look()

    async def plan(
        self,
        definition: Definition,
        given: Mapping[str, Json],
        source: FlowSource,
        *,
        workspace: str,
        begun: bool = False,
    ) -> Plan:
        """Make sure that a flow can run here, in a workspace, before anything of it does.

        Of one that has ``begun`` the policy of the workspace is held against each attempt to come only.

        Raises:
            InvalidCallError: the inputs don't fit, or a subflow doesn't exist.
            InvalidFlowError: a subflow is not valid.
            UnknownSecretError: a step names a secret that isn't set.
            RefusedError: a step asks for what can't be had or enforced here, or that the policy doesn't let it have.
        """
        ceilings = NO_CEILINGS if begun else await self.policies.ceilings(workspace)
        return await self._planner.plan(definition, given, source, workspace=workspace, ceilings=ceilings)

    async def run(
        self,
        plan: Plan,
        *,
        observer: Observer,
        trigger: Mapping[str, Json],
        principal: Principal,
        host_directories: tuple[Path, ...] = (),
    ) -> RunReport:
        """Run a planned flow to its end, in the workspace of the principal whom it acts for.

        ``host_directories`` are those from which its tool steps may import files.

        Where its concurrency has no slot for it, it begins once there is one, unless it is to be skipped.

        Raises:
            SlotsTakenError: it is to be skipped.
            StepboxError: the driver can't run it; the run is recorded as failed. TakenOverError: see there.
            asyncio.CancelledError: this was cancelled, and so was the run, if it had begun. A run that somebody asked
                to cancel is reported as it ended.
        """
        self._expect(principal.workspace, plan.definition, NOTHING)
        version, *of_subflows = await self._store.flows.put_versions(
            principal.workspace, [plan.definition, *plan.subflows.values()]
        )
        return await self._in_its_turn(
            plan,
            version,
            observer=observer,
            trigger=trigger,
            subflows={each.flow: each.id for each in of_subflows},
            directories=[str(directory) for directory in host_directories],
            principal=principal.name,
        )

    async def retry(
        self,
        plan: Plan,
        of: Run,
        *,
        observer: Observer,
        trigger: Mapping[str, Json],
        principal: Principal,
        done: Sequence[Kept],
    ) -> RunReport:
        """Make a new run of the version of one that has ended, by its plan, and see it to its end; as :meth:`run`.

        ``done`` are ends of its steps and items that stand, so that these are not executed (:mod:`engine.retries`).
        """
        version = await self._store.flows.get(of.flow_version_id)
        return await self._in_its_turn(
            plan,
            version,
            observer=observer,
            trigger=trigger,
            subflows=of.subflows,
            directories=of.directories,
            principal=principal.name,
            done=done,
        )

    async def _in_its_turn(
        self,
        plan: Plan,
        version: FlowVersion,
        *,
        observer: Observer,
        trigger: Mapping[str, Json],
        subflows: Mapping[str, str],
        directories: Sequence[str],
        principal: str,
        done: Sequence[Kept] = (),
    ) -> RunReport:
        slot = slot_of(plan.definition.flow, plan.inputs, trigger)
        host_directories = tuple(Path(directory) for directory in directories)
        if slot is not None and slot.policy == "cancel_running":
            await self._store.runs.make_room(version.workspace, version.flow, slot)
        waits = False
        while True:
            beginning = self._begin(
                version,
                plan,
                trigger=trigger,
                subflows=subflows,
                directories=directories,
                slot=slot,
                done=done,
                principal=principal,
            )
            try:
                ended = await self._ended(self._drive(plan, beginning, Undisturbed(observer), host_directories))
                return await self._reported(ended)
            except SlotsTakenError as taken:
                if slot is None or slot.policy == "skip":
                    raise
                if not waits:
                    Undisturbed(observer).notice(Notice(kind="setup", message=f"waiting for its turn: {taken.message}"))
                waits = True
                await asyncio.sleep(LOOK_FOR_SLOT)

    async def resume(self, plan: Plan, run: Run, *, observer: Observer, cancel: bool = False) -> RunReport:
        """See a run to its end as :meth:`go_on` does; gives what it came to."""
        return await self._reported(await self.go_on(plan, run, observer=observer, cancel=cancel))

    async def go_on(self, plan: Plan, run: Run, *, observer: Observer, cancel: bool = False) -> Run:
        """Take over a run that no engine drives, and continue it where it is unfinished. ``plan`` is of its version.

        With ``cancel``, or where somebody has asked for that, all that is left of it is its end as cancelled, with its
        ``finally``.

        Raises:
            AlreadyFinishedError: it has ended.
            RunDrivenError: an engine drives it.
            HandedOverError: this one has let go of it; see :meth:`hand_over`.
            StepboxError, asyncio.CancelledError: as :meth:`run`, but that a run which had been cancelled is ended as
                such without raising anything.
        """
        directories = tuple(Path(directory) for directory in run.directories)
        beginning = self._take_over(run, plan.definition)
        driving = self._drive(plan, beginning, Undisturbed(observer), directories, cancel=cancel)
        try:
            return await self._ended(driving)
        except StoreUnavailableError:
            self._let_go.add(run.id)
            raise
        except HandedOverError:
            with Interruption() as interruption:
                await interruption.after(self._store.leases.release(run.id))
            self._leaving.discard(run.id)
            raise

    async def run_child(self, plan: Plan, *, parent: Run, origin: Origin, host_directories: tuple[Path, ...]) -> Run:
        """Run a subflow to its end, or continue the run of it that a lost attempt had started; as :meth:`run`."""
        known = await self._child_of(parent, origin) if origin.lost else None
        if known is not None and known.ended_at is not None:
            return await self._store.runs.get(known.id)
        if known is not None:
            beginning = self._recall(known.id, plan.definition, again=True)
        else:
            self._expect(parent.workspace, plan.definition, NOTHING)
            started_by = {"step": origin.step_id, "item": origin.item, "attempt": origin.attempt}
            trigger = {"trigger": {"kind": "flow", "run": parent.id, **started_by}}
            (version,) = await self._store.flows.put_versions(parent.workspace, [plan.definition])
            beginning = self._begin(version, plan, trigger=trigger, parent_id=parent.id, principal=parent.principal)
        return await self._drive(plan, beginning, NoObserver(), host_directories)

    async def _drive(
        self,
        plan: Plan,
        beginning: Coroutine[Any, Any, "_Begun"],
        observer: Observer,
        host_directories: tuple[Path, ...],
        *,
        cancel: bool = False,
    ) -> Run:
        """Drive a run, once it has begun, to its recorded end. ``cancel``: the end is all that is left of it."""
        with Interruption() as interruption, ExitStack() as leased:
            begun = await interruption.outlast(beginning)
            run = begun.run
            trace = self._traces.of_run(run)
            leased.enter_context(trace_context.within(trace))
            of_trace = None if trace is None else trace.trace_id
            leased.enter_context(log_context.about(run=run.id, flow=run.flow, step=None, trace_id=of_trace))
            self._behalves[run.id] = leased.enter_context(on_behalf_of(run.id))
            leased.callback(self._behalves.pop, run.id)
            if run.id in self._leaving:
                raise LeaseLostError(run.id) from HandedOverError(run.id)
            observer = Observers(observer, self._observer, self._traces)
            observer.notice(RunStarted(run=run, again=begun.again))
            cancel = cancel or run.cancel_requested_at is not None
            execution = self._execution(plan, run, observer, host_directories, begun.past)
            if interruption.came or cancel:
                execution.cancel()
            try:
                outcome, refusal = await self._outcome(execution, interruption, ending=cancel)
                if outcome.status is RunStatus.WAITING:
                    await interruption.after(self._park(execution))
                else:
                    left = execution.has_parked or outcome.status is not RunStatus.SUCCEEDED
                    if begun.past is not NOTHING or (plan.subflows and left):
                        await interruption.after(self._end_children(run, plan, host_directories))
                    await interruption.after(self._close(execution, outcome))
            except LeaseLostError as lost:
                if isinstance(lost.__cause__, HandedOverError):
                    await interruption.after(execution.attempts.logbook.leave())
                raise
            ended = await self._store.runs.get(run.id)
            observer.notice(RunEnded(run=ended))
        if refusal is not None:
            raise refusal
        return ended

    async def _outcome(
        self, execution: Execution, interruption: Interruption, *, ending: bool
    ) -> tuple[RunOutcome, StepboxError | None]:
        """What a run came to; and where the driver can't run it, why."""
        run_id = execution.run.id
        with self._heartbeat.driving(run_id, ending=ending) as driven:
            try:
                return await self._driver.run(execution), None
            except asyncio.CancelledError as problem:
                if not (ending or execution.was_cancelled or driven.only_asked):
                    interruption.came_with(problem)
                return RunOutcome(status=RunStatus.CANCELLED, error=why_ended(problem)), None
            except LeaseLostError:
                raise
            except Exception as problem:  # noqa: BLE001 - a bug must not leave a run without an end
                outcome = RunOutcome(status=RunStatus.FAILED, error=why_ended(problem))
                if isinstance(problem, StepboxError):
                    return outcome, problem
                _log.exception("run %s failed inside Stepbox", run_id)
                return outcome, None

    async def _reported(self, run: Run) -> RunReport:
        return report(run, await self._store.steps.summaries(run.id))

    async def _ended(self, driving: Coroutine[Any, Any, Run]) -> Run:
        try:
            return await driving
        except LeaseLostError as lost:
            if isinstance(lost.__cause__, StoreUnavailableError | HandedOverError):
                raise lost.__cause__ from None
            raise TakenOverError(lost.run_id) from None

    def _expect(self, workspace: str, definition: Definition, past: Past) -> None:
        for step in definition.flow.steps:
            if step.for_each is None and (step.id, None) not in past.ended:
                ceilings = self.policies.known(workspace).ceilings
                self._executors[type(step)].expect(ceilings.bounded(step), 1)

    async def _begin(
        self,
        version: FlowVersion,
        plan: Plan,
        *,
        trigger: Mapping[str, Json],
        principal: str,
        parent_id: str | None = None,
        subflows: Mapping[str, str] | None = None,
        directories: Sequence[str] = (),
        slot: Slot | None = None,
        done: Sequence[Kept] = (),
    ) -> "_Begun":
        create = partial(
            self._store.runs.create,
            version,
            plan.inputs,
            trigger=trace_context.kept(trigger),
            parent_id=parent_id,
            running=True,
            subflows=subflows,
            directories=directories,
            slot=slot,
            principal=principal,
        )
        if not done:
            return _Begun(run=await create(), past=NOTHING)
        async with self._store.transaction():
            run = await create()
            await self._store.steps.keep(run.id, done)
            await self._store.artifacts.add_of_event(run, of_event(trigger))
        return await self._recall(run.id, plan.definition, again=False)

    async def _take_over(self, run: Run, definition: Definition) -> "_Begun":
        lets_go = run.owner is not None and (run.id in self._let_go or is_dead(run.owner))
        dead = run.owner if lets_go else None
        self._let_go.discard(run.id)
        await self._store.leases.take_over(run.id, dead=dead)
        return await self._recall(run.id, definition, again=run.started_at is not None)

    async def _recall(self, run_id: str, definition: Definition, *, again: bool) -> "_Begun":
        """A run that another engine had begun, and that this one drives now."""
        run, attempts, left = await self._store.runs.begun(run_id)
        past = Past.of(definition, attempts, left)
        self._expect(run.workspace, definition, past)
        return _Begun(run=run, past=past, again=again)

    async def _child_of(self, parent: Run, origin: Origin) -> RunSummary | None:
        """The run that the attempts right before this one had started, and that nobody heard the end of."""
        for child in reversed(await self._store.runs.children(parent.id)):
            by = child.trigger.get("trigger")
            if (
                isinstance(by, Mapping)
                and (by.get("step"), by.get("item")) == (origin.step_id, origin.item)
                and by.get("attempt") in origin.lost
            ):
                return child
        return None

    async def _end_children(self, run: Run, plan: Plan, host_directories: tuple[Path, ...]) -> None:
        """Cancel the runs that the run had started and that no step of it has continued."""
        for child in await self._store.runs.children(run.id):
            definition = plan.subflows.get(child.flow)
            if child.ended_at is None and definition is not None:
                if child.owner is None:
                    await self._store.leases.take_over(child.id)
                of_child = Plan(definition=definition, inputs={}, subflows=plan.subflows)
                beginning = self._recall(child.id, definition, again=True)
                await self._drive(of_child, beginning, NoObserver(), host_directories, cancel=True)

    def _execution(
        self, plan: Plan, run: Run, observer: Observer, host_directories: tuple[Path, ...], past: Past
    ) -> Execution:
        attempts = Attempts(
            run=run,
            store=self._store,
            executors=self._executors,
            policies=self.policies,
            code_slots=self._code_slots,
            refusals=self._refusals,
            tools=self._tools,
            logbook=Logbook(self._store),
            observer=observer,
            children=_Children(self, run, plan.subflows, host_directories),
            host_directories=host_directories,
            subflow_digests=tuple(sorted(subflow.digest for subflow in plan.subflows.values())),
            past=past,
            secrets=RunSecrets(self._secrets, run.workspace, plan.definition),
            admission=Admission(self._store, self.policies, run, plan.definition),
        )
        return Execution(definition=plan.definition, run=run, attempts=attempts, observer=observer)

    async def _park(self, execution: Execution) -> None:
        with Interruption() as interruption:
            await interruption.after(execution.attempts.logbook.close())
            await interruption.after(self._store.runs.park(execution.run.id, within=execution.waits_within))

    async def _close(self, execution: Execution, outcome: RunOutcome) -> None:
        """Complete the record of a run, whatever happens meanwhile."""
        run = execution.run
        with Interruption() as interruption:
            try:
                if not execution.entered and outcome.error is not None:
                    await interruption.after(execution.abandon(outcome.error))
                await interruption.after(execution.attempts.logbook.close())
            finally:
                finish = self._store.runs.finish(
                    run.id,
                    outcome.status,
                    output=outcome.output,
                    error=outcome.error,
                    granted=granted(execution.definition),
                )
                try:
                    await interruption.after(finish)
                except AlreadyFinishedError:
                    raise LeaseLostError(run.id) from None


class _Children:
    """Starts the subflows of one run."""

    def __init__(
        self, runs: Runs, parent: Run, subflows: Mapping[str, Definition], host_directories: tuple[Path, ...]
    ) -> None:
        self._runs = runs
        self._parent = parent
        self._subflows = subflows
        self._host_directories = host_directories

    async def run_child(self, name: str, inputs: Mapping[str, Json], origin: Origin) -> StepResult:
        definition = self._subflows[name]
        plan = Plan(definition=definition, inputs=validate_inputs(definition.flow, inputs), subflows=self._subflows)
        child = await self._runs.run_child(
            plan, parent=self._parent, origin=origin, host_directories=self._host_directories
        )
        if child.status is RunStatus.SUCCEEDED:
            return StepResult(status=StepStatus.SUCCEEDED, result=child.output)
        if child.status is RunStatus.WAITING:
            return waiting(f"waits for flow '{name}' (run {child.id}), which waits")
        cause = child.error.message if child.error else child.status.value
        error = StepError(code="subflow_failed", message=f"flow '{name}' (run {child.id}) failed: {cause}")
        return StepResult(status=StepStatus.FAILED, error=error)

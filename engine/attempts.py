"""Attempts of steps: each is recorded as it starts and as it ends, with its log and its tool calls."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import Protocol, assert_never

from ulid import ULID

from engine import log_context, trace_context
from engine.artifacts import RunArtifacts, artifact_of, of_event
from engine.attempt_call import Call
from engine.audit import Target
from engine.cancellation import Interruption
from engine.code_slots import CodeSlots
from engine.full_network import Admission
from engine.logbook import Logbook
from engine.past import MAX_LOST, NO_TRIES, NOTHING, Past, wants_another
from engine.policies import InForce, Policies
from engine.policy import ForbiddenError, require_acting
from engine.progress import AttemptEnded, AttemptStarted, CodeAdmitted, Observer
from engine.records import Run, StepRun, step_label
from engine.refusals import Refusals
from engine.run_secrets import (
    RunSecrets,
    log_failure,
    masked_result,
)
from engine.step_inputs import Inputs
from engine.store import Store
from engine.store.code_slots import CodeSlot
from engine.store.errors import LeaseLostError, StoreError
from engine.store.leases import ENGINE_ENDED
from engine.tool_calls import ToolCaller
from flows.contracts import (
    Isolation,
    StepError,
    StepExecutor,
    StepResult,
)
from flows.errors import RefusedError, StepboxError
from flows.expressions import TooLargeError
from flows.model import Retry, StepConfig
from flows.values import Json, StepStatus
from steps.ceilings import Ceilings
from steps.code import CodeStep, SandboxConfig
from steps.masking import Mask
from steps.secret_names import secrets_of
from steps.subflow import SubflowStep
from steps.wait import WaitStep

_log = logging.getLogger(__name__)

INTERNAL_ERROR = "internal_error"
"""The code of errors that are Stepbox's own."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The attempt that starts a run of another flow. ``lost`` are the lost and the parked ones right before it."""

    step_id: str
    item: int | None
    attempt: int
    lost: tuple[int, ...]


class Children(Protocol):
    """Starts the runs that subflow steps ask for."""

    async def run_child(self, name: str, inputs: Mapping[str, Json], origin: Origin) -> StepResult:
        """Run the flow of that name as a child of the run, or go on with the one of a lost attempt, to its end."""


class Performer(Protocol):
    """Makes one step's attempts, retries included, and gives the last one's outcome."""

    async def __call__(self, work: "Work") -> StepResult: ...


class Attempts:
    """Makes and records the attempts of one run's steps.

    ``host_directories`` are those from which its tool steps, not its code, may import files: the flow's own.
    ``subflow_digests`` are those of every flow that it can start. ``admission`` says which steps may have the whole
    network. ``past`` is what another engine has left of the run.
    """

    def __init__(
        self,
        *,
        run: Run,
        store: Store,
        executors: Mapping[type[StepConfig], StepExecutor],
        policies: Policies,
        refusals: Refusals,
        code_slots: CodeSlots,
        tools: ToolCaller,
        logbook: Logbook,
        observer: Observer,
        children: Children,
        host_directories: tuple[Path, ...],
        subflow_digests: tuple[str, ...],
        secrets: RunSecrets,
        admission: Admission,
        past: Past = NOTHING,
    ) -> None:
        self.run = run
        self.store = store
        self.executors = executors
        self.policies = policies
        self.refusals = refusals
        self.code_slots = code_slots
        self.tools = tools
        self.logbook = logbook
        self.observer = observer
        self.children = children
        self.host_directories = host_directories
        self.subflow_digests = subflow_digests
        self.secrets = secrets
        self.artifacts = RunArtifacts(of_event(run.trigger))
        self.admission = admission
        self.past = past
        self.begun: dict[str, Work] = {}
        """By step id, the work last begun of each step that has no end yet."""

    def expect(self, step: StepConfig, count: int) -> None:
        """Say that a step is about to be executed this many times."""
        ceilings = self.policies.known(self.run.workspace).ceilings
        self.executors[type(step)].expect(ceilings.bounded(step), count)

    async def require_acting(self) -> None:
        """Raise :class:`engine.policy.ForbiddenError` where the one whom the run acts for may not have it go on."""
        run = self.run
        record = await self.store.principals.current(run.workspace, run.principal)
        require_acting(run.principal, record, run.flow)

    def work(self, step: StepConfig, names: Mapping[str, Json], item: int | None = None) -> "Work":
        """The work of one step, or of one of its items, with all that it has of expressions resolved.

        Raises:
            ExpressionError: one can't be evaluated.
        """
        return Work(self, resolved(step, names), Inputs(step.with_, names, secrets_of(step)), item)

    def over(self, step: StepConfig, result: StepResult, item: int | None = None) -> StepRun:
        """The record of an end that no attempt stands for: skipped, cached, cut off, or the sum of the items."""
        return self.store.steps.over(self.run.id, step.id, result, attempt=0, item=item)


class Work:
    """One step's work, or one item's: its inputs, and the attempts made so far.

    Not a dataclass: Prefect walks into those when a task gets one.
    """

    def __init__(self, attempts: Attempts, step: StepConfig, inputs: Inputs, item: int | None) -> None:
        self._attempts = attempts
        self.step = step
        self.with_secrets = inputs.with_secrets
        self.inputs = inputs.shown
        """As records show them: where a secret is given, its expression stands for the value."""
        self.item = item
        tries = attempts.past.tries.get((step.id, item), NO_TRIES)
        self.made = tries.made
        """Attempts made so far, which is the number of the last."""
        self._lost = len(tries.lost)
        self._parked = len(tries.parked)
        self._just_lost = tries.just_lost
        # The steps of a subflow are counted in its own run.
        self._fatal = tries.fatal
        self._suspect = self._fatal >= MAX_LOST and not isinstance(step, SubflowStep)
        self.tool_calls = 0
        """Calls that the last attempt made."""
        self.last: StepRun | None = None
        """The record of the last attempt."""
        self.outcome: StepResult | None = None
        """What the last attempt came to."""

    @property
    def label(self) -> str:
        """The step's id, with the item's index: ``load[3]``."""
        return step_label(self.step.id, self.item)

    def worth_retrying(self, result: StepResult) -> bool:
        """Whether the step's ``retry`` wants another attempt after this outcome."""
        return not self._suspect and wants_another(self.step.retry, result, self.made - self._lost - self._parked)

    @property
    def is_over(self) -> bool:
        """Whether no further attempt is to come: the last one succeeded, failed for good, or was cut off."""
        if self.last is None or self.outcome is None or self.outcome.status is StepStatus.WAITING:
            return False
        return self.last.attempt == 0 or not self.worth_retrying(self.outcome)

    async def attempt(self) -> StepResult:
        """Make one attempt and record it; none where it is to be feared that it ends the engine.

        Raises:
            asyncio.CancelledError: the attempt was cut off, and is recorded as cancelled; or it had ended, and is
                recorded as it did.
        """
        owner = self._attempts
        if self._suspect:
            return await self._end_without_attempt(_too_often_lost(self._fatal))
        self.made += 1
        here = trace_context.current()
        span = None if here is None else here.below(owner.run.id, self.step.id, self.item, self.made)
        with trace_context.within(span), log_context.about(step=self.label):
            return await self._make()

    async def _make(self) -> StepResult:
        owner = self._attempts
        self.tool_calls, self.last, self.outcome = 0, None, None
        owner.begun[self.step.id] = self
        in_force = await owner.policies.in_force(owner.run.workspace)
        row = await owner.store.steps.start(
            owner.run.id,
            self.step.id,
            attempt=self.made,
            item=self.item,
            policy=in_force.number,
            code=_slot(self.step, owner.run.workspace, in_force),
        )
        owner.observer.notice(AttemptStarted(attempt=row))
        clock = asyncio.get_running_loop().time
        began = clock()
        with Interruption() as interruption:
            try:
                result = await self._execute(row, in_force.ceilings)
            except asyncio.CancelledError as problem:
                interruption.came_with(problem)
                result = self._cut_off()
            result = replace(
                result,
                duration=result.duration or clock() - began,
                tool_calls=max(result.tool_calls, self.tool_calls),
            )
            await interruption.after(self._finish(row, result))
        return result

    async def cached(self, result: Json, artifacts: Sequence[dict[str, Json]]) -> StepResult:
        """Record that the step's result and its artifacts came from the cache, without an attempt."""
        again = tuple(artifact_of(document, lambda: str(ULID())) for document in artifacts)
        return await self._end_without_attempt(StepResult(status=StepStatus.SUCCEEDED, result=result, artifacts=again))

    async def abandoned(self) -> StepResult:
        """Record that Prefect's backstop ended the last attempt, which went on long after the step's timeout."""
        return await self._end_without_attempt(_step_timed_out(self.step))

    def cache_key(self) -> str:
        """What makes two executions the same: workspace, flow, the step with its code, its subflows, its inputs."""
        owner, step = self._attempts, self.step
        source = step.source if isinstance(step, CodeStep) else None
        subflows = owner.subflow_digests if isinstance(step, SubflowStep) else ()
        configuration = step.model_dump(mode="json", exclude={"with_", "name"})
        parts: list[Json] = [owner.run.workspace, owner.run.flow, configuration, source, subflows, self.inputs]
        if isinstance(step, SandboxConfig) and step.files:
            parts.append(owner.artifacts.digests(step.files))
        return sha256(dumps(parts, sort_keys=True).encode()).hexdigest()

    async def _end_without_attempt(self, outcome: StepResult) -> StepResult:
        recorded = self._attempts.over(self.step, outcome, self.item)
        with Interruption() as interruption:
            await interruption.after(self._attempts.store.steps.add(recorded, outcome.artifacts))
            self.last, self.outcome = recorded, outcome
        return outcome

    async def _finish(self, row: StepRun, result: StepResult) -> None:
        owner = self._attempts
        with Interruption() as interruption:
            try:
                await interruption.after(owner.logbook.flush())
            except StoreError:
                _log.warning("lines of run %s could not be written yet", owner.run.id, exc_info=True)
            await interruption.after(owner.store.steps.finish(row.id, result))
            if row.code_workspace is not None:
                owner.code_slots.freed(row.code_workspace)
            self.last = row.ended(result, datetime.now(UTC))
            self.outcome = result
            owner.observer.notice(AttemptEnded(attempt=self.last, retrying=self.worth_retrying(result)))

    async def _execute(self, row: StepRun, ceilings: Ceilings) -> StepResult:
        origin = self._origin()
        try:
            given = await self._attempts.secrets.given_to(self.step)
        except StepboxError as problem:
            return unsuccessful(problem)
        call = Call(self._attempts, self, origin, given)
        result = await self._try(call, row, ceilings)
        if result.status is StepStatus.TIMED_OUT and call.asking.waits is not None:
            result = replace(call.asking.waits, isolation=result.isolation)
        return result if given.mask is None else masked_result(result, given.mask)

    async def _try(self, call: "Call", row: StepRun, ceilings: Ceilings) -> StepResult:
        step = self.step
        executor = self._attempts.executors[type(step)]
        deadline = asyncio.timeout(step.timeout)
        try:
            async with deadline:
                if row.queued:
                    ceilings = await self._admitted(row)
                await self._attempts.require_acting()
                if (refused := await self._refused(ceilings, executor.isolation)) is not None:
                    return refused
                call.asking.stop = lambda: deadline.reschedule(asyncio.get_running_loop().time())
                return await executor.execute(ceilings.bounded(step), call)
        except LeaseLostError:
            raise
        except StepboxError as problem:
            if isinstance(problem, ForbiddenError | RefusedError):
                await self._note(problem)
            return unsuccessful(problem)
        except asyncio.CancelledError as problem:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return self._internal_error(problem, call.mask)
        except Exception as problem:  # noqa: BLE001 - one step's bug must not take the run's record with it
            if deadline.expired():
                return replace(_step_timed_out(step), isolation=executor.isolation)
            return self._internal_error(problem, call.mask)
        finally:
            call.asking.stop = None
            call.artifacts.close()

    async def _refused(self, ceilings: Ceilings, isolation: Isolation | None) -> StepResult | None:
        """What the attempt comes to where the step may not be executed, or not yet; None: it may."""
        if (refusal := ceilings.refusal(self.step, isolation)) is not None:
            await self._note(refusal)
            return replace(unsuccessful(refusal), isolation=isolation)
        return await self._attempts.admission.refusal(self.step)

    async def _note(self, refused: StepboxError) -> None:
        """Record in the audit that the step is not executed."""
        owner = self._attempts
        await owner.refusals.note_of_run(
            refused, owner.run, action="step.execute", target=Target(kind="step", id=self.step.id)
        )

    async def _admitted(self, row: StepRun) -> Ceilings:
        """Wait for a slot for the attempt's code; gives the ceilings that hold then."""
        owner = self._attempts
        await owner.code_slots.wait(owner.run.workspace, row.id)
        owner.observer.notice(CodeAdmitted(attempt=replace(row, code_began_at=datetime.now(UTC))))
        return await owner.policies.ceilings(owner.run.workspace)

    def _origin(self) -> Origin:
        lost, self._just_lost = self._just_lost, ()
        return Origin(step_id=self.step.id, item=self.item, attempt=self.made, lost=lost)

    def _cut_off(self) -> StepResult:
        error = StepError(code="cancelled", message="the attempt was cut off before it had finished")
        isolation = self._attempts.executors[type(self.step)].isolation
        return StepResult(status=StepStatus.CANCELLED, error=error, isolation=isolation)

    def _internal_error(self, problem: BaseException, mask: Mask | None) -> StepResult:
        log_failure(_log, f"the executor of step {self.step.id} failed in run {self._attempts.run.id}", problem, mask)
        message = f"Stepbox failed while executing this step: {type(problem).__name__}: {problem}"
        error = StepError(code=INTERNAL_ERROR, message=message, fix="report this as a bug")
        return StepResult(status=StepStatus.FAILED, error=error)


def resolved(step: StepConfig, names: Mapping[str, Json]) -> StepConfig:
    """A step with what its own settings have of expressions resolved, besides ``with``.

    Raises:
        ExpressionError: one can't be evaluated.
    """
    return step.resolved(names) if isinstance(step, WaitStep) else step


def unsuccessful(problem: StepboxError) -> StepResult:
    """An error of ours as what a step came to."""
    status = StepStatus.LIMIT_EXCEEDED if isinstance(problem, TooLargeError) else StepStatus.FAILED
    return StepResult(status=status, error=StepError.of(problem))


def _slot(step: StepConfig, workspace: str, in_force: InForce) -> CodeSlot | None:
    """The slot that an attempt of the step needs; None where it executes no code."""
    if not isinstance(step, SandboxConfig):
        return None
    return CodeSlot(workspace=workspace, limit=in_force.policy.concurrent_code)


def _too_often_lost(times: int) -> StepResult:
    error = StepError(
        code=ENGINE_ENDED,
        message=f"the engine ended during {times} attempts of this step, which may be why",
        fix="look into the system's log for what ended it (as where memory runs out), then run the flow again",
    )
    return StepResult(status=StepStatus.KILLED, error=error)


def _step_timed_out(step: StepConfig) -> StepResult:
    error = StepError(
        code="step_timed_out",
        message=f"the attempt took longer than the step's timeout of {step.timeout or 0:g} s",
        fix="give the step a longer `timeout`",
    )
    return StepResult(status=StepStatus.TIMED_OUT, error=error, duration=step.timeout or 0.0)


def retry_delays(retry: Retry) -> list[float]:
    """The seconds before each further attempt, before jitter: ``attempts - 1`` of them."""
    factors: list[float]
    match retry.backoff:
        case "constant":
            factors = [1.0] * (retry.attempts - 1)
        case "linear":
            factors = [float(number) for number in range(1, retry.attempts)]
        case "exponential":
            factors = [2.0**number for number in range(retry.attempts - 1)]
        case _:
            assert_never(retry.backoff)
    return [min(retry.delay * factor, retry.max_delay) for factor in factors]

"""One run from its first step to its end: which step runs when, with what, and what its outcome means.

Nothing here knows Prefect: a :class:`Performer` makes the attempts of a step (the orchestrator's makes each step a
Prefect task). The store has every attempt before the next step sees its result.
"""

import asyncio
import logging
from asyncio import CancelledError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from engine.attempts import INTERNAL_ERROR, Attempts, Performer, unsuccessful
from engine.cancellation import Interruption, together
from engine.items import Items
from engine.names import Names
from engine.past import NEEDS_FAILED, NOTHING, RUN_CANCELLED
from engine.progress import Observer, StepEnded
from engine.records import Run, StepRun
from engine.store.errors import LeaseLostError
from flows.contracts import StepError, StepResult
from flows.definition import Definition
from flows.errors import StepboxError
from flows.expressions import TooLargeError, condition, resolve
from flows.model import StepConfig
from flows.values import MAX_COMPOSED, Json, RunStatus, StepStatus, json_size

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """What a run came to."""

    status: RunStatus
    output: Json = None
    error: StepError | None = None


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a step ended, and whether that holds back the steps that need it."""

    status: StepStatus
    error: StepError | None
    blocks: bool


class Execution:
    """One run of one flow definition."""

    def __init__(self, *, definition: Definition, run: Run, attempts: Attempts, observer: Observer) -> None:
        self.definition = definition
        self.run = run
        self.entered = False
        """Whether :meth:`body` has been called."""
        self.attempts = attempts
        self._observer = observer
        self._names = Names(run)
        self._ended: dict[str, Ended] = {}
        self.parked: dict[str, StepError | None] = {}
        """By step id, what the steps wait for that can't go on yet; None for one that needs such a step."""
        self._has_parked = False
        self._cancelled = False
        self._reason = attempts.past.reason

    @property
    def has_parked(self) -> bool:
        """Whether a step could not go on yet, at some time: what it had started may still be parked."""
        return self._has_parked

    @property
    def waits_within(self) -> float | None:
        """The seconds after which a run that waits has timed out: where it is one of ``steps`` that waits."""
        waits = any(step.id in self.parked for step in self.definition.flow.steps)
        return self._time_left() if waits else None

    @property
    def was_cancelled(self) -> bool:
        """Whether the run had been cancelled when another engine left it."""
        return self._reason is not None and self._reason.code == RUN_CANCELLED

    def cancel(self) -> None:
        """Make the run end as cancelled as soon as :meth:`body` is called: for who is cancelled before that."""
        self._cancelled = True

    async def body(self, perform: Performer) -> RunOutcome:
        """Run the flow: its steps, then ``on_failure`` where it failed, then ``finally`` whatever happened.

        What another engine had brought to its end is not done again. Where Stepbox itself fails, as where the store is
        gone, so has the run.

        Raises:
            asyncio.CancelledError: the run was cancelled. Its running steps are, and every step has its end;
                ``finally`` has run to its end, unless the run was cancelled once more.
            LeaseLostError: another engine drives it now.

        A run with steps that can't go on yet, and no others that can, comes to ``WAITING``: with neither of the two.
        """
        self.entered = True
        flow = self.definition.flow
        self._recall()
        try:
            outcome = await self._main(perform)
            if outcome.status is RunStatus.FAILED:
                self._names.set_error(outcome.error)
                await self._list(flow.on_failure, perform)
            if self.parked:
                return RunOutcome(status=RunStatus.WAITING)
        except asyncio.CancelledError as problem:
            with Interruption() as interruption:
                await interruption.after(self.abandon(why_ended(problem)))
                await interruption.after(self._clean_up(perform))
            raise
        failed = await self._clean_up(perform)
        if failed is not None and outcome.status is RunStatus.SUCCEEDED:
            outcome = RunOutcome(status=RunStatus.FAILED, output=outcome.output, error=failed)
        return outcome

    async def abandon(self, reason: StepError) -> None:
        """Give each of ``steps`` that has no end its own, because the run goes no further."""
        self._names.set_error(reason)
        await self._end_all(self.definition.flow.steps, reason)

    async def _main(self, perform: Performer) -> RunOutcome:
        flow = self.definition.flow
        error = self._reason
        if self._cancelled or self.was_cancelled:
            raise asyncio.CancelledError
        if error is not None:
            await self._end_all(flow.steps, error)
        else:
            within = flow.timeout if self.attempts.past is NOTHING else self._time_left()
            error = await self._list(flow.steps, perform, within=within)
        if self.parked:
            return RunOutcome(status=RunStatus.WAITING)
        if error is not None:
            return RunOutcome(status=RunStatus.FAILED, error=error)
        try:
            output = _output(resolve(flow.output, self._names.of_step()))
        except StepboxError as problem:
            return RunOutcome(status=RunStatus.FAILED, error=StepError.of(problem))
        return RunOutcome(status=RunStatus.SUCCEEDED, output=output)

    def _recall(self) -> None:
        """Keep the ends of steps that are recorded already."""
        past = self.attempts.past
        for (step_id, item), row in past.ended.items():
            outcome = past.outcome(step_id)
            if item is None and outcome is not None:
                needs_failed = row.error is not None and row.error.code == NEEDS_FAILED
                self._keep(self.definition.steps[step_id], outcome, blocks=needs_failed or None)
                self._observer.notice(StepEnded(attempt=row, recalled=True))
        if self._reason is None and self.attempts.past.cut_off:
            left = self._time_left()
            timed_out = left is not None and left <= 0
            self._reason = _run_timed_out(self.definition.flow.timeout) if timed_out else why_ended(CancelledError())

    def _time_left(self) -> float | None:
        """The seconds that are left of the flow's timeout, which counts from the run's first start."""
        timeout = self.definition.flow.timeout
        if timeout is None or self.run.started_at is None:
            return timeout
        return timeout - (datetime.now(UTC) - self.run.started_at).total_seconds()

    async def _clean_up(self, perform: Performer) -> StepError | None:
        """Run the ``finally`` steps. They outlast the first cancellation of the run; the second one cuts them short."""
        flow, task = self.definition.flow, asyncio.current_task()
        for step in flow.on_failure:
            if step.id not in self._ended:
                self._names.add_step(step.id, StepResult(status=StepStatus.SKIPPED))
        if not flow.finally_:
            return None
        cleaning = asyncio.ensure_future(self._list(flow.finally_, perform))
        interruption: asyncio.CancelledError | None = None
        while not cleaning.done():
            if task is not None and task.cancelling() > 1:
                cleaning.cancel()
            try:
                await asyncio.shield(cleaning)
            except asyncio.CancelledError as problem:
                interruption = problem
        if interruption is None:
            return cleaning.result()
        # It may have been cancelled before it began.
        await self._end_all(flow.finally_, why_ended(interruption))
        raise interruption

    async def _list(
        self, steps: Sequence[StepConfig], perform: Performer, *, within: float | None = None
    ) -> StepError | None:
        """Run a list of steps to the end of each, ``within`` so many seconds; why it failed, if it did."""
        if within is not None and within <= 0:
            error = _run_timed_out(self.definition.flow.timeout)
            await self._end_all(steps, error)
            return error
        deadline = asyncio.timeout(within)
        ended = {step.id: asyncio.Event() for step in steps}
        try:
            async with deadline:
                await together(self._in_its_turn(step, ended, perform) for step in steps)
            return None if self.parked else self._failure(steps)
        except asyncio.CancelledError as problem:
            await self._end_all(steps, why_ended(problem))
            raise
        except LeaseLostError:
            raise
        except Exception as problem:  # noqa: BLE001 - a bug, or a lost store, fails the run and no more
            error = _run_timed_out(self.definition.flow.timeout) if deadline.expired() else why_ended(problem)
            if error.code == INTERNAL_ERROR:
                _log.error("run %s failed inside Stepbox", self.run.id, exc_info=problem)
        await self._end_all(steps, error)
        return error

    async def _in_its_turn(self, step: StepConfig, ended: Mapping[str, asyncio.Event], perform: Performer) -> None:
        for need in self.definition.needs[step.id]:
            await ended[need].wait()
        if any(need in self.parked for need in self.definition.needs[step.id]):
            self.parked[step.id] = None
        else:
            await self._step(step, perform)
        ended[step.id].set()

    def _failure(self, steps: Sequence[StepConfig]) -> StepError | None:
        """The first of the steps, as they are written, whose failure is the run's."""
        for step in steps:
            end = self._ended[step.id]
            if end.blocks and end.status is not StepStatus.SKIPPED:
                cause = end.error.message if end.error else end.status.value
                message = f"step '{step.id}' {_words(end.status)}: {cause}"
                return StepError(code="step_failed", message=message, fix=end.error.fix if end.error else None)
        return None

    async def _step(self, step: StepConfig, perform: Performer) -> None:
        if step.id in self._ended:
            return
        for need in self.definition.needs[step.id]:
            if self._ended[need].blocks:
                message = f"step '{need}', which this one needs, {_words(self._ended[need].status)}"
                error = StepError(code=NEEDS_FAILED, message=message)
                await self._end(step, StepResult(status=StepStatus.SKIPPED, error=error), blocks=True)
                return
        try:
            names = self._names.of_step()
            if step.if_ is not None and not condition(step.if_, names):
                await self._end(step, StepResult(status=StepStatus.SKIPPED))
            elif step.for_each is not None:
                items = Items(step, step.for_each, attempts=self.attempts, names=self._names)
                await self._end_or_park(step, await items.run(perform))
            else:
                work = self.attempts.work(step, names)
                await self._end_or_park(step, await perform(work), recorded=work.last)
        except StepboxError as problem:
            await self._end(step, unsuccessful(problem))

    async def _end_or_park(self, step: StepConfig, result: StepResult, *, recorded: StepRun | None = None) -> None:
        if result.status is not StepStatus.WAITING:
            await self._end(step, result, recorded=recorded)
            return
        self._has_parked = True
        if step in self.definition.flow.finally_:
            await self._end(step, _cannot_wait())
        else:
            self.parked[step.id] = result.error

    async def _end(
        self, step: StepConfig, result: StepResult, *, recorded: StepRun | None = None, blocks: bool | None = None
    ) -> None:
        """Keep how a step ended, and record it where its last attempt isn't that record already."""
        with Interruption() as interruption:
            if recorded is None:
                recorded = self.attempts.over(step, result)
                await interruption.after(self.attempts.store.steps.add(recorded))
            self._keep(step, result, blocks=blocks)
            self._observer.notice(StepEnded(attempt=recorded))

    def _keep(self, step: StepConfig, result: StepResult, *, blocks: bool | None = None) -> None:
        if blocks is None:
            blocks = step.on_error == "fail" and result.status not in {StepStatus.SUCCEEDED, StepStatus.SKIPPED}
        self._ended[step.id] = Ended(status=result.status, error=result.error, blocks=blocks)
        self._names.add_step(step.id, result)
        self.attempts.artifacts.add(step.id, result)
        self.attempts.begun.pop(step.id, None)

    async def _end_all(self, steps: Sequence[StepConfig], reason: StepError) -> None:
        """Give the steps that a cancellation, a timeout or a bug left without an end one, to the last."""
        with Interruption() as interruption:
            for step in steps:
                self.parked.pop(step.id, None)
                if step.id not in self._ended:
                    await interruption.after(self._cut_off(step, reason))

    async def _cut_off(self, step: StepConfig, reason: StepError) -> None:
        work = self.attempts.begun.get(step.id)
        past = self.attempts.past
        begun = work is not None or any(key[0] == step.id for key in (*past.tries, *past.ended))
        status = StepStatus.CANCELLED if begun else StepStatus.SKIPPED
        result, recorded = StepResult(status=status, error=reason), None
        if work is not None and work.outcome is not None and step.for_each is None and work.is_over:
            result, recorded = work.outcome, work.last
        try:
            await self._end(step, result, recorded=recorded)
        except StepboxError:
            _log.exception("the end of step %s of run %s can't be recorded", step.id, self.run.id)
            self._keep(step, result)


def _output(value: Json) -> Json:
    """The output of a run, which as the result of a subflow step must fit where results do."""
    size = json_size(value)
    if size > MAX_COMPOSED:
        message = f"the output is {size:,} bytes of JSON, the limit is {MAX_COMPOSED:,}"
        raise TooLargeError(message, fix="give only what is needed, or let a tool keep what is large")
    return value


_WORDS = {
    StepStatus.TIMED_OUT: "timed out",
    StepStatus.OUT_OF_MEMORY: "ran out of memory",
    StepStatus.LIMIT_EXCEEDED: "exceeded a limit",
    StepStatus.KILLED: "was killed",
    StepStatus.CANCELLED: "was cancelled",
    StepStatus.SKIPPED: "was skipped",
}


def _words(status: StepStatus) -> str:
    """A status as a sentence has it: ``ran out of memory``."""
    return _WORDS.get(status, status.value)


def _run_timed_out(after: float | None) -> StepError:
    return StepError(
        code="run_timed_out",
        message=f"the run took longer than its timeout of {after or 0:g} s",
        fix="give the flow a longer `timeout`, or make its steps faster",
    )


def _cannot_wait() -> StepResult:
    message = (
        "a step of `finally` can't wait: it is executed where the run was cancelled, too, and then nothing goes on"
    )
    error = StepError(code="cannot_wait", message=message, fix="wait in `steps` or in `on_failure`")
    return StepResult(status=StepStatus.FAILED, error=error)


def why_ended(problem: BaseException) -> StepError:
    """Why a run ended that did not come to its end: it was cancelled, or Stepbox itself failed."""
    if isinstance(problem, asyncio.CancelledError):
        return StepError(code=RUN_CANCELLED, message="the run was cancelled")
    if isinstance(problem, StepboxError):
        return StepError.of(problem)
    return StepError(code=INTERNAL_ERROR, message=f"{type(problem).__name__}: {problem}", fix="report this as a bug")

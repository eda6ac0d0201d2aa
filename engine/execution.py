"""One run from its first step to its end: which step runs when, with what, and what its outcome means.

Nothing here knows Prefect: a :class:`Performer` makes the attempts of a step (the orchestrator's makes each step a
Prefect task). The store has every attempt before the next step sees its result.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from engine.attempts import INTERNAL_ERROR, Attempts, Work
from engine.progress import Observer, StepEnded
from engine.records import Run, StepRun
from flows.contracts import StepError, StepResult
from flows.definition import Definition
from flows.errors import StepboxError
from flows.explanations import type_name
from flows.expressions import condition, resolve
from flows.model import ForEach, StepConfig
from flows.values import Json, RunStatus, StepStatus


class Performer(Protocol):
    """Makes one step's attempts, retries included, and gives the last one's outcome."""

    async def __call__(self, work: Work) -> StepResult: ...


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """What a run came to."""

    status: RunStatus
    output: Json = None
    error: StepError | None = None


@dataclass(frozen=True, kw_only=True)
class Blocked:
    """Why a step doesn't run, and whether that holds back the steps that need it."""

    error: StepError | None
    blocks: bool


class Execution:
    """One run of one flow definition."""

    def __init__(self, *, definition: Definition, run: Run, attempts: Attempts, observer: Observer) -> None:
        self.definition = definition
        self.run = run
        self._attempts = attempts
        self._observer = observer
        self._results: dict[str, StepResult] = {}
        self._blocking: dict[str, bool] = {}
        self._error: StepError | None = None

    async def body(self, perform: Performer) -> RunOutcome:
        """Run the flow: its steps, then ``on_failure`` where one failed, then ``finally`` whatever happened.

        Raises:
            asyncio.CancelledError: the run was cancelled; its running steps are, and its ``finally`` has run, unless
                it was cancelled again meanwhile.
            Exception: Stepbox itself failed, as where the store is gone; ``finally`` has been tried.
        """
        flow = self.definition.flow
        handled = [*flow.steps]
        try:
            outcome = await self._main(perform)
            self._error = outcome.error
            if outcome.status is RunStatus.FAILED:
                handled += flow.on_failure
                await self._group(flow.on_failure, perform)
        except (asyncio.CancelledError, Exception) as problem:
            self._error = why_ended(problem)
            await self._mark_unfinished(handled, self._error)
            await self._clean_up(perform)
            raise
        failed = await self._clean_up(perform)
        if failed is not None and outcome.status is RunStatus.SUCCEEDED:
            outcome = RunOutcome(status=RunStatus.FAILED, output=outcome.output, error=failed)
        return outcome

    async def _clean_up(self, perform: Performer) -> StepError | None:
        """Run the ``finally`` steps; cancelled once more, those that are left get their end and no more time."""
        steps = self.definition.flow.finally_
        try:
            return await self._group(steps, perform)
        except asyncio.CancelledError:
            error = StepError(code="run_cancelled", message="the run was cancelled again while it cleaned up")
            await self._mark_unfinished(steps, error)
            raise

    async def _main(self, perform: Performer) -> RunOutcome:
        flow = self.definition.flow
        try:
            async with asyncio.timeout(flow.timeout):
                error = await self._group(flow.steps, perform)
        except TimeoutError:
            error = StepError(
                code="run_timed_out",
                message=f"the run took longer than its timeout of {flow.timeout:g} s",
                fix="give the flow a longer `timeout`, or make its steps faster",
            )
            await self._mark_unfinished(flow.steps, error)
        if error is not None:
            return RunOutcome(status=RunStatus.FAILED, error=error)
        try:
            output = resolve(flow.output, self._names())
        except StepboxError as problem:
            return RunOutcome(status=RunStatus.FAILED, error=StepError.of(problem))
        return RunOutcome(status=RunStatus.SUCCEEDED, output=output)

    async def _group(self, steps: Sequence[StepConfig], perform: Performer) -> StepError | None:
        """Run steps in the order of their needs, as many at once as those allow; give the first failure."""
        ended = {step.id: asyncio.Event() for step in steps}

        async def in_its_turn(step: StepConfig) -> None:
            for need in self.definition.needs[step.id]:
                if need in ended:
                    await ended[need].wait()
            try:
                await self._step(step, perform)
            finally:
                ended[step.id].set()

        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(in_its_turn(step), name=step.id)
        for step in steps:
            result = self._results[step.id]
            if self._blocking[step.id] and result.status is not StepStatus.SKIPPED:
                cause = result.error.message if result.error else result.status.value
                return StepError(code="step_failed", message=f"step '{step.id}' {_words(result.status)}: {cause}")
        return None

    async def _step(self, step: StepConfig, perform: Performer) -> None:
        blocked = self._blocked(step)
        if blocked is not None:
            await self._skip(step, blocked)
            return
        try:
            if step.for_each is None:
                work = self._attempts.work(step, resolve(step.with_, self._names()))
                await self._end(step, await perform(work), recorded=work.last)
            else:
                await self._for_each(step, step.for_each, perform)
        except StepboxError as problem:
            await self._end(step, StepResult(status=StepStatus.FAILED, error=StepError.of(problem)))

    def _blocked(self, step: StepConfig) -> Blocked | None:
        for need in self.definition.needs[step.id]:
            if self._blocking.get(need):
                message = f"step '{need}', which this one needs, {_words(self._results[need].status)}"
                return Blocked(error=StepError(code="needs_failed", message=message), blocks=True)
        if step.if_ is None:
            return None
        try:
            holds = step.if_ if isinstance(step.if_, bool) else condition(step.if_, self._names())
        except StepboxError as problem:
            return Blocked(error=StepError.of(problem), blocks=step.on_error == "fail")
        return None if holds else Blocked(error=None, blocks=False)

    async def _skip(self, step: StepConfig, blocked: Blocked) -> None:
        failed = blocked.error is not None and blocked.error.code != "needs_failed"
        status = StepStatus.FAILED if failed else StepStatus.SKIPPED
        await self._end(step, StepResult(status=status, error=blocked.error))
        self._blocking[step.id] = blocked.blocks

    async def _end(self, step: StepConfig, result: StepResult, recorded: StepRun | None = None) -> None:
        """Keep how a step ended, and record it where its last attempt isn't that record already."""
        if recorded is None:
            recorded = await self._attempts.record_end(step, result)
        self._results[step.id] = result
        unsuccessful = result.status not in (StepStatus.SUCCEEDED, StepStatus.SKIPPED)
        self._blocking[step.id] = unsuccessful and step.on_error == "fail"
        self._observer.notice(StepEnded(attempt=recorded))

    async def _for_each(self, step: StepConfig, each: ForEach, perform: Performer) -> None:
        items = resolve(each.in_, self._names())
        if not isinstance(items, list):
            message = f"for_each.in of step '{step.id}' is {type_name(items)}, not a list"
            error = StepError(code="for_each_not_a_list", message=message, fix="give for_each.in a list")
            await self._end(step, StepResult(status=StepStatus.FAILED, error=error))
            return
        self._attempts.expect(step, len(items))
        began = asyncio.get_running_loop().time()
        results = await self._items(step, each, items, perform)
        ended = [result for result in results if result is not None]
        failed = [
            (index, result)
            for index, result in enumerate(results)
            if result is not None and result.status is not StepStatus.SUCCEEDED
        ]
        whole = StepResult(
            status=StepStatus.SUCCEEDED,
            result=[result.result if result and result.status is StepStatus.SUCCEEDED else None for result in results],
            isolation=next((result.isolation for result in ended if result.isolation), None),
            duration=asyncio.get_running_loop().time() - began,
            tool_calls=sum(result.tool_calls for result in ended),
            egress=sum(result.egress for result in ended),
        )
        if failed and each.on_item_error == "fail":
            index, first = failed[0]
            cause = first.error or StepError(code=first.status.value, message=first.status.value)
            error = replace(cause, message=f"item {index}: {cause.message}")
            whole = replace(whole, status=first.status, result=None, error=error)
        await self._end(step, whole)

    async def _items(
        self, step: StepConfig, each: ForEach, items: list[Json], perform: Performer
    ) -> list[StepResult | None]:
        """Run the step for each item; after a failure that fails the step no further item is begun."""
        results: list[StepResult | None] = [None] * len(items)
        pending = iter(enumerate(items))
        stopped = False

        async def worker() -> None:
            nonlocal stopped
            for index, item in pending:
                if stopped:
                    return
                results[index] = await self._item(step, each, index, item, perform)
                if results[index].status is not StepStatus.SUCCEEDED and each.on_item_error == "fail":  # type: ignore[union-attr]
                    stopped = True

        async with asyncio.TaskGroup() as group:
            for _ in range(min(each.concurrency, len(items))):
                group.create_task(worker())
        return results

    async def _item(self, step: StepConfig, each: ForEach, index: int, item: Json, perform: Performer) -> StepResult:
        try:
            inputs = resolve(step.with_, {**self._names(), each.as_: item, "index": index})
        except StepboxError as problem:
            result = StepResult(status=StepStatus.FAILED, error=StepError.of(problem))
            await self._attempts.record_end(step, result, item=index)
            return result
        return await perform(self._attempts.work(step, inputs, item=index))

    async def _mark_unfinished(self, steps: Sequence[StepConfig], reason: StepError) -> None:
        """Give the steps that a cancellation or a timeout left without an end one."""
        for step in steps:
            if step.id in self._results:
                continue
            interrupted = self._attempts.interrupted.get(step.id)
            status = StepStatus.CANCELLED if step.id in self._attempts.begun else StepStatus.SKIPPED
            recorded = interrupted if step.for_each is None else None
            await self._end(step, StepResult(status=status, error=reason), recorded)

    def _names(self) -> dict[str, Json]:
        run = self.run
        return {
            "inputs": dict(run.inputs),
            "steps": {step_id: _visible(result) for step_id, result in self._results.items()},
            "event": run.trigger.get("event"),
            "trigger": run.trigger.get("trigger"),
            "run": {
                "id": run.id,
                "flow": run.flow,
                "started_at": (run.started_at or run.created_at).isoformat(),
                "error": None if self._error is None else {"code": self._error.code, "message": self._error.message},
            },
        }


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


def why_ended(problem: BaseException) -> StepError:
    """Why a run ended that did not come to its end: it was cancelled, or Stepbox itself failed."""
    if isinstance(problem, asyncio.CancelledError):
        return StepError(code="run_cancelled", message="the run was cancelled")
    while isinstance(problem, BaseExceptionGroup):  # concurrent steps wrap what went wrong
        problem = problem.exceptions[0]
    if isinstance(problem, StepboxError):
        return StepError.of(problem)
    return StepError(code=INTERNAL_ERROR, message=f"{type(problem).__name__}: {problem}", fix="report this as a bug")


def _visible(result: StepResult) -> dict[str, Json]:
    """A step as expressions see it."""
    error = result.error
    return {
        "result": result.result,
        "status": result.status.value,
        "error": None if error is None else {"code": error.code, "message": error.message, "line": error.line},
        "artifacts": [],
    }

"""The items of a for-each: so many at once, and what they come to together."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

from engine.artifacts import of_item
from engine.attempts import Attempts, Performer, unsuccessful
from engine.cancellation import together
from engine.names import Names
from flows.contracts import Artifact, Isolation, StepError, StepResult, waiting
from flows.errors import StepboxError
from flows.explanations import type_name
from flows.expressions import resolve
from flows.model import ForEach, StepConfig
from flows.values import MAX_COMPOSED, Json, StepStatus, json_size


class Items:
    """One for-each step on its way. After what ends it no item is begun; those that run go on to their end."""

    def __init__(self, step: StepConfig, each: ForEach, *, attempts: Attempts, names: Names) -> None:
        self._step = step
        self._each = each
        self._attempts = attempts
        self._names = names
        self._results: list[Json] = []
        self._room = MAX_COMPOSED - len("]")
        self._failed: tuple[int, StepResult] | None = None
        """The failed item with the lowest index, as far as is known."""
        self._isolation: Isolation | None = None
        self._tool_calls = 0
        self._egress = 0
        self._artifacts: dict[int, tuple[Artifact, ...]] = {}
        self._parked: dict[int, StepResult] = {}

    async def run(self, perform: Performer) -> StepResult:
        """Run the step for each item, and give the sum: the list of their results, null for one that failed.

        Raises:
            ExpressionError: ``in`` can't be evaluated.
        """
        items = resolve(self._each.in_, self._names.of_step())
        if not isinstance(items, list):
            message = f"for_each.in of step '{self._step.id}' is {type_name(items)}, not a list"
            error = StepError(code="for_each_not_a_list", message=message, fix="give for_each.in a list")
            return StepResult(status=StepStatus.FAILED, error=error)
        past = self._attempts.past.ended
        self._attempts.expect(self._step, sum((self._step.id, index) not in past for index in range(len(items))))
        self._results = [None] * len(items)
        began = asyncio.get_running_loop().time()
        pending = enumerate(items)
        await together(self._worker(pending, perform) for _ in range(min(self._each.concurrency, len(items))))
        if self._parked and not self._stopped:
            index, first = min(self._parked.items())
            return waiting(f"item {index} {first.error.message if first.error else 'waits'}")
        for index in self._parked:
            error = StepError(code="cancelled", message="the step ended before the item did")
            given_up = self._attempts.over(self._step, StepResult(status=StepStatus.CANCELLED, error=error), item=index)
            await self._attempts.store.steps.add(given_up)
        return replace(self._sum(), duration=asyncio.get_running_loop().time() - began)

    async def _worker(self, pending: Iterator[tuple[int, Json]], perform: Performer) -> None:
        for index, item in pending:
            if self._stopped:
                return
            self._take(index, await self._item(index, item, perform))

    @property
    def _stopped(self) -> bool:
        return self._room < 0 or (self._failed is not None and self._each.on_item_error == "fail")

    async def _item(self, index: int, item: Json, perform: Performer) -> StepResult:
        ended = self._attempts.past.outcome(self._step.id, index)
        if ended is not None:
            return ended
        try:
            names = self._names.of_item(self._each.as_, item, index)
            work = self._attempts.work(self._step, names, item=index)
            return await perform(work)
        except StepboxError as problem:
            result = unsuccessful(problem)
            await self._attempts.store.steps.add(self._attempts.over(self._step, result, item=index))
            return result

    def _take(self, index: int, result: StepResult) -> None:
        if result.status is StepStatus.WAITING:
            self._parked[index] = result
            return
        if result.status is StepStatus.SUCCEEDED:
            self._results[index] = result.result
        elif self._failed is None or index < self._failed[0]:
            self._failed = index, result
        self._room -= json_size(self._results[index]) + len(",")
        self._isolation = self._isolation or result.isolation
        self._tool_calls += result.tool_calls
        self._egress += result.egress
        self._artifacts[index] = of_item(index, result.artifacts)

    def _sum(self) -> StepResult:
        whole = StepResult(
            status=StepStatus.SUCCEEDED,
            result=self._results,
            isolation=self._isolation,
            tool_calls=self._tool_calls,
            egress=self._egress,
            artifacts=tuple(one for _index, left in sorted(self._artifacts.items()) for one in left),
        )
        if self._failed is not None and self._each.on_item_error == "fail":
            index, first = self._failed
            cause = first.error or StepError(code=first.status.value, message=first.status.value)
            error = replace(cause, message=f"item {index}: {cause.message}")
            return replace(whole, status=first.status, result=None, error=error)
        if self._room < 0:
            error = StepError(
                code="result_too_large",
                message=f"the results of the items together are more than {MAX_COMPOSED:,} bytes of JSON",
                fix="let each item give only what is needed, or let a tool keep what is large",
            )
            return replace(whole, status=StepStatus.LIMIT_EXCEEDED, result=None, error=error)
        return whole

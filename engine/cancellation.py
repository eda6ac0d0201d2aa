"""What a cancellation may cut short, and what not: work goes on or ends together, records are made to their end.

A write of the store that raises :class:`asyncio.CancelledError` is written (:mod:`engine.store.database`). What must be
known or made after such a write is therefore made within an :class:`Interruption`, which raises at its end.
"""

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

Result = TypeVar("Result")


async def settled(future: "asyncio.Future[Result]") -> Result:
    """What a future comes to. A cancellation meanwhile is raised once it has come to that, not before.

    Raises:
        asyncio.CancelledError: this task was cancelled, and the future has its result; or the future was cancelled.
        Exception: what the future raised, whether or not this task was cancelled as well.
    """
    interruption: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError as problem:
            interruption = problem
        except Exception:  # noqa: BLE001 - raised below, in one place
            break
    result = future.result()
    if interruption is not None:
        raise interruption
    return result


async def happened(event: asyncio.Event, *, within: float) -> bool:
    """Wait until something has happened, ``within`` so many seconds; whether it has.

    Python 3.11's :func:`asyncio.wait_for` loses a cancellation that comes together with the event.
    """
    try:
        async with asyncio.timeout(within):
            await event.wait()
    except TimeoutError:
        return False
    return True


class Interruption:
    """A block that a cancellation doesn't leave before its end, where it is raised."""

    def __init__(self) -> None:
        self._problem: asyncio.CancelledError | None = None

    @property
    def came(self) -> bool:
        """Whether there is a cancellation to raise."""
        return self._problem is not None

    def came_with(self, problem: asyncio.CancelledError) -> None:
        """Raise this at the end of the block."""
        self._problem = problem

    async def after(self, work: Awaitable[object]) -> None:
        """Wait for work that is done even where it raises :class:`asyncio.CancelledError`, such as a write."""
        try:
            await work
        except asyncio.CancelledError as problem:
            self.came_with(problem)

    async def outlast(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of work that goes on to its end, whatever happens to this task meanwhile.

        Raises:
            asyncio.CancelledError: the work itself was cancelled, as all that there is may be at the end of a process.
        """
        going_on = asyncio.ensure_future(work)
        try:
            return await settled(going_on)
        except asyncio.CancelledError as problem:
            if going_on.cancelled():
                raise
            self.came_with(problem)
            return going_on.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._problem is not None and error is None:
            raise self._problem


async def together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all of this at once, to the end of each.

    Where one raises, the others are cancelled; where this is cancelled, all are, and again with each further
    cancellation. (:class:`asyncio.TaskGroup` passes on the first only, so that cleaning up couldn't be cut short, and
    loses one that comes together with an exception.)

    Raises:
        asyncio.CancelledError: this was cancelled.
        Exception: the first that was raised, as it is.
    """
    pending: set[asyncio.Task[None]] = {asyncio.ensure_future(work) for work in works}
    interruption: asyncio.CancelledError | None = None
    problem: BaseException | None = None
    while pending:
        try:
            await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
        except asyncio.CancelledError as cancellation:
            interruption = cancellation
            _cancel(pending)
        done = {task for task in pending if task.done()}
        pending -= done
        raised = [_problem_of(task) for task in done]
        if problem is None and (problem := next((one for one in raised if one is not None), None)) is not None:
            _cancel(pending)
    if interruption is not None:
        raise interruption
    if problem is not None:
        raise problem


def _cancel(tasks: Iterable["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()


def _problem_of(task: "asyncio.Task[None]") -> BaseException | None:
    return RuntimeError("a task was cancelled that nothing of ours cancels") if task.cancelled() else task.exception()

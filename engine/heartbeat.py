"""The heartbeat of an engine: it keeps the leases of the runs that the engine drives, and hears what is asked of them.

Those that another engine has taken over, or that somebody asked to cancel, are cancelled.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from engine.cancellation import happened
from engine.records import RunSummary
from engine.store import Store
from flows.errors import StepboxError
from flows.values import RunStatus
from steps.sandbox import owner

_log = logging.getLogger(__name__)

HEARTBEAT: Final = 10.0
"""Seconds between two heartbeats; a lease outlasts two that are missed."""
LOOK_FOR_CANCELLATIONS: Final = 1.0
"""Seconds between two looks whether somebody asked to cancel what is driven; one query by an index."""


Seen = TypeVar("Seen", bound=RunSummary)


class TakenOverError(StepboxError):
    """Another engine drives the run now: this one's lease had ended, as where the machine slept."""

    code = "run_taken_over"

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"another engine has taken run {run_id} over, so this one has stopped driving it",
            fix=f"see how it goes on with: stepbox runs show {run_id}",
        )


class HandedOverError(StepboxError):
    """This engine has let go of the run, which goes on in another one, or with the next start."""

    code = "run_handed_over"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"this engine ends and has let go of run {run_id}", fix=f"stepbox runs resume {run_id}")


@dataclass(kw_only=True, eq=False)
class Driven:
    """A run that the engine drives, in a task. ``ending`` says that it was to be cancelled as it was taken over."""

    run_id: str
    task: "asyncio.Task[Any]"
    ending: bool
    asked: int = 0
    """How often the task was cancelled because somebody asked for it."""

    @property
    def only_asked(self) -> bool:
        """Whether the task was cancelled for no other reason, so that the cancellation ends with the run."""
        return self.asked > 0 and self.task.cancelling() == self.asked

    def cancel(self, *, again: bool) -> None:
        """Cancel the task as often as it was asked for, but once at a time."""
        wanted = 2 if again else int(not self.ending)
        if self.asked < wanted:
            self.asked += 1
            self.task.cancel()

    def settle(self) -> None:
        """Take back what was asked for: the run has heard of it."""
        for _each in range(self.asked):
            self.task.uncancel()


class Heartbeat:
    """Beats while there are runs; one for an engine's store. ``interval`` and ``look`` in seconds."""

    def __init__(self, store: Store, *, interval: float = HEARTBEAT, look: float = LOOK_FOR_CANCELLATIONS) -> None:
        self._store = store
        self._interval = interval
        self._look = look
        self._driven: set[Driven] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._asked = asyncio.Event()

    @contextmanager
    def driving(self, run_id: str, *, ending: bool = False) -> Iterator[Driven]:
        """Keep the run's lease inside the block. Where it is lost, the task is cancelled, and can write no more.

        Where somebody asked to cancel the run, the task is cancelled too, and once more where that is asked again.
        """
        task = asyncio.current_task()
        assert task is not None
        driven = Driven(run_id=run_id, task=task, ending=ending)
        self._driven.add(driven)
        if not self._loops:
            self._loops = [of_no_run(self._beat()), of_no_run(self._obey())]
        try:
            yield driven
        finally:
            self._driven.discard(driven)
            driven.settle()
            if not self._driven:
                for loop in self._loops:
                    loop.cancel()
                self._loops = []

    def is_ending(self, run_id: str) -> bool:
        """Whether the run is driven, and only to its end, since somebody asked to cancel it."""
        return any(driven.run_id == run_id and (driven.ending or driven.asked) for driven in self._driven)

    def look(self) -> None:
        """Look at once whether a run is to be cancelled: somebody has just asked for it."""
        self._asked.set()

    async def _obey(self) -> None:
        while True:
            await happened(self._asked, within=self._look)
            self._asked.clear()
            try:
                asked = await self._store.runs.asked_to_cancel()
            except Exception:  # noqa: BLE001 - whatever it is, the next look may come through
                _log.warning("can't read whether runs are to be cancelled", exc_info=True)
                continue
            for driven in tuple(self._driven):
                if driven.run_id in asked:
                    driven.cancel(again=asked[driven.run_id])

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            before = set(self._driven)
            try:
                kept = await self._store.leases.renew()
            except Exception:  # noqa: BLE001 - whatever it is, the next beat may come through
                _log.warning("the leases of %d runs could not be prolonged", len(before), exc_info=True)
                continue
            for driven in before & self._driven:
                if driven.run_id not in kept:
                    _log.warning("run %s is driven by another engine now", driven.run_id)
                    driven.task.cancel()


def of_no_run(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    """Work that is done on behalf of no run, though one begins it: a database that failed for that one may be back."""
    return asyncio.get_running_loop().create_task(work, context=Context())


def looked_after(run: Seen) -> Seen:
    """The run, saying whether it is abandoned."""
    return replace(run, abandoned=True) if is_abandoned(run) else run


def is_abandoned(run: RunSummary) -> bool:
    """Whether a run that has begun is driven by nobody: by no engine, a dead one, or one that gave no sign of life."""
    if run.status is not RunStatus.RUNNING:
        return False
    if run.owner is None or owner.is_dead(run.owner):
        return True
    return run.lease_until is not None and run.lease_until < datetime.now(UTC)

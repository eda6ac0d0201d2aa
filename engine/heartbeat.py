"""The heartbeat of an engine: it keeps the leases of the runs that the engine drives, and stops driving lost ones."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from engine.records import RunSummary
from engine.store import Store
from flows.errors import StepboxError
from flows.values import RunStatus
from steps.sandbox import owner

_log = logging.getLogger(__name__)

HEARTBEAT: Final = 10.0
"""Seconds between two heartbeats; a lease outlasts two that are missed."""


Seen = TypeVar("Seen", bound=RunSummary)


class TakenOverError(StepboxError):
    """Another engine drives the run now: this one's lease had ended, as where the machine slept."""

    code = "run_taken_over"

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"another engine has taken run {run_id} over, so this one has stopped driving it",
            fix=f"see how it goes on with: stepbox runs show {run_id}",
        )


@dataclass(frozen=True, kw_only=True)
class _Driven:
    run_id: str
    task: "asyncio.Task[Any]"


class Heartbeat:
    """Beats while there are runs; one for an engine's store. ``interval`` in seconds."""

    def __init__(self, store: Store, *, interval: float = HEARTBEAT) -> None:
        self._store = store
        self._interval = interval
        self._driven: set[_Driven] = set()
        self._beating: asyncio.Task[None] | None = None

    @contextmanager
    def driving(self, run_id: str) -> Iterator[None]:
        """Keep the run's lease inside the block. Where it is lost, the task is cancelled, and can write no more."""
        task = asyncio.current_task()
        assert task is not None
        driven = _Driven(run_id=run_id, task=task)
        self._driven.add(driven)
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            self._driven.discard(driven)
            if not self._driven:
                self._beating.cancel()
                self._beating = None

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

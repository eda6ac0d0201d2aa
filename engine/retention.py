"""How long an installation keeps what it has: what is older is removed by a service every so often, or by hand."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from engine.settings import KeepSettings
from engine.store import Store
from flows.errors import StepboxError

_log = logging.getLogger(__name__)

EVERY: Final = 3600.0
"""Seconds between two times that a service removes what is old."""
PAUSE: Final = 0.05
"""Seconds between two batches, for whoever else wants the database."""
LEAST_AGE: Final = timedelta(days=1)
"""Of contents of files before they are removed: longer than any takes to be recorded."""


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """How much was removed."""

    runs: int = 0
    lines: int = 0
    artifacts: int = 0
    events: int = 0
    contents: int = 0


async def prune(store: Store, keep: KeepSettings) -> Pruned:
    """Remove all that is older than the settings say."""
    now = datetime.now(UTC)
    retention = store.retention
    runs = lines = artifacts = events = 0
    if (before := _ago(now, keep.keep_runs)) is not None:
        runs += await _all(lambda: retention.remove_runs(before=before))
    if keep.keep_runs_per_flow is not None:
        beyond = keep.keep_runs_per_flow
        runs += await _all(lambda: retention.remove_runs(beyond=beyond))
    if (printed := _ago(now, keep.keep_logs)) is not None:
        lines = await _all(lambda: retention.remove_output(printed))
    if (left := _ago(now, keep.keep_artifacts)) is not None:
        artifacts = await _all(lambda: retention.remove_artifacts(left))
    came = _ago(now, keep.keep_events)
    if came is not None:
        events = await _all(lambda: retention.remove_events(came))
    # A file that came with an event is named by nothing else until a run has it.
    contents = 0 if came is None else await retention.sweep(min(came, now - LEAST_AGE))
    pruned = Pruned(runs=runs, lines=lines, artifacts=artifacts, events=events, contents=contents)
    if pruned != Pruned():
        await store.audit.append(action="prune", details=vars(pruned))
    # Last, so that what is removed with it is told of.
    if (told := _ago(now, keep.keep_audit)) is not None:
        for workspace in await store.audit.chains():
            await store.audit.cut(workspace, before=told)
    return pruned


async def count(store: Store, keep: KeepSettings) -> Pruned:
    """How many runs :func:`prune` would remove: at most those that are too old and those that are too many."""
    now = datetime.now(UTC)
    runs = 0
    if (before := _ago(now, keep.keep_runs)) is not None:
        runs += await store.retention.count_runs(before=before)
    if keep.keep_runs_per_flow is not None:
        runs = max(runs, await store.retention.count_runs(beyond=keep.keep_runs_per_flow))
    return Pruned(runs=runs)


async def keep_pruned(store: Store, keep: KeepSettings) -> None:
    """Remove what is old, now and every hour, until cancelled."""
    while True:
        try:
            removed = await prune(store, keep)
        except StepboxError:
            _log.warning("what is old can't be removed now", exc_info=True)
        else:
            if removed != Pruned():
                _log.info("removed what is older than it is kept", extra=vars(removed))
        await asyncio.sleep(EVERY)


async def _all(batch: Callable[[], Awaitable[int]]) -> int:
    removed = 0
    while count := await batch():
        removed += count
        await asyncio.sleep(PAUSE)
    return removed


def _ago(now: datetime, age: float | None) -> datetime | None:
    return None if age is None else now - timedelta(seconds=age)

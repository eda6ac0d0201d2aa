"""Keeps single-use sandboxes ready, so that a step need not wait for one to start.

A ready sandbox serves one job of its own profile and is destroyed; nothing is ever used twice.
"""

import asyncio
import os
import re
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from flows.errors import RefusedError
from steps.sandbox.limits import default_limits
from steps.sandbox.protocol import Host, Job, Outcome, Profile, Runner, Sandbox, SandboxLostError

LOOKAHEAD = 4
"""How many ready sandboxes a one-shot command keeps, at most, of what it still expects."""
IDLE_AFTER = 60.0
"""Seconds without a job after which a service lets its ready sandboxes of a profile go."""
ATTEMPTS = 3
"""How many sandboxes a job is offered where they die before they take it."""

_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+(\w+)|import[ \t]+([\w., \t]+))", re.MULTILINE)
_PRELOADED = frozenset(
    {
        *("pandas", "numpy", "requests", "httpx", "yaml"),
        *(
            "asyncio",
            "collections",
            "csv",
            "dataclasses",
            "datetime",
            "decimal",
            "json",
            "logging",
            "pathlib",
            "random",
        ),
        *("re", "statistics", "subprocess", "typing"),
    }
)


def profile_of(job: Job) -> Profile:
    """What a sandbox for the job must be started with."""
    defaults = default_limits(job.language)
    return Profile(
        language=job.language,
        preload=_imports(job.code) if job.language == "python" else frozenset(),
        disk=job.limits.disk,
        # Only V8 must know at its start how much memory there is.
        memory=job.limits.memory if job.language == "javascript" else defaults.memory,
    )


def _imports(code: str) -> frozenset[str]:
    """The modules, of those worth importing beforehand, that the code seems to import."""
    names = set()
    for found in _IMPORT.finditer(code):
        for part in (found[1] or found[2]).split(","):
            names.add(part.strip().partition(" ")[0].partition(".")[0])
    return frozenset(names & _PRELOADED)


@dataclass(kw_only=True, eq=False)
class _Shelf:
    """The ready and the starting sandboxes of one profile. ``expected`` None: by demand, as a service."""

    ready: deque[Sandbox] = field(default_factory=deque)
    starting: deque["asyncio.Task[Sandbox]"] = field(default_factory=deque)
    expected: int | None = None
    running: int = 0
    busiest: int = 0
    used_at: float = 0.0


class Sandboxes:
    """Executes jobs, each in a sandbox of its own, ``concurrency`` at most at once; further ones queue.

    A one-shot command says by :meth:`expect` what is coming, and no more than that is ever started. A service gives
    ``ceiling``: that many ready sandboxes, at most, follow the demand for each profile.
    """

    def __init__(self, runner: Runner, *, concurrency: int = 10, ceiling: int = 0) -> None:
        self._runner = runner
        self._slots = asyncio.Semaphore(concurrency)
        self._ceiling = ceiling
        self._shelves: dict[Profile, _Shelf] = {}
        self._at_once = max(os.cpu_count() or 1, 1)
        self._watchers: set[asyncio.Task[None]] = set()
        self._jobs: set[asyncio.Task[Outcome]] = set()
        self._closed = False
        self.queued = 0
        """Jobs that wait for others to end."""

    @property
    def runner(self) -> Runner:
        return self._runner

    @property
    def ready(self) -> int:
        """How many sandboxes wait for a job."""
        return sum(len(shelf.ready) for shelf in self._shelves.values())

    def expect(self, profile: Profile, count: int) -> None:
        """Say that this many more jobs of a profile are coming, so that sandboxes are started for them."""
        shelf = self._shelf(profile)
        shelf.expected = (shelf.expected or 0) + count
        self._refill()

    async def execute(self, job: Job, host: Host) -> Outcome:
        """Execute the job in a sandbox of its own. Cancelling this kills the job.

        Raises:
            flows.errors.RefusedError: no sandbox, or a limit of the job, can be had on this machine.
            RuntimeError: the pool is closed.
        """
        if self._closed:
            raise RuntimeError("the sandboxes are closed")
        running = asyncio.ensure_future(self._execute(job, host))
        self._jobs.add(running)
        running.add_done_callback(self._jobs.discard)
        try:
            return await running
        finally:
            if not running.done():
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running

    async def close(self) -> None:
        """Wait for the running jobs, then destroy everything."""
        self._closed = True
        while self._jobs:
            await asyncio.wait(self._jobs)
        for shelf in self._shelves.values():
            for starting in shelf.starting:
                starting.cancel()
            await asyncio.gather(*shelf.starting, return_exceptions=True)
            await asyncio.gather(*(sandbox.close() for sandbox in shelf.ready))
            shelf.ready.clear()
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        await self._runner.close()

    async def _execute(self, job: Job, host: Host) -> Outcome:
        profile = profile_of(job)
        self.queued += 1
        try:
            await self._slots.acquire()
        finally:
            self.queued -= 1
        shelf = self._shelf(profile)
        shelf.running += 1
        shelf.busiest = max(shelf.busiest, shelf.running)
        shelf.used_at = time.monotonic()
        if shelf.expected:
            shelf.expected -= 1
        try:
            for _attempt in range(ATTEMPTS):
                sandbox = await self._take(profile, shelf)
                with suppress(SandboxLostError):
                    return await sandbox.execute(job, host)
            raise RefusedError(
                f"{ATTEMPTS} sandboxes ended, one after the other, before they took their job",
                fix="look for what kills processes on this machine",
            )
        finally:
            shelf.running -= 1
            self._slots.release()
            self._refill()

    async def _take(self, profile: Profile, shelf: _Shelf) -> Sandbox:
        while shelf.ready:
            sandbox = shelf.ready.popleft()
            if sandbox.alive:
                self._refill()
                return sandbox
        if shelf.starting:
            starting = shelf.starting.popleft()
            try:
                return await starting
            except asyncio.CancelledError:
                starting.cancel()
                raise
        return await self._runner.start(profile)

    def _shelf(self, profile: Profile) -> _Shelf:
        return self._shelves.setdefault(profile, _Shelf(expected=None if self._ceiling else 0))

    def _refill(self) -> None:
        """Start what is wanted and not there yet, a few at once, so that running steps keep their processors."""
        if self._closed:
            return
        starting = sum(len(shelf.starting) for shelf in self._shelves.values())
        for profile, shelf in list(self._shelves.items()):
            wanted = self._wanted(shelf) - len(shelf.ready) - len(shelf.starting)
            while wanted > 0 and starting < self._at_once:
                task = asyncio.create_task(self._runner.start(profile))
                shelf.starting.append(task)
                task.add_done_callback(partial(self._started, shelf))
                wanted -= 1
                starting += 1

    def _wanted(self, shelf: _Shelf) -> int:
        if shelf.expected is not None:
            return min(shelf.expected, LOOKAHEAD)
        if time.monotonic() - shelf.used_at > IDLE_AFTER:
            shelf.busiest = 0
            return 0
        return min(shelf.busiest + 1, self._ceiling)

    def _started(self, shelf: _Shelf, task: "asyncio.Task[Sandbox]") -> None:
        claimed = task not in shelf.starting
        if claimed:
            self._refill()
            return
        shelf.starting.remove(task)
        if task.cancelled() or task.exception() is not None:
            # Whoever needs this profile next starts one itself and gets the reason.
            return
        sandbox = task.result()
        shelf.ready.append(sandbox)
        watcher = asyncio.create_task(self._watch(shelf, sandbox))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        self._refill()

    async def _watch(self, shelf: _Shelf, sandbox: Sandbox) -> None:
        """Replace a sandbox that ends while it waits."""
        await sandbox.ended()
        if sandbox in shelf.ready:
            shelf.ready.remove(sandbox)
            await sandbox.close()
            self._refill()

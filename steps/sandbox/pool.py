"""Keeps single-use sandboxes ready, so that a step need not wait for one to start.

A ready sandbox serves one job of its own profile and is destroyed; nothing is ever used twice.
"""

import asyncio
import os
import re
import time
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from flows.errors import RefusedError
from steps.sandbox.limits import default_limits
from steps.sandbox.protocol import Host, Job, Outcome, Profile, Runner, Sandbox, SandboxLostError, SandboxUnfitError

LOOKAHEAD = 3
"""How many ready sandboxes a one-shot command keeps, at most, of what it still expects."""
ATTEMPTS = 3
"""How many sandboxes a job is offered where they die before they take it."""

_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+(\w+)|import[ \t]+([\w., \t]+))", re.MULTILINE)
_PACKAGES = frozenset({"pandas", "numpy", "requests", "httpx", "yaml"})
_MODULES = frozenset(
    {"asyncio", "collections", "csv", "dataclasses", "datetime", "decimal", "json", "logging", "pathlib", "random"}
    | {"re", "statistics", "subprocess", "typing"}
)


def profile_of(job: Job) -> Profile:
    """What a sandbox for the job must be started with."""
    defaults = default_limits(job.language)
    return Profile(
        language=job.language,
        preload=_imports(job.code) if job.language == "python" else frozenset(),
        disk=job.limits.disk,
        # Only V8 must know at its start how much memory there is, and only deno whether there is a network.
        memory=job.limits.memory if job.language == "javascript" else defaults.memory,
        network=job.network is not None and job.language == "javascript",
        runtime=job.runtime,
        sidecar=job.container is not None,
    )


def _imports(code: str) -> frozenset[str]:
    """The modules, of those worth importing beforehand, that the code seems to import."""
    names = set()
    for found in _IMPORT.finditer(code):
        for part in (found[1] or found[2]).split(","):
            names.add(part.strip().partition(" ")[0].partition(".")[0])
    return frozenset(names & (_PACKAGES | _MODULES))


@dataclass(kw_only=True, eq=False)
class _Shelf:
    """The ready and the starting sandboxes of one profile, and what is known of the demand for it."""

    ready: deque[Sandbox] = field(default_factory=deque)
    starting: deque["asyncio.Task[Sandbox]"] = field(default_factory=deque)
    expected: int = 0
    running: int = 0
    busiest: int = 0
    used_at: float = 0.0


class Sandboxes:
    """Executes jobs, each in a sandbox of its own, ``concurrency`` at most at once; further ones queue.

    A one-shot command says by :meth:`expect` what is coming, and no more than that is ever started. A service gives
    ``ceiling``: that many ready sandboxes, at most, follow the demand for each profile, until no job has come for
    ``idle_after`` seconds.
    """

    def __init__(self, runner: Runner, *, concurrency: int = 10, ceiling: int = 0, idle_after: float = 60.0) -> None:
        self._runner = runner
        self._slots = asyncio.Semaphore(concurrency)
        self._ceiling = ceiling
        self._idle_after = idle_after
        self._shelves: dict[Profile, _Shelf] = {}
        self._at_once = (os.cpu_count() or 1) + 1
        self._watches: set[asyncio.Task[None]] = set()
        self._closings: set[asyncio.Task[None]] = set()
        self._look_again: asyncio.TimerHandle | None = None
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
        shelf.expected += count
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
        """Wait for the running jobs, then destroy everything.

        Cancelling this destroys everything at once, the sandboxes of running jobs included.
        """
        self._closed = True
        if self._look_again is not None:
            self._look_again.cancel()
        try:
            while self._jobs:
                await asyncio.wait(self._jobs)
            for shelf in self._shelves.values():
                for starting in shelf.starting:
                    starting.cancel()
                await asyncio.gather(*shelf.starting, return_exceptions=True)
                while shelf.ready:
                    self._close_in_background(shelf.ready.popleft())
            for watch in self._watches:
                watch.cancel()
            await asyncio.gather(*self._watches, return_exceptions=True)
            while self._closings:
                await asyncio.gather(*self._closings, return_exceptions=True)
        finally:
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
                    try:
                        return await sandbox.execute(job, host)
                    except SandboxUnfitError:
                        fitting = await self._runner.start(replace(profile, limits=job.limits))
                        return await fitting.execute(job, host)
            raise RefusedError(
                f"{ATTEMPTS} sandboxes ended, one after the other, before they took their job",
                fix="look for what kills processes on this machine",
            )
        finally:
            shelf.running -= 1
            self._slots.release()
            self._refill()
            self._look_again_when_idle()

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
                # It may have started already, and be nobody's now.
                starting.cancel()
                self._in_background(_close_started(starting), self._closings)
                raise
        return await self._runner.start(profile)

    def _shelf(self, profile: Profile) -> _Shelf:
        return self._shelves.setdefault(profile, _Shelf())

    def _refill(self) -> None:
        """Start what is wanted and not there yet, a few at once, so that running steps keep their processors."""
        if self._closed:
            return
        starting = sum(len(shelf.starting) for shelf in self._shelves.values())
        for profile, shelf in list(self._shelves.items()):
            wanted = self._wanted(shelf) - len(shelf.ready) - len(shelf.starting)
            for _extra in range(min(-wanted, len(shelf.ready)) if self._ceiling else 0):
                self._close_in_background(shelf.ready.popleft())
            while wanted > 0 and starting < self._at_once:
                task = asyncio.create_task(self._runner.start(profile))
                shelf.starting.append(task)
                task.add_done_callback(partial(self._started, shelf))
                wanted -= 1
                starting += 1

    def _look_again_when_idle(self) -> None:
        if self._look_again is not None:
            self._look_again.cancel()
        if self._ceiling and not self._closed:
            self._look_again = asyncio.get_running_loop().call_later(self._idle_after + 0.1, self._refill)

    def _wanted(self, shelf: _Shelf) -> int:
        expected = min(shelf.expected, LOOKAHEAD)
        if time.monotonic() - shelf.used_at > self._idle_after:
            shelf.busiest = 0
            return expected
        return max(expected, min(shelf.busiest + 1, self._ceiling))

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
        self._in_background(self._watch(shelf, sandbox), self._watches)
        self._refill()

    def _close_in_background(self, sandbox: Sandbox) -> None:
        self._in_background(sandbox.close(), self._closings)

    @staticmethod
    def _in_background(work: Coroutine[None, None, None], tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _watch(self, shelf: _Shelf, sandbox: Sandbox) -> None:
        """Replace a sandbox that ends while it waits."""
        await sandbox.ended()
        if sandbox in shelf.ready:
            shelf.ready.remove(sandbox)
            self._close_in_background(sandbox)
            self._refill()


async def _close_started(starting: "asyncio.Task[Sandbox]") -> None:
    await asyncio.wait({starting})
    if not starting.cancelled() and starting.exception() is None:
        await starting.result().close()

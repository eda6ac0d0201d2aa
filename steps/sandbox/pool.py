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
from steps.sandbox.limits import Language, default_limits
from steps.sandbox.protocol import Host, Job, Outcome, Profile, Runner, Sandbox, SandboxLostError, SandboxUnfitError

LOOKAHEAD = 3
"""How many ready sandboxes a one-shot command keeps, at most, of what it still expects."""
YIELDING = 0.1
"""Seconds for which a service starts no sandboxes where steps have all processors: most are over by then."""
ATTEMPTS = 3
"""How many sandboxes a job is offered where they die before they take it."""

_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+(\w+)|import[ \t]+([\w., \t]+))", re.MULTILINE)
_PACKAGES = frozenset({"pandas", "numpy", "requests", "httpx", "yaml"})
_MODULES = frozenset(
    {"asyncio", "collections", "csv", "dataclasses", "datetime", "decimal", "json", "logging", "pathlib", "random"}
    | {"re", "statistics", "subprocess", "typing"}
)


LANGUAGES: tuple[Language, ...] = ("python", "javascript", "shell")


def plain_profile(language: Language) -> Profile:
    """What a step of this language needs that imports nothing, and has the default limits and no network."""
    limits = default_limits(language)
    return Profile(language=language, disk=limits.disk, memory=limits.memory)


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
    peak: int = 0
    """Jobs at once, at most, in this period."""
    last_peak: int = 0
    """The same of the period before."""
    period: int = 0
    """Which period the peak is of."""
    used_at: float = 0.0

    def note(self, period: int) -> None:
        """Take in how many jobs there are now, and that time has passed."""
        if period != self.period:
            self.last_peak = self.peak if period == self.period + 1 else self.running
            self.peak, self.period = 0, period
        self.peak = max(self.peak, self.running)

    @property
    def demand(self) -> int:
        """How many should be ready: for as many jobs at once as there were lately, and one that begins beside them."""
        busiest = max(self.peak, self.last_peak)
        return busiest + 1 if busiest else 0

    @property
    def is_idle(self) -> bool:
        return not (self.ready or self.starting or self.expected or self.running or self.demand)


class Sandboxes:
    """Executes jobs, each in a sandbox of its own, ``concurrency`` at most at once; further ones queue.

    A one-shot command says by :meth:`expect` what is coming, and no more than that is ever started. A service gives
    ``ceiling``: at most that many ready sandboxes, of all profiles together, follow the demand, those used last first.
    What was wanted at once in the last ``idle_after`` seconds, or in those before, is kept for next time; what wasn't
    is let go. ``floor`` are ready for each language from :meth:`warm` to the end.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        concurrency: int = 10,
        floor: int = 0,
        ceiling: int = 0,
        idle_after: float = 60.0,
    ) -> None:
        self._runner = runner
        self._slots = asyncio.Semaphore(concurrency)
        self._ceiling = ceiling
        self._floors = {plain_profile(language): floor for language in LANGUAGES} if floor else {}
        self._idle_after = idle_after
        self._shelves: dict[Profile, _Shelf] = {}
        self._processors = os.cpu_count() or 1
        self._at_once = self._processors + 1
        self._watches: set[asyncio.Task[None]] = set()
        self._closings: set[asyncio.Task[None]] = set()
        self._look_again: asyncio.TimerHandle | None = None
        self._jobs: set[asyncio.Task[Outcome]] = set()
        self._closed = False
        self._executing = 0
        self._crowded_at = 0.0
        self.queued = 0
        """Jobs that wait for others to end."""

    @property
    def runner(self) -> Runner:
        return self._runner

    @property
    def ready(self) -> int:
        """How many sandboxes wait for a job."""
        return sum(len(shelf.ready) for shelf in self._shelves.values())

    def warm(self) -> None:
        """Start what is to be ready before any job comes."""
        for profile in self._floors:
            self._shelf(profile)
        self._refill()

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
        shelf.note(self._period())
        shelf.used_at = time.monotonic()
        if shelf.expected:
            shelf.expected -= 1
        try:
            for _attempt in range(ATTEMPTS):
                sandbox = await self._take(profile, shelf)
                with suppress(SandboxLostError):
                    try:
                        return await self._execute_in(sandbox, job, host)
                    except SandboxUnfitError:
                        fitting = await self._runner.start(replace(profile, limits=job.limits))
                        return await self._execute_in(fitting, job, host)
            raise RefusedError(
                f"{ATTEMPTS} sandboxes ended, one after the other, before they took their job",
                fix="look for what kills processes on this machine",
            )
        finally:
            shelf.running -= 1
            self._slots.release()
            self._refill()
            self._look_again_later()

    async def _execute_in(self, sandbox: Sandbox, job: Job, host: Host) -> Outcome:
        loop = asyncio.get_running_loop()
        self._executing += 1
        if self._executing == self._processors:
            self._crowded_at = time.monotonic()
        # Once those that come with this one have theirs.
        loop.call_soon(self._refill)
        if self._ceiling and self._executing >= self._processors:
            loop.call_later(YIELDING, self._refill)
        try:
            return await sandbox.execute(job, host)
        finally:
            self._executing -= 1

    async def _take(self, profile: Profile, shelf: _Shelf) -> Sandbox:
        while shelf.ready:
            sandbox = shelf.ready.popleft()
            if sandbox.alive:
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
        at_once = self._starts_at_once()
        for profile, target in self._targets().items():
            shelf = self._shelves[profile]
            wanted = target - len(shelf.ready) - len(shelf.starting)
            for _extra in range(min(-wanted, len(shelf.ready)) if self._ceiling else 0):
                self._close_in_background(shelf.ready.popleft())
            while wanted > 0 and starting < at_once:
                task = asyncio.create_task(self._runner.start(profile))
                shelf.starting.append(task)
                task.add_done_callback(partial(self._started, shelf))
                wanted -= 1
                starting += 1

    def _starts_at_once(self) -> int:
        """How many sandboxes may be started at once.

        A flow waits for its own. A service yields to the steps that run: while they have all processors it starts none,
        for a while, and then one at a time.
        """
        if not self._ceiling:
            return self._at_once
        if self._executing < self._processors:
            return self._at_once - self._executing
        return 0 if time.monotonic() - self._crowded_at < YIELDING else 1

    def _look_again_later(self) -> None:
        """See to it that what is no longer wanted is let go, though no job ends then."""
        if self._ceiling and self._look_again is None and not self._closed:
            self._look_again = asyncio.get_running_loop().call_later(self._idle_after, self._look)

    def _look(self) -> None:
        self._look_again = None
        self._refill()
        idle = [profile for profile, shelf in self._shelves.items() if shelf.is_idle and profile not in self._floors]
        for profile in idle:
            del self._shelves[profile]
        if any(shelf.demand for shelf in self._shelves.values()):
            self._look_again_later()

    def _targets(self) -> dict[Profile, int]:
        """How many of each profile should be ready, the profile that was used last first."""
        period, left = self._period(), self._ceiling - sum(self._floors.values())
        targets = {}
        for profile, shelf in sorted(self._shelves.items(), key=lambda entry: -entry[1].used_at):
            shelf.note(period)
            floor = self._floors.get(profile, 0)
            more = max(min(shelf.demand - floor, left), 0)
            left -= more
            targets[profile] = max(floor + more, min(shelf.expected, LOOKAHEAD))
        return targets

    def _period(self) -> int:
        return int(time.monotonic() / self._idle_after)

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

"""The runner that isolates by nsjail: no daemon, no image, no root."""

import asyncio
import compileall
import os
import platform
import random
import re
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from flows.contracts import Isolation
from flows.errors import RefusedError
from steps.sandbox import channel, interpreter, jail, namespaces, processes
from steps.sandbox.cgroups import Cgroup, CgroupTree, find_tree
from steps.sandbox.conversation import Conversation
from steps.sandbox.jailer import Jailer, JailerFailedError, complaint
from steps.sandbox.limits import Limits
from steps.sandbox.mounts import PublicMounts, publish
from steps.sandbox.observe import Observation, outcome
from steps.sandbox.protocol import (
    Enforcement,
    Host,
    Job,
    LimitUnavailableError,
    Outcome,
    Profile,
    RuntimeUnavailableError,
    SandboxLostError,
)
from steps.sandbox.supervision import Course, never, supervise
from steps.sandbox.watchdog import Watchdog, limit_by_rlimits

START_TIMEOUT = 30.0
END_TIMEOUT = 10.0
END_INTERVAL = 0.005
OOM_INTERVAL = 0.1
"""How often the counter of processes that the kernel ended for their memory is read while a job runs."""
LINE_BUFFER = 1 << 20
IDLE_JAILERS = 8
"""Jailers without a jail that are kept, of all profiles together; each is a stopped process of about 4 MB."""
NAMESPACED_PROCESS_COUNT = (5, 14)
"""From this Linux on, RLIMIT_NPROC counts within the user namespace."""
_LOG_HEAD = re.compile(r"^\[[A-Z]\]\[[^\]]*\](?:\[\d+\])? (?:\w+\(\):\d+ )?")
"""Of a line that nsjail logs: level, time, pid and place."""
BEGIN = b"\0"
"""What a supervisor waits for once it is in its own cgroup."""


class NsjailRunner:
    """Starts sandboxes as jails of nsjail.

    Where the environment of Python steps has not been built, they have the standard library only. ``private`` are
    directories that no code may see, even where they lie in one that it does see, such as ``/usr``.
    """

    isolation: Isolation = "jail"

    def __init__(self, private: Sequence[Path] = ()) -> None:
        self._private = tuple(private)
        self._opening = asyncio.Lock()
        self._parts: jail.Installation | None = None
        self._mounts = PublicMounts({}, None)
        self._cgroups: CgroupTree | None = None
        self._sandboxes: set[NsjailSandbox] = set()
        self._idle: deque[tuple[Profile, Jailer]] = deque()
        self._closing = False

    @property
    def sandboxes(self) -> "tuple[NsjailSandbox, ...]":
        """The sandboxes that exist, ready or running."""
        return tuple(self._sandboxes)

    async def enforcement(self) -> Mapping[str, Enforcement]:
        await self._open()
        counted: Enforcement = "hard" if _kernel() >= NAMESPACED_PROCESS_COUNT else "watched"
        by_cgroup: Enforcement = "hard" if self._cgroups else "watched"
        return {
            "timeout": "hard",
            "memory": by_cgroup,
            "cpu": by_cgroup,
            "pids": "hard" if self._cgroups else counted,
            "disk": "hard",
            "output": "hard",
            "network": "hard",
        }

    async def refusal(self, limits: Limits, runtime: str | None = None) -> RefusedError | None:
        if runtime is not None:
            return RuntimeUnavailableError(
                f"the jail has no container runtimes, and the step asks for {runtime!r}",
                fix="set STEPBOX_RUNNER=docker, or leave `runtime` out",
            )
        await self._open()
        return None if self._cgroups else _without_cgroups(limits)

    async def start(self, profile: Profile) -> "NsjailSandbox":
        parts = await self._open()
        try:
            async with asyncio.timeout(START_TIMEOUT):
                return await self._start(profile, parts)
        except TimeoutError:
            raise RefusedError(
                f"a sandbox was not ready after {START_TIMEOUT:g} s", fix="look at the load of this machine"
            ) from None

    async def close(self) -> None:
        self._closing = True
        for sandbox in list(self._sandboxes):
            await sandbox.close()
        while self._idle:
            await self._idle.pop()[1].close()
        if self._cgroups is not None:
            await asyncio.to_thread(self._cgroups.close)
            self._cgroups = None
        await self._mounts.close()
        self._mounts = PublicMounts({}, None)
        self._parts = None
        self._closing = False

    async def _start(self, profile: Profile, parts: jail.Installation) -> "NsjailSandbox":
        while (jailer := self._idle_jailer(profile)) is not None:
            # One that waited may have been killed meanwhile.
            with suppress(JailerFailedError):
                return await self._make(profile, parts, jailer)
        try:
            return await self._make(profile, parts, await self._new_jailer(profile, parts))
        except JailerFailedError as problem:
            command = jail.command(profile, parts, self._mounts, self._outside_uid())
            raise _refusal(str(problem) or await complaint(command)) from None

    async def _new_jailer(self, profile: Profile, parts: jail.Installation) -> Jailer:
        command = jail.command(profile, parts, self._mounts, self._outside_uid())
        return await Jailer.start(command, self._cgroups.starting.entries if self._cgroups else ())

    @staticmethod
    def _outside_uid() -> int:
        if os.geteuid() != 0:
            return os.getuid()
        return jail.FIRST_OUTSIDE_UID + random.randrange(jail.OUTSIDE_UIDS)  # noqa: S311 - spreads, hides nothing

    async def _make(self, profile: Profile, parts: jail.Installation, jailer: Jailer) -> "NsjailSandbox":
        """Let a jailer make a sandbox and wait until that is ready; what goes wrong ends the jailer."""
        cgroup, line = None, None
        try:
            pid, line = await jailer.next_jail()
            if self._cgroups is not None:
                cgroup = await asyncio.to_thread(_own_cgroup, self._cgroups, pid)
            streams = await _streams(line)
        except BaseException as problem:
            await asyncio.shield(jailer.close())
            if line is not None:
                line.close()
            if cgroup is not None:
                await asyncio.shield(_remove(cgroup))
            if isinstance(problem, ProcessLookupError):
                raise JailerFailedError("the supervisor has ended") from None
            raise
        sandbox = NsjailSandbox(
            profile=profile,
            jailer=jailer,
            supervisor=pid,
            cgroup=cgroup,
            line=streams,
            environment=jail.step_environment(parts),
            when_gone=self._take_back,
        )
        self._sandboxes.add(sandbox)
        try:
            await sandbox.wait_until_ready()
        except BaseException:
            jailer.kill()
            await sandbox.close()
            raise
        return sandbox

    def _idle_jailer(self, profile: Profile) -> Jailer | None:
        for entry in self._idle:
            if entry[0] == profile:
                self._idle.remove(entry)
                return entry[1]
        return None

    async def _take_back(self, sandbox: "NsjailSandbox") -> None:
        """Keep the jailer of a sandbox that is gone for the next one of its profile."""
        self._sandboxes.discard(sandbox)
        jailer = sandbox.jailer
        if self._closing or not jailer.alive:
            await jailer.close()
            return
        self._idle.append((sandbox.profile, jailer))
        if len(self._idle) > IDLE_JAILERS:
            await self._idle.popleft()[1].close()

    async def _open(self) -> jail.Installation:
        async with self._opening:
            if self._parts is None:
                parts = jail.find_installation(interpreter.find(), self._private)
                await asyncio.to_thread(compileall.compile_dir, jail.GUEST, quiet=2)
                self._mounts = await publish(parts.sources)
                self._cgroups = await asyncio.to_thread(find_tree)
                self._parts = parts
            return self._parts


class NsjailSandbox:
    """One jail and what runs in it."""

    def __init__(
        self,
        *,
        profile: Profile,
        jailer: Jailer,
        supervisor: int,
        cgroup: Cgroup | None,
        line: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        environment: Mapping[str, str],
        when_gone: "Callable[[NsjailSandbox], Awaitable[None]]",
    ) -> None:
        """``when_gone`` is called when nothing of the sandbox is left but its jailer."""
        self._profile = profile
        self.jailer = jailer
        self._cgroup = cgroup
        self._reader, self._writer = line
        self._environment = environment
        self._supervisor = processes.Handle(supervisor)
        self._ended = asyncio.create_task(self._supervisor.ended())
        self._ending: asyncio.Task[None] | None = None
        self._killed = False
        self._when_gone = when_gone

    @property
    def profile(self) -> Profile:
        return self._profile

    @property
    def pid(self) -> int:
        """The process, on the host, that has all others of the sandbox below it."""
        return self.jailer.pid

    @property
    def alive(self) -> bool:
        """Whether it could still take a job."""
        return not self._ended.done() and self._ending is None

    async def ended(self) -> None:
        await asyncio.wait({self._ended})

    async def wait_until_ready(self) -> None:
        """Let the supervisor begin, and wait for its word that it takes a job.

        Raises:
            JailerFailedError: it ended before, or said something else.
        """
        self._writer.write(BEGIN)
        try:
            frame = await channel.read_frame(self._reader, max_result=0)
        except channel.ChannelError as error:
            raise JailerFailedError(str(error)) from None
        if not isinstance(frame, channel.Ready):
            raise JailerFailedError(await self.jailer.last_words())

    async def execute(self, job: Job, host: Host) -> Outcome:
        if not self.alive:
            raise SandboxLostError
        try:
            watchdog = self._guard(job)
        except BaseException:
            self._end()
            raise
        cpu_before = self._cpu_time()
        said = Conversation(self._reader, self._writer, self._with_environment(job), host)
        try:
            await said.bring()
            course = await supervise(
                said,
                job.limits,
                exhausted=self._exhausted() if watchdog is None else watchdog.wait(),
                cut_off=self._kill,
                filled=self._filled if job.files else never,
            )
            observation = self._observe(course, watchdog, cpu_before)
            await said.collect()
            return outcome(job, said, observation)
        finally:
            self._end()

    async def close(self) -> None:
        """Destroy the sandbox, and wait until nothing of it is left."""
        await asyncio.shield(self._end())

    def _guard(self, job: Job) -> Watchdog | None:
        """Set the job's limits; gives the watchdog where one is needed."""
        if self._cgroup is not None:
            self._cgroup.limit(job.limits)
            return None
        if (refused := _without_cgroups(job.limits)) is not None:
            raise refused
        limit_by_rlimits(self.pid, job.language, job.limits)
        _pin(self.pid, job.limits.cpu)
        return Watchdog(self.pid, job.limits.memory)

    async def _exhausted(self) -> None:
        """Returns once the kernel has ended a process for its memory."""
        assert self._cgroup is not None
        await asyncio.sleep(OOM_INTERVAL)
        while not self._cgroup.oom_kills():  # noqa: ASYNC110 - a counter of the kernel's
            await asyncio.sleep(OOM_INTERVAL)

    async def _filled(self) -> bool:
        """Whether the kernel has ended the supervisor for what files took of its memory."""
        return self._cgroup is not None and self._cgroup.oom_kills() > 0

    def _observe(self, course: Course, watchdog: Watchdog | None, cpu_before: float | None) -> Observation:
        cpu_after = self._cpu_time()
        exhausted, peak = False, None
        if self._cgroup is not None:
            exhausted, peak = self._cgroup.oom_kills() > 0, self._cgroup.peak_memory()
        elif watchdog is not None:
            exhausted, peak = watchdog.exceeded, watchdog.peak or None
        return Observation(
            isolation="jail",
            duration=course.duration,
            timed_out=course.timed_out,
            out_of_memory=exhausted,
            peak_memory=peak,
            cpu_time=cpu_after - cpu_before if cpu_after is not None and cpu_before is not None else None,
        )

    def _with_environment(self, job: Job) -> Job:
        return replace(job, environment={**self._environment, **job.environment})

    def _cpu_time(self) -> float | None:
        if self._cgroup is not None:
            return self._cgroup.cpu_time()
        return processes.cpu_time(self._supervisor.pid)

    def _kill(self) -> None:
        """End every process of the sandbox now: the kernel ends a pid namespace with its first process."""
        if not self._ended.done() and not self._killed:
            self._killed = True
            self.jailer.pause()
            self._supervisor.kill()

    def _end(self) -> "asyncio.Task[None]":
        if self._ending is None:
            self._kill()
            self._ending = asyncio.create_task(self._clean_up())
        return self._ending

    async def _clean_up(self) -> None:
        await self._ended
        if not self._killed:
            self.jailer.pause()
        self._supervisor.close()
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
        if self._cgroup is not None:
            await _remove(self._cgroup)
        await self._when_gone(self)


def _own_cgroup(tree: CgroupTree, supervisor: int) -> Cgroup:
    """Make a cgroup and move a supervisor into it that has started nothing yet."""
    cgroup = tree.create()
    try:
        cgroup.enter(supervisor)
    except BaseException:
        cgroup.remove()
        raise
    return cgroup


class _LineProtocol(asyncio.StreamReaderProtocol):
    """Reads what a sandbox said to its end, also where it ended before it had read everything itself."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the end is all that matters
        super().connection_lost(None)


async def _streams(line: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LINE_BUFFER)
    transport, protocol = await loop.create_unix_connection(lambda: _LineProtocol(reader), sock=line)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def _remove(cgroup: Cgroup) -> None:
    """Remove a cgroup, and what still runs in it."""
    deadline = time.monotonic() + END_TIMEOUT
    while not await asyncio.to_thread(cgroup.remove) and time.monotonic() < deadline:
        cgroup.kill()
        await asyncio.sleep(END_INTERVAL)


def _refusal(told: str) -> RefusedError:
    told = "; ".join(_LOG_HEAD.sub("", line) for line in told.splitlines())
    program = jail.find_nsjail() or Path("nsjail")
    found = [restriction.cause for restriction in namespaces.restrictions(program)] if not told else []
    if found or re.search(r"clone\(|mount\('/'|CLONE_NEWUSER|uid_map|setgroups|Operation not permitted", told):
        return RefusedError(
            f"this machine does not let Stepbox make namespaces: {told[-500:] or ' and '.join(found)}",
            fix=namespaces.advice(program),
        )
    return RefusedError(f"a sandbox could not be started: {told[-2000:] or 'nsjail ended without a word'}")


def _pin(pid: int, cpu: float) -> None:
    """Bind a sandbox to as many processors as it may use; the code can't undo it (the jail denies the call)."""
    available = sorted(os.sched_getaffinity(0))
    count = max(int(cpu), 1)
    if count >= len(available):
        return
    chosen = random.sample(available, count)
    for process in processes.descendants(pid):
        for thread in processes.threads(process):
            with suppress(OSError):
                os.sched_setaffinity(thread, chosen)


def _kernel() -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", platform.release())[:2])


def _without_cgroups(limits: Limits) -> RefusedError | None:
    """The limit that only a cgroup can hold a job to, where it has one."""
    if limits.cpu >= 1:
        return None
    return LimitUnavailableError(
        f"a limit of {limits.cpu:g} processors can't be enforced without cgroups",
        fix="set limits.cpu to 1 or more, or run Stepbox as root or in a delegated cgroup",
    )

"""The runner that isolates by nsjail: no daemon, no image, no root."""

import asyncio
import compileall
import os
import platform
import random
import re
import signal
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from flows.contracts import Isolation
from flows.errors import RefusedError
from steps.sandbox import channel, interpreter, jail, processes
from steps.sandbox.cgroups import Cgroup, CgroupTree, find_tree
from steps.sandbox.conversation import Conversation
from steps.sandbox.limits import Limits
from steps.sandbox.mounts import PublicMounts, publish
from steps.sandbox.observe import Observation, outcome
from steps.sandbox.protocol import Enforcement, Host, Job, Outcome, Profile, SandboxLostError
from steps.sandbox.watchdog import Watchdog, limit_by_rlimits

START_TIMEOUT = 30.0
END_TIMEOUT = 10.0
END_INTERVAL = 0.005
OOM_INTERVAL = 0.1
"""How often the counter of processes that the kernel ended for their memory is read while a job runs."""
PIPE_BUFFER = 1 << 20
NAMESPACED_PROCESS_COUNT = (5, 14)
"""From this Linux on, RLIMIT_NPROC counts within the user namespace."""

# Enters the cgroups, then becomes the command: whatever it starts is inside from its first instruction.
_ENTER = 'while [ "$1" != -- ]; do echo $$ > "$1" || exit 97; shift; done; shift; exec "$@"'


class LimitUnavailableError(RefusedError):
    """A limit that can't be enforced on this machine."""

    code = "limit_unavailable"


class NsjailRunner:
    """Starts sandboxes as processes of nsjail.

    Where the environment of Python steps has not been built, they have the standard library only.
    """

    isolation: Isolation = "jail"

    def __init__(self) -> None:
        self._opening = asyncio.Lock()
        self._parts: jail.Installation | None = None
        self._mounts = PublicMounts({}, None)
        self._cgroups: CgroupTree | None = None
        self._sandboxes: set[NsjailSandbox] = set()

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

    async def refusal(self, limits: Limits) -> RefusedError | None:
        await self._open()
        return None if self._cgroups else _without_cgroups(limits)

    async def start(self, profile: Profile) -> "NsjailSandbox":
        parts = await self._open()
        cgroup = self._cgroups.create() if self._cgroups else None
        uid = os.getuid()
        if os.geteuid() == 0:
            uid = jail.FIRST_OUTSIDE_UID + random.randrange(jail.OUTSIDE_UIDS)  # noqa: S311 - spreads, hides nothing
        command = jail.command(profile, parts, self._mounts, uid)
        if cgroup is not None:
            command = ["/bin/sh", "-c", _ENTER, "sh", *map(str, cgroup.entries), "--", *command]
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True, env={}, limit=PIPE_BUFFER
            )
        except BaseException:
            if cgroup is not None:
                await asyncio.shield(_remove(cgroup))
            raise
        sandbox = NsjailSandbox(profile, process, cgroup, jail.step_environment(parts), self._sandboxes)
        try:
            await sandbox.wait_until_ready()
        except BaseException:
            await sandbox.close()
            raise
        return sandbox

    async def close(self) -> None:
        for sandbox in list(self._sandboxes):
            await sandbox.close()
        if self._cgroups is not None:
            await asyncio.to_thread(self._cgroups.close)
            self._cgroups = None
        await self._mounts.close()
        self._mounts = PublicMounts({}, None)
        self._parts = None

    async def _open(self) -> jail.Installation:
        async with self._opening:
            if self._parts is None:
                parts = jail.find_installation(interpreter.find())
                await asyncio.to_thread(compileall.compile_dir, jail.GUEST, quiet=2)
                self._mounts = await publish(parts.sources)
                self._cgroups = await asyncio.to_thread(find_tree)
                self._parts = parts
            return self._parts


class NsjailSandbox:
    """One nsjail process and what runs in it."""

    def __init__(
        self,
        profile: Profile,
        process: Process,
        cgroup: Cgroup | None,
        environment: Mapping[str, str],
        siblings: "set[NsjailSandbox]",
    ) -> None:
        self._profile = profile
        self._process = process
        self._cgroup = cgroup
        self._environment = environment
        self._siblings = siblings
        # Not the process's own kill(): asyncio's looks whether it has ended, and takes its exit status away with that.
        self._jail = processes.Handle(process.pid)
        self._supervisor: processes.Handle | None = None
        self._ending: asyncio.Task[None] | None = None
        siblings.add(self)

    @property
    def profile(self) -> Profile:
        return self._profile

    @property
    def pid(self) -> int:
        """The process, on the host, that has all others of the sandbox below it."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it could still take a job."""
        return self._process.returncode is None and self._ending is None

    async def ended(self) -> None:
        await self._process.wait()

    async def wait_until_ready(self) -> None:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT):
                frame = await channel.read_frame(self._process.stdout, max_result=0)
        except TimeoutError:
            raise RefusedError(
                f"a sandbox was not ready after {START_TIMEOUT:g} s", fix="look at the load of this machine"
            ) from None
        except channel.ChannelError as error:
            raise RefusedError(f"a sandbox could not be started: {error}") from None
        if not isinstance(frame, channel.Ready):
            assert self._process.stderr is not None
            self._kill()
            told = (await self._process.stderr.read(64 * 1024)).decode(errors="replace").strip()
            raise _refusal(told)
        below = processes.children(self._process.pid)
        self._supervisor = processes.Handle(below[0]) if below else None

    async def execute(self, job: Job, host: Host) -> Outcome:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if not self.alive:
            raise SandboxLostError
        try:
            guarded = self._guard(job)
        except BaseException:
            self._end()
            raise
        cpu_before = self._cpu_time()
        said = Conversation(self._process.stdout, self._process.stdin, self._with_environment(job), host)
        started = time.perf_counter()
        talking = asyncio.ensure_future(said.run())
        timed_out = False
        try:
            timed_out = await self._supervise(talking, guarded, said, job)
            duration = time.perf_counter() - started
            if not talking.done():
                self._kill()
            await talking
            if not said.taken and said.failure is None:
                raise SandboxLostError
            observation = self._observe(duration, timed_out, guarded, cpu_before)
            return outcome(job, said, observation)
        finally:
            if guarded is not None:
                guarded[1].cancel()
            self._kill()
            if not talking.done():
                talking.cancel()
                with suppress(asyncio.CancelledError):
                    await talking
            self._end()

    async def close(self) -> None:
        """Destroy the sandbox, and wait until nothing of it is left."""
        await asyncio.shield(self._end())

    def _guard(self, job: Job) -> "tuple[Watchdog, asyncio.Task[None]] | None":
        """Set the job's limits; gives the watchdog where one is needed."""
        if self._cgroup is not None:
            self._cgroup.limit(job.limits)
            return None
        if (refused := _without_cgroups(job.limits)) is not None:
            raise refused
        limit_by_rlimits(self._process.pid, job.language, job.limits)
        _pin(self._process.pid, job.limits.cpu)
        dog = Watchdog(self._process.pid, job.limits.memory)
        return dog, asyncio.create_task(dog.wait())

    async def _supervise(
        self,
        talking: "asyncio.Future[None]",
        guarded: "tuple[Watchdog, asyncio.Task[None]] | None",
        said: Conversation,
        job: Job,
    ) -> bool:
        """Wait for the end of the job, or bring it about; gives whether its time was over."""
        waiting = {talking} if guarded is None else {talking, guarded[1]}
        if await self._ended_within(waiting, job.limits.timeout):
            return False
        said.signal(signal.SIGTERM)
        await self._ended_within(waiting, job.limits.grace)
        return True

    async def _ended_within(self, waiting: "set[asyncio.Future[None]]", seconds: float) -> bool:
        """Wait until one of these has ended, or the kernel has ended a process for its memory; False: neither."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            step = left if self._cgroup is None else min(left, OOM_INTERVAL)
            done, _pending = await asyncio.wait(waiting, timeout=step, return_when=asyncio.FIRST_COMPLETED)
            if done or (self._cgroup is not None and self._cgroup.oom_kills()):
                return True
        return False

    def _observe(
        self,
        duration: float,
        timed_out: bool,  # noqa: FBT001 - private, one caller
        guarded: "tuple[Watchdog, asyncio.Task[None]] | None",
        cpu_before: float | None,
    ) -> Observation:
        cpu_after = self._cpu_time()
        exhausted, peak = False, None
        if self._cgroup is not None:
            exhausted, peak = self._cgroup.oom_kills() > 0, self._cgroup.peak_memory()
        elif guarded is not None:
            exhausted, peak = guarded[0].exceeded, guarded[0].peak or None
        return Observation(
            isolation="jail",
            duration=duration,
            timed_out=timed_out,
            out_of_memory=exhausted,
            peak_memory=peak,
            cpu_time=cpu_after - cpu_before if cpu_after is not None and cpu_before is not None else None,
        )

    def _with_environment(self, job: Job) -> Job:
        return replace(job, environment={**self._environment, **job.environment})

    def _cpu_time(self) -> float | None:
        if self._cgroup is not None:
            return self._cgroup.cpu_time()
        return processes.cpu_time(self._supervisor.pid) if self._supervisor else None

    def _kill(self) -> None:
        """End every process of the sandbox now: the kernel ends a pid namespace with its first process."""
        if self._process.returncode is not None:
            return
        if self._supervisor is not None:
            self._supervisor.kill()
        else:
            for child in processes.children(self._process.pid):
                processes.kill(child)
        self._jail.kill()

    def _end(self) -> "asyncio.Task[None]":
        if self._ending is None:
            self._kill()
            self._ending = asyncio.create_task(self._clean_up())
        return self._ending

    async def _clean_up(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(ConnectionError, BrokenPipeError):
            await self._process.stdin.wait_closed()
        await self._process.communicate()
        for handle in (self._jail, self._supervisor):
            if handle is not None:
                handle.close()
        if self._cgroup is not None:
            await _remove(self._cgroup)
        self._siblings.discard(self)


async def _remove(cgroup: Cgroup) -> None:
    """Remove a cgroup, and what still runs in it."""
    deadline = time.monotonic() + END_TIMEOUT
    while not cgroup.remove() and time.monotonic() < deadline:
        cgroup.kill()
        await asyncio.sleep(END_INTERVAL)


def _refusal(told: str) -> RefusedError:
    if re.search(r"clone\(|CLONE_NEWUSER|uid_map|setgroups|Operation not permitted", told):
        return RefusedError(
            f"this machine does not let Stepbox make namespaces: {told[-500:]}",
            fix="allow user namespaces: sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), "
            "kernel.unprivileged_userns_clone=1 (Debian), user.max_user_namespaces=10000; in a container, run it with "
            "--security-opt seccomp=unconfined --security-opt systempaths=unconfined",
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

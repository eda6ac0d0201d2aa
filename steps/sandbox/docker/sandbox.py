"""One container of the guest image and the job that runs in it."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from dataclasses import replace

from flows.errors import RefusedError
from steps.sandbox import channel
from steps.sandbox.cgroups import Cgroup, of_container
from steps.sandbox.conversation import Conversation
from steps.sandbox.docker import container
from steps.sandbox.docker.endpoint import DockerUnavailableError
from steps.sandbox.docker.engine import Engine
from steps.sandbox.docker.guest import GuestImage
from steps.sandbox.docker.runtime import Runtime
from steps.sandbox.docker.stream import Attachment
from steps.sandbox.docker.watch import Fate
from steps.sandbox.observe import Observation, outcome
from steps.sandbox.protocol import (
    Host,
    Job,
    LimitUnavailableError,
    Outcome,
    Profile,
    SandboxLostError,
    SandboxUnfitError,
)
from steps.sandbox.supervision import Course, never, supervise

START_TIMEOUT = 60.0
READY_LIFETIME = 3600.0
"""Seconds that a container may wait for a job; then another takes its place."""
LONGEST_JOB = 24 * 3600.0
"""Seconds. Whatever is older than both together belongs to nobody."""
TCP_SHARE = 4
"""What may wait in TCP connections is this part of the memory, where the Engine's machine is this one."""
FAREWELL = 2.0
"""Seconds that the supervisor has to end by itself, its stdin being closed, before its container is removed."""
NEWS = 0.5
"""Seconds that the Engine has to tell of an OOM kill that something speaks for."""
LOSS = 3.0
"""Seconds that the Engine has to tell that a container has ended, or to go away as well."""


class DockerSandbox:
    """One started container, blocked until its job comes."""

    def __init__(
        self,
        *,
        engine: Engine,
        container: str,
        line: Attachment,
        fate: Fate,
        profile: Profile,
        image: GuestImage,
        runtime: Runtime,
    ) -> None:
        self.container = container
        """Its id."""
        self.gone = asyncio.Event()
        """Set once the container is removed."""
        self._engine = engine
        self._line = line
        self._fate = fate
        self._profile = profile
        self._image = image
        self._runtime = runtime
        self._expires = time.monotonic() + READY_LIFETIME
        self._looking: asyncio.Task[None] | None = None
        self._cgroup: Cgroup | None = None
        self._cpu_before: float | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def profile(self) -> Profile:
        return self._profile

    @property
    def containers(self) -> tuple[str, ...]:
        """The ids of all containers that belong to it."""
        return (self.container,)

    @property
    def alive(self) -> bool:
        return self._ending is None and not self._line.closed.is_set() and time.monotonic() < self._expires

    async def ended(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(self._expires - time.monotonic(), 0)):
                await self._line.closed.wait()

    async def wait_until_ready(self) -> None:
        """Wait for the guest's first word.

        Raises:
            RefusedError: it doesn't come.
        """
        try:
            async with asyncio.timeout(START_TIMEOUT):
                frame = await channel.read_frame(self._line.reader, max_result=0)
        except TimeoutError:
            raise RefusedError(
                f"a sandbox was not ready after {START_TIMEOUT:g} s", fix="look at the load of the Engine's machine"
            ) from None
        except channel.ChannelError as error:
            raise RefusedError(f"a sandbox could not be started: {error}") from None
        if not isinstance(frame, channel.Ready):
            told = self._line.stderr.decode(errors="replace").strip()[-2000:]
            raise RefusedError(f"a sandbox could not be started: {told or 'its container ended without a word'}")
        self._looking = asyncio.create_task(self._find_counters())

    async def execute(self, job: Job, host: Host) -> Outcome:
        if not self.alive:
            raise SandboxLostError
        said = Conversation(self._line.reader, self._line.writer, self._with_environment(job), host)
        try:
            if self._looking is not None:
                await self._looking
            await self._limit(job)
            await said.bring()
            course = await supervise(
                said,
                job.limits,
                exhausted=self._exhausted(),
                cut_off=self._line.hang_up,
                filled=self._filled if job.files else never,
            )
            observation = await self._observe(said, course)
            await said.collect()
            return outcome(job, said, observation)
        finally:
            self._end(farewell=said.wait_status is not None)

    async def close(self) -> None:
        """Destroy the sandbox, and wait until nothing of it is left."""
        await asyncio.shield(self._end(farewell=True))

    async def _exhausted(self) -> None:
        """Returns once the kernel has ended a process for its memory."""
        await self._fate.out_of_memory.wait()

    async def _limit(self, job: Job) -> None:
        """Set the limits that the container wasn't started with."""
        if container.started_with(self._profile, job.limits, self._runtime):
            return
        if self._runtime.gvisor:
            raise SandboxUnfitError
        try:
            await self._engine.update(self.container, container.quotas(job.limits, self._runtime))
        except DockerUnavailableError:
            raise
        except RefusedError as error:
            if self._line.closed.is_set():
                raise SandboxLostError from error
            raise LimitUnavailableError(
                f"the limits of the step can't be set: {error.message}",
                fix="raise limits.memory: a sandbox that waits for its code needs some itself",
            ) from error

    async def _observe(self, said: Conversation, course: Course) -> Observation:
        ended = said.wait_status is not None or said.exceeded is not None or course.timed_out
        lost = self._line.closed.is_set() and not ended
        cgroup = self._cgroup
        cpu_after, peak = (cgroup.cpu_time(), cgroup.peak_memory()) if cgroup else (None, None)
        if cgroup is not None and cgroup.oom_kills():
            self._fate.out_of_memory.set()
        if lost:
            await self._find_out_why()
        elif cgroup is None and _killed(said):
            await first_of(self._fate.out_of_memory, seconds=NEWS)
        return Observation(
            isolation="container",
            duration=course.duration,
            timed_out=course.timed_out,
            out_of_memory=self._fate.out_of_memory.is_set(),
            engine_lost=lost and self._fate.engine_lost.is_set(),
            peak_memory=peak,
            cpu_time=cpu_after - self._cpu_before if cpu_after is not None and self._cpu_before is not None else None,
            image=self._image.digest,
        )

    async def _filled(self) -> bool:
        """Whether the kernel has ended the supervisor for what files took of its memory."""
        if self._cgroup is not None and self._cgroup.oom_kills():
            self._fate.out_of_memory.set()
        return await first_of(self._fate.out_of_memory, seconds=NEWS)

    async def _find_out_why(self) -> None:
        """Wait for what the Engine may have to say of a container that is gone, or for the Engine's own end."""
        fate = self._fate
        await first_of(fate.out_of_memory, fate.engine_lost, fate.ended, seconds=LOSS)
        if not await first_of(fate.out_of_memory, fate.engine_lost, seconds=NEWS) and not await self._engine.answers():
            # One that is stopped ends its containers first, and tells of it.
            fate.engine_lost.set()

    async def _find_counters(self) -> None:
        """Find the container's cgroup, where the Engine's machine is this one.

        Its counters are files, which the Engine itself reads once a second and hands out no sooner.
        """
        with suppress(RefusedError):
            pid = await self._engine.first_process(self.container)
            self._cgroup = of_container(pid, self.container)
            if self._cgroup is not None:
                self._cgroup.limit_sockets(self._profile.memory // TCP_SHARE)
                self._cpu_before = self._cgroup.cpu_time()

    def _with_environment(self, job: Job) -> Job:
        return replace(job, environment={**container.step_environment(self._image.python), **job.environment})

    def _end(self, *, farewell: bool) -> "asyncio.Task[None]":
        if self._ending is None:
            self._ending = asyncio.create_task(self._clean_up(farewell=farewell))
        return self._ending

    async def _clean_up(self, *, farewell: bool) -> None:
        """Remove the container; with ``farewell`` its supervisor may end by itself, which costs the Engine less."""
        try:
            await self._line.close()
            if self._looking is not None:
                await self._looking
            if not farewell or not await first_of(self._fate.ended, self._fate.engine_lost, seconds=FAREWELL):
                await self._engine.remove(self.container)
        except RefusedError:
            # The Engine is gone or in trouble; the sweeper comes back for what is left.
            pass
        finally:
            self.gone.set()


async def first_of(*events: asyncio.Event, seconds: float) -> bool:
    """Wait until one of these has happened; False: none did."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        done, _pending = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for each in waiting:
            each.cancel()


def _killed(said: Conversation) -> bool:
    """Whether the user's process ended in the way in which the kernel ends one for its memory."""
    status = said.wait_status
    return status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL

"""A container of a step's own image, and the sandbox beside it that serves it.

The sidecar is a sandbox like any other, in which no code runs: it writes the inputs into a work directory that both
share, holds the network namespace with the proxy in it, and reads what is left once the other container has ended.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing, suppress
from typing import Any

from flows.errors import RefusedError
from steps.sandbox.cgroups import of_container
from steps.sandbox.conversation import Conversation
from steps.sandbox.docker import container, stream
from steps.sandbox.docker.endpoint import DockerUnavailableError
from steps.sandbox.docker.sandbox import FAREWELL, LOSS, NEWS, START_TIMEOUT, TCP_SHARE, DockerSandbox, first_of
from steps.sandbox.docker.start_error import why_not_run, why_not_started
from steps.sandbox.docker.watch import Fate, Watch
from steps.sandbox.guest import proxy, shell_step
from steps.sandbox.observe import Observation, outcome
from steps.sandbox.protocol import ContainerCommand, Host, Job, Outcome, SandboxLostError

KILLED = 137
"""Exit status of a container whose first process got SIGKILL, or says that a child of it did."""
SIGKILL_WAIT_STATUS = 9
LAST_WORDS = 5.0
"""Seconds that the rest of a container's output may take to come once it has ended."""
COLLECTION = 60.0
"""Seconds that a sidecar has to read what was left."""
ASK = 1.0
"""Seconds between two questions whether a container has ended, where the Engine doesn't tell by itself."""
LOOK = 0.5
"""Seconds between two looks at a container's counters, which go with it."""


class Beside:
    """The container of the step's image, from its creation to its end."""

    def __init__(self, container: str) -> None:
        self.id = container
        self.fate = Fate()
        self.printout: stream.Printout | None = None
        self.peak_memory: int | None = None
        self.cpu_time: float | None = None
        self.timed_out = False
        self.engine_lost = False


class Sidecar(DockerSandbox):
    """One started sidecar, which waits for the image that it is to serve.

    ``name`` and ``labels`` are for the container beside it, and ``watch`` tells what happens to that.
    """

    def __init__(
        self, *, watch: Watch, name: str, labels: Mapping[str, str], swap_unlimited: bool, **parts: Any
    ) -> None:
        super().__init__(**parts)
        self._watch = watch
        self._name = name
        self._labels = labels
        self._swap_unlimited = swap_unlimited
        self._beside: Beside | None = None

    @property
    def containers(self) -> tuple[str, ...]:
        return (self.container,) if self._beside is None else (self.container, self._beside.id)

    async def execute(self, job: Job, host: Host) -> Outcome:
        if not self.alive:
            raise SandboxLostError
        said = Conversation(self._line.reader, self._line.writer, job, host)
        talking: asyncio.Future[None] | None = None
        try:
            await said.bring()
            talking = asyncio.ensure_future(said.run())
            beside = await self._make(job)
            prepared = asyncio.ensure_future(said.prepared.wait())
            waiting = {talking, prepared}
            await asyncio.wait(waiting, timeout=START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
            prepared.cancel()
            started = time.perf_counter()
            if said.prepared.is_set() and not talking.done():
                await self._run(beside, said, talking, job)
            duration = time.perf_counter() - started
            if not talking.done():
                self._line.hang_up()
            await talking
            if not said.taken and said.failure is None:
                raise SandboxLostError
            seen = self._seen(beside, job, duration)
            await said.collect()
            return outcome(job, said, seen)
        finally:
            if talking is not None and not talking.done():
                talking.cancel()
                with suppress(asyncio.CancelledError):
                    await talking
            self._end(farewell=said.wait_status is not None)

    async def _make(self, job: Job) -> Beside:
        command = _command(job)
        options = container.command_options(
            command,
            environment(job),
            job.limits,
            sidecar=self.container,
            labels=self._labels,
            runtime=self._runtime,
            swap_unlimited=self._swap_unlimited,
        )
        try:
            # Known from its creation on, so that whatever happens it is removed.
            beside = self._beside = Beside(await self._engine.create(self._name, options))
        except RefusedError as error:
            self._unless_lost(error)
            raise
        try:
            beside.fate = await self._watch.follow(beside.id)
            beside.printout = await stream.printout(self._engine.endpoint, self._engine.version, beside.id)
        except (OSError, stream.StreamError) as error:
            raise DockerUnavailableError(
                f"the connection to the Docker Engine broke: {error}", fix="look at the Engine's own log"
            ) from error
        return beside

    async def _run(self, beside: Beside, said: Conversation, talking: "asyncio.Future[None]", job: Job) -> None:
        """Start the container, see it to its end, and have the sidecar read what it left."""
        printing = asyncio.create_task(_pass_on(beside, said))
        counting = None
        try:
            try:
                await self._engine.start(beside.id)
            except DockerUnavailableError:
                # It may have run.
                beside.engine_lost = True
                return
            except RefusedError as refused:
                error = why_not_started(refused, _command(job))
                if error is None:
                    self._unless_lost(refused)
                    raise
                said.fail(error)
                return
            counting = asyncio.create_task(self._count(beside, job))
            await self._supervise_command(beside, talking, printing, job)
            await asyncio.wait({printing}, timeout=LAST_WORDS)
            status = beside.fate.exit_status
            if status and not beside.timed_out:
                await first_of(beside.fate.out_of_memory, seconds=NEWS if status == KILLED else LOOK / 5)
            if status is None or beside.timed_out or beside.fate.out_of_memory.is_set() or talking.done():
                return
            error = why_not_run(said.output.text("stderr"), _command(job)) if status else None
            if error is not None:
                said.fail(error)
                return
            wait_status = SIGKILL_WAIT_STATUS if status == KILLED else status << 8
            said.end(wait_status)
            await asyncio.wait({talking}, timeout=COLLECTION)
        finally:
            for task in (printing, counting):
                if task is not None:
                    task.cancel()
            await asyncio.gather(*filter(None, (printing, counting)), return_exceptions=True)

    def _unless_lost(self, error: RefusedError) -> None:
        """Raise SandboxLostError where a container could not be had because its sidecar has ended."""
        if self._line.closed.is_set():
            raise SandboxLostError from error

    async def _supervise_command(
        self, beside: Beside, talking: "asyncio.Future[None]", printing: "asyncio.Future[None]", job: Job
    ) -> None:
        """Wait for the end of the container, or bring it about."""
        fate = beside.fate
        ended = asyncio.ensure_future(self._until_ended(beside, printing))
        exhausted = asyncio.ensure_future(fate.out_of_memory.wait())
        waiting: set[asyncio.Future[Any]] = {talking, ended, exhausted}
        try:
            done, _ = await asyncio.wait(waiting, timeout=job.limits.timeout, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                beside.timed_out = True
                with suppress(RefusedError):
                    await self._engine.signal(beside.id, _command(job).stop_signal)
                await asyncio.wait(waiting, timeout=job.limits.grace, return_when=asyncio.FIRST_COMPLETED)
            if self._line.closed.is_set() and not fate.ended.is_set():
                # The sidecar has ended: the Engine may have gone with it.
                await asyncio.wait({ended}, timeout=LOSS)
        finally:
            for each in (ended, exhausted):
                each.cancel()
            await asyncio.gather(ended, exhausted, return_exceptions=True)
        if not fate.ended.is_set() and not beside.engine_lost:
            await self._remove(beside)

    async def _until_ended(self, beside: Beside, printing: "asyncio.Future[None]") -> None:
        """Returns once the container has ended, or the Engine is lost."""
        fate = beside.fate
        told = [asyncio.ensure_future(each.wait()) for each in (fate.ended, fate.engine_lost)]
        waiting: set[asyncio.Future[Any]] = {*told, printing}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            # Where only the connection of the events broke, or an end isn't told, the Engine knows.
            while not await first_of(fate.ended, seconds=ASK):
                state = await self._engine.state(beside.id)
                if not state["Running"]:
                    fate.exit_status = int(state["ExitCode"])
                    if state["OOMKilled"]:
                        fate.out_of_memory.set()
                    fate.ended.set()
        except RefusedError:
            beside.engine_lost = True
        finally:
            for each in told:
                each.cancel()

    def _seen(self, beside: Beside, job: Job, duration: float) -> Observation:
        fate = beside.fate
        return Observation(
            isolation="container",
            duration=duration,
            timed_out=beside.timed_out,
            out_of_memory=fate.out_of_memory.is_set(),
            engine_lost=beside.engine_lost,
            peak_memory=beside.peak_memory,
            cpu_time=beside.cpu_time,
            image=_command(job).digest,
        )

    async def _count(self, beside: Beside, job: Job) -> None:
        """Limit and follow what the kernel counts, where the Engine's machine is this one."""
        with suppress(RefusedError):
            pid = await self._engine.first_process(beside.id)
            cgroup = of_container(pid, beside.id) if pid else None
            if cgroup is None:
                return
            cgroup.limit_sockets(job.limits.memory // TCP_SHARE)
            while True:
                beside.peak_memory = cgroup.peak_memory() or beside.peak_memory
                beside.cpu_time = cgroup.cpu_time() or beside.cpu_time
                if cgroup.oom_kills():
                    beside.fate.out_of_memory.set()
                await asyncio.sleep(LOOK)

    async def _remove(self, beside: Beside) -> None:
        """Remove the container; returns once it is gone, or the Engine is."""
        with suppress(RefusedError):
            await self._engine.remove(beside.id)
            # The Engine may be at it already, and says so without waiting for it.
            await first_of(beside.fate.removed, beside.fate.engine_lost, seconds=FAREWELL)

    async def _clean_up(self, *, farewell: bool) -> None:
        """Remove both, the sidecar last: with it goes the work directory, which must not be in use any more."""
        if self._beside is not None:
            if self._beside.printout is not None:
                await self._beside.printout.close()
            await self._remove(self._beside)
            self._watch.forget(self._beside.id)
        await super()._clean_up(farewell=farewell)


def environment(job: Job) -> dict[str, str]:
    """The variables of a job's container besides those that its image sets."""
    usual = {"HOME": container.WORK, "TMPDIR": "/tmp"}  # noqa: S108 - the container's own
    own = {
        **job.environment,
        **shell_step.variables(job.inputs, shell_step.SHARED_FOLDER, secrets=bool(job.secrets)),
        "ARTIFACTS": f"{container.WORK}/artifacts",
    }
    if job.network is not None:
        own |= proxy.proxy_variables()
        if job.network.authorities:
            own |= proxy.bundle_variables(proxy.SHARED_AUTHORITIES)
    return {name: value for name, value in usual.items() if name not in _command(job).variables} | own


def _command(job: Job) -> ContainerCommand:
    assert job.container is not None
    return job.container


async def _pass_on(beside: Beside, said: Conversation) -> None:
    """Pass on what the container prints until it has ended, or its output is more than is kept."""
    assert beside.printout is not None
    async with aclosing(beside.printout.pieces()) as pieces:
        async for name, piece in pieces:
            await said.hear(name, piece)
            if said.output.truncated:
                await beside.printout.close()
                return

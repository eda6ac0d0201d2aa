"""The runner that isolates by Docker: any Engine from 20.10, local or remote, and any runtime that it has."""

import asyncio
import time
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from itertools import count
from typing import Any

from flows.contracts import Isolation
from flows.errors import RefusedError
from steps.sandbox import owner
from steps.sandbox.docker import container, guest, stream
from steps.sandbox.docker.endpoint import DockerUnavailableError, Endpoint
from steps.sandbox.docker.engine import Engine, ImageMissingError
from steps.sandbox.docker.runtime import Runtime, find
from steps.sandbox.docker.sandbox import LONGEST_JOB, READY_LIFETIME, DockerSandbox
from steps.sandbox.docker.sidecar import Sidecar
from steps.sandbox.docker.step_images import StepImages
from steps.sandbox.docker.sweeper import keep_sweeping
from steps.sandbox.docker.watch import Watch
from steps.sandbox.limits import Limits
from steps.sandbox.protocol import Enforcement, LimitUnavailableError, Profile, RuntimeUnavailableError

_CONTROLLERS = {"memory": "MemoryLimit", "cpu": "CpuCfsQuota", "pids": "PidsLimit"}
"""Limits that the Engine's machine must be able to set, by what its Engine calls that."""
FEWEST_PIDS = 16
"""What starts a container is itself a process of several threads in it."""


class DockerRunner:
    """Starts sandboxes as containers of one Engine.

    ``image`` is the reference of the guest image, None for the one that ``stepbox images build`` makes; ``runtime`` the
    container runtime by name, None for the Engine's default.
    """

    isolation: Isolation = "container"

    def __init__(self, endpoint: Endpoint, *, image: str | None = None, runtime: str | None = None) -> None:
        self._engine = Engine(endpoint)
        self._reference = image
        self._runtime = runtime
        self._owner = owner.identity()
        self._watch = Watch(self._engine, self._owner)
        self._opening = asyncio.Lock()
        self._image: guest.GuestImage | None = None
        self._names = count(1)
        self._sandboxes: set[DockerSandbox] = set()
        self._known: set[str] = set()
        self._sweeping: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self.images = StepImages(self._opened)
        """The images of steps."""

    @property
    def image(self) -> str:
        """The reference of the guest image."""
        return self._reference or guest.tag()

    @property
    def sandboxes(self) -> tuple[DockerSandbox, ...]:
        """The sandboxes that exist, ready or running."""
        return tuple(self._sandboxes)

    async def enforcement(self) -> Mapping[str, Enforcement]:
        await self._open()
        set_by_engine: dict[str, Enforcement] = {
            name: "hard" if self._engine.info.get(controller) else "missing"
            for name, controller in _CONTROLLERS.items()
        }
        if set_by_engine["pids"] == "hard" and find(self._engine.info, self._runtime).gvisor:
            set_by_engine["pids"] = "watched"
        return {"timeout": "hard", **set_by_engine, "disk": "hard", "output": "hard", "network": "hard"}

    async def refusal(self, limits: Limits, runtime: str | None = None) -> RefusedError | None:
        try:
            missing = [name for name, how in (await self.enforcement()).items() if how == "missing"]
            chosen = find(self._engine.info, runtime or self._runtime)
        except RefusedError as refused:
            return refused
        if chosen.gvisor and limits.pids != Limits().pids:
            return LimitUnavailableError(
                "gVisor doesn't count the processes of a sandbox, only what they cost the machine",
                fix="leave limits.pids out, or choose another runtime",
            )
        if missing:
            return LimitUnavailableError(
                f"the Docker Engine can't limit {', '.join(missing)} on its machine",
                fix="enable these cgroup controllers there (rootless Docker: delegate them to the user), "
                "or set STEPBOX_RUNNER=nsjail",
            )
        if limits.timeout + limits.grace > LONGEST_JOB:
            return LimitUnavailableError(
                f"a container is removed after {LONGEST_JOB / 3600:g} hours at most",
                fix="lower limits.timeout, or split the step",
            )
        return None

    async def start(self, profile: Profile) -> DockerSandbox:
        image = await self._open()
        try:
            return await self._start_from(image, profile)
        except ImageMissingError:
            # It was deleted, or built anew, since we looked.
            if self._image is image:
                self._image = None
            return await self._start_from(await self._open(), profile)

    async def _start_from(self, image: guest.GuestImage, profile: Profile) -> DockerSandbox:
        runtime = find(self._engine.info, profile.runtime or self._runtime)
        name = f"stepbox-{self._owner.rpartition('.')[2]}-{next(self._names)}"
        born = time.time()
        labels = {
            container.OWNER_LABEL: self._owner,
            container.DEADLINE_LABEL: str(int(born + READY_LIFETIME + LONGEST_JOB)),
        }
        options = container.options(
            profile,
            image=image.id,
            python=image.python,
            unset=image.variables,
            labels=labels,
            # No code runs in a sidecar.
            runtime=find(self._engine.info, None) if profile.sidecar else runtime,
            swap_unlimited=self._swap_unlimited,
        )
        created = await self._engine.create(name, options)
        self._known.add(created)
        try:
            sandbox = await self._start(created, profile, image, runtime, name=name, labels=labels)
        except BaseException:
            self._in_background(self._discard(created))
            raise
        self._sandboxes.add(sandbox)
        self._in_background(self._forget(sandbox))
        return sandbox

    async def close(self) -> None:
        await asyncio.gather(*(sandbox.close() for sandbox in self._sandboxes))
        while self._background:
            await asyncio.wait(self._background)
        if self._sweeping is not None:
            self._sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeping
            self._sweeping = None
        await self._watch.close()
        await self._engine.close()
        self._image = None

    async def command_refusal(self, limits: Limits, runtime: str | None, *, network: bool) -> RefusedError | None:
        """As :meth:`refusal`, for a container of a step's own image; ``network`` says whether it is to have one."""
        refused = await self.refusal(limits, runtime)
        if refused is not None:
            return refused
        if network and find(self._engine.info, runtime or self._runtime).gvisor:
            return RuntimeUnavailableError(
                "gVisor has a network of its own in each container, so that the proxy beside an image isn't reached",
                fix="leave `network` out, or choose another runtime",
            )
        if limits.pids < FEWEST_PIDS:
            return LimitUnavailableError(
                f"a container needs {FEWEST_PIDS} processes to start", fix=f"raise limits.pids to {FEWEST_PIDS}"
            )
        return None

    async def _opened(self) -> Engine:
        await self._open()
        return self._engine

    async def _open(self) -> guest.GuestImage:
        async with self._opening:
            if self._image is None:
                if not self._engine.is_open:
                    await self._engine.open()
                if not any("name=seccomp" in str(option) for option in self._engine.info.get("SecurityOptions") or ()):
                    raise DockerUnavailableError(
                        "the Docker Engine filters no system calls", fix="run it on a kernel with seccomp, and enabled"
                    )
                find(self._engine.info, self._runtime)
                self._image = guest.usable(self.image, await self._engine.image(self.image))
                if self._sweeping is None:
                    self._sweeping = asyncio.create_task(keep_sweeping(self._engine, self._owner, self._ids))
            return self._image

    @property
    def _swap_unlimited(self) -> bool:
        """Whether the kernel of the Engine's machine has no limit of swap."""
        info = self._engine.info
        return info.get("CgroupVersion") == "1" and not info.get("SwapLimit")

    def _ids(self) -> set[str]:
        """The containers that belong to this runner."""
        return self._known.union(*(sandbox.containers for sandbox in self._sandboxes))

    async def _start(
        self,
        created: str,
        profile: Profile,
        image: guest.GuestImage,
        runtime: Runtime,
        *,
        name: str,
        labels: Mapping[str, str],
    ) -> DockerSandbox:
        engine = self._engine
        try:
            fate = await self._watch.follow(created)
            line = await stream.attach(engine.endpoint, engine.version, created)
        except (OSError, stream.StreamError) as error:
            raise DockerUnavailableError(
                f"the connection to the Docker Engine broke: {error}", fix="look at the Engine's own log"
            ) from error
        parts: dict[str, Any] = {
            "engine": engine,
            "container": created,
            "line": line,
            "fate": fate,
            "profile": profile,
            "image": image,
            "runtime": runtime,
        }
        sandbox = (
            Sidecar(
                **parts,
                watch=self._watch,
                name=f"{name}-image",
                labels=labels,
                swap_unlimited=self._swap_unlimited,
            )
            if profile.sidecar
            else DockerSandbox(**parts)
        )
        try:
            await engine.start(created)
            await sandbox.wait_until_ready()
        except BaseException:
            await line.close()
            raise
        return sandbox

    async def _discard(self, created: str) -> None:
        """Remove a container that did not become a sandbox."""
        self._watch.forget(created)
        with suppress(RefusedError):
            await self._engine.remove(created)
        self._known.discard(created)

    async def _forget(self, sandbox: DockerSandbox) -> None:
        await sandbox.gone.wait()
        self._sandboxes.discard(sandbox)
        self._known.discard(sandbox.container)
        self._watch.forget(sandbox.container)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

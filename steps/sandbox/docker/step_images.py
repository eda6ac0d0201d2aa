"""The images of steps: found on the Engine or pulled, and what must be known of one before it is run."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import PurePosixPath
from typing import Any, Literal

from flows.errors import RefusedError
from steps.sandbox.docker import guest
from steps.sandbox.docker.engine import Engine
from steps.sandbox.docker.pull import pull
from steps.sandbox.protocol import ContainerCommand

Policy = Literal["missing", "always", "never"]
Note = Callable[[str], Awaitable[None]]

MAX_VOLUMES = 32
UNTOLD = 1.0
"""Seconds that a step waits for another's pull before it says so."""
_SYSTEM = frozenset({"proc", "sys", "dev"})
_SHARED = PurePosixPath("/work")
_OWN = frozenset(map(PurePosixPath, ("/work", "/tmp", "/dev/shm")))  # noqa: S108 - of the container


class StepImageError(RefusedError):
    """The image of a step isn't there, or can't be run."""

    code = "image_unusable"


class StepImages:
    """The images of steps on one Engine, which ``opened`` gives."""

    def __init__(self, opened: Callable[[], Awaitable[Engine]]) -> None:
        self._opened = opened
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._pulled: dict[str, str] = {}

    async def missing(self, reference: str) -> RefusedError | None:
        """The refusal of an image that isn't there; None: it is.

        Raises:
            RefusedError: the Engine doesn't answer.
        """
        return None if await (await self._opened()).image(reference) is not None else _absent(reference)

    async def get(self, reference: str, policy: Policy, *, run: str, note: Note) -> Mapping[str, Any]:
        """What the Engine tells of an image, which is pulled as the policy says: by ``always`` once a run.

        ``note`` takes a line now and then while that goes on.

        Raises:
            RefusedError: it can't be had; the message says why.
        """
        engine = await self._opened()
        lock = self._locks[reference]
        try:
            async with asyncio.timeout(UNTOLD):
                await lock.acquire()
        except TimeoutError:
            await note(f"waiting for {reference}, which another step pulls")
            await lock.acquire()
        try:
            found = await engine.image(reference)
            wanted = found is None if policy == "missing" else self._pulled.get(reference) != run
            if policy != "never" and wanted:
                async with aclosing(pull(engine, reference)) as lines:
                    async for line in lines:
                        await note(line)
                self._pulled[reference] = run
                found = await engine.image(reference)
        finally:
            lock.release()
        if found is None:
            raise _absent(reference)
        return found


def command_of(
    reference: str,
    found: Mapping[str, Any],
    *,
    script: str | None,
    entrypoint: Sequence[str] | None,
    arguments: Sequence[str] | None,
) -> ContainerCommand:
    """What a step runs of an image, from what the Engine tells of it.

    A ``script`` is for its ``/bin/sh`` and starts in the work directory. Without one, ``entrypoint`` and ``arguments``
    count as for ``docker run``, and the command starts where the image says.

    Raises:
        StepImageError: there is nothing to run, or the image asks for what no container may have.
    """
    config: Mapping[str, Any] = found["Config"]
    place = config.get("WorkingDir") or ""
    if script is not None:
        command, place = ["/bin/sh", "-e", "-c", script], ""
    elif entrypoint is not None:
        command = [*entrypoint, *(arguments or ())]
    else:
        given = config.get("Cmd") or () if arguments is None else arguments
        command = [*(config.get("Entrypoint") or ()), *given]
    if not command:
        raise StepImageError(f"{reference} has no command of its own", fix="write one under `args:`, or `run:`")
    return ContainerCommand(
        reference=reference,
        image=found["Id"],
        digest=guest.digest_of(reference, found),
        command=tuple(command),
        directory=place if place not in ("", "/") else str(_SHARED),
        stop_signal=config.get("StopSignal") or "SIGTERM",
        volumes=_volumes(reference, config.get("Volumes") or {}),
        variables=frozenset(variable.partition("=")[0] for variable in config.get("Env") or ()),
    )


def _absent(reference: str) -> StepImageError:
    return StepImageError(
        f"the Docker Engine doesn't have the image {reference}, and `pull: never` keeps it from being pulled",
        fix=f"run `docker pull {reference}`, or leave `pull` out",
    )


def _volumes(reference: str, declared: Mapping[str, Any]) -> tuple[str, ...]:
    """The directories that need a file system each, since the Engine would give them one of its disk."""
    paths = sorted({PurePosixPath(path) for path in declared} - _OWN)
    wrong = [path for path in paths if not path.parts[1:] or ".." in path.parts or path.parts[1] in _SYSTEM]
    if wrong or len(paths) > MAX_VOLUMES:
        what = f"a VOLUME at {wrong[0]}" if wrong else f"{len(paths)} VOLUMEs, more than {MAX_VOLUMES}"
        raise StepImageError(f"{reference} has {what}, which no container of a step can have", fix="use another image")
    return tuple(map(str, paths))

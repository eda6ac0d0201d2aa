"""Which runner isolates the steps of this installation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, assert_never

from flows.errors import RefusedError
from steps.sandbox.docker.endpoint import Endpoint, find
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.protocol import Runner

if TYPE_CHECKING:
    from steps.sandbox.docker.runner import DockerRunner

RunnerName = Literal["docker", "nsjail"]
RunnerSetting = Literal["auto", RunnerName]
RUNNERS: tuple[RunnerName, ...] = ("docker", "nsjail")
"""All of them, in the order in which ``auto`` prefers them."""
LOOK_TIMEOUT = 2.0
"""Seconds that a Docker Engine has to say whether it has the guest image, before `auto` does without it."""
FOUND = 200


async def choose(
    setting: RunnerSetting,
    *,
    docker: Mapping[str, str],
    image: str | None = None,
    runtime: str | None = None,
    private: Sequence[Path] = (),
) -> Runner:
    """The runner for a setting. What it needs of the machine it checks when it starts its first sandbox.

    ``docker`` holds the variables of the environment that say where the Docker Engine is; ``image`` and ``runtime`` are
    :class:`DockerRunner`'s. ``auto`` takes docker where an Engine answers and has the guest image, else nsjail; with a
    runtime, which nsjail doesn't have, it takes docker. ``private`` are directories of this machine that no code may
    see, wherever they lie; a container sees none.

    Raises:
        RefusedError: docker was asked for, and the environment names no Engine that can be reached.
    """
    match setting:
        case "nsjail":
            return NsjailRunner(private)
        case "docker":
            return _docker(find(docker), image, runtime)
        case "auto":
            if runtime is not None:
                return _docker(find(docker), image, runtime)
            endpoint = await _ready_engine(docker, image)
            return NsjailRunner(private) if endpoint is None else _docker(endpoint, image, runtime)
        case _:
            assert_never(setting)


def name_of(runner: Runner) -> RunnerName:
    """The name by which a runner is chosen."""
    return "nsjail" if isinstance(runner, NsjailRunner) else "docker"


def containers_of(runner: Runner) -> "DockerRunner | None":
    """The runner where it has containers, for images of steps; else None."""
    if isinstance(runner, NsjailRunner):
        return None
    from steps.sandbox.docker.runner import DockerRunner  # noqa: PLC0415 - brings the docker SDK, slow to import

    return runner if isinstance(runner, DockerRunner) else None


def _docker(endpoint: Endpoint, image: str | None, runtime: str | None) -> Runner:
    from steps.sandbox.docker.runner import DockerRunner  # noqa: PLC0415 - brings the docker SDK, slow to import

    return DockerRunner(endpoint, image=image, runtime=runtime)


async def _ready_engine(docker: Mapping[str, str], image: str | None) -> Endpoint | None:
    """The Engine, where it answers and has the guest image; costs nothing where there is no socket of one."""
    try:
        endpoint = find(docker)
    except RefusedError:
        return None
    if endpoint.absent:
        return None
    from steps.sandbox.docker import guest, stream  # noqa: PLC0415 - most machines have no Engine

    try:
        status, _body = await stream.ask(endpoint, f"/images/{image or guest.tag()}/json", patience=LOOK_TIMEOUT)
    except (OSError, stream.StreamError):
        return None
    return endpoint if status == FOUND else None

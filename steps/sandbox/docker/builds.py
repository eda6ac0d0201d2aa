"""Building images for steps, from Dockerfiles that nobody has reviewed, on the Engine.

What a Dockerfile runs has no network and a limit of memory. It runs as the Engine's builds do, as root in a container
of the Engine's own defaults, which is why a person is asked before.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

import docker
from docker.errors import APIError

from flows.errors import RefusedError
from steps.sandbox.docker import dockerfile, guest, stream
from steps.sandbox.docker.dockerfile import Dockerfile
from steps.sandbox.docker.engine import DockerDiskFullError, Engine
from steps.sandbox.docker.pull import pull
from steps.tools.contract import AlreadyExistsError, InvalidArgumentsError, NotFoundError, TooLargeError, ToolError

WORKSPACE_LABEL: Final = "stepbox.image.workspace"
RUN_LABEL: Final = "stepbox.image.run"
TAG_LABEL: Final = "stepbox.image.tag"
_OWN_LABELS: Final = frozenset({WORKSPACE_LABEL, RUN_LABEL, TAG_LABEL})
_OURS: Final = "stepbox."
MAX_SIZE: Final = 5_000_000_000
"""Bytes of an image."""
MAX_LOG: Final = 10_000
MAX_TOLD: Final = 2000
"""Characters of what was printed that the message of a failure has."""
LEAST_CPU: Final = 512
"""Half the share of a processor that others get where all want one."""
PERIOD: Final = 100_000
"""Microseconds. Each command has one processor of them."""
SHM: Final = 64 << 20
WATCHED_EVERY: Final = 2.0
"""Seconds between looks at what the commands have written."""
MAX_CONTAINERS: Final = 500
_STEP: Final = re.compile(r"Step (\d{1,6})/\d+ : ")
_RUNNING: Final = re.compile(r" ---> Running in ([0-9a-f]{12})\n?")
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class ImageBuildFailedError(ToolError):
    """The Dockerfile didn't come to an image; the message has the end of what it printed."""

    code = "image_build_failed"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to build.

    ``context`` packs a Dockerfile and the files beside it; ``timeout`` is in seconds, ``memory`` in bytes. ``pull``
    says whether images to start from may be pulled.
    """

    tag: str
    dockerfile: Dockerfile
    context: Callable[[str], bytes]
    build_args: Mapping[str, str]
    target: str | None
    pull: bool
    timeout: float
    memory: int
    workspace: str
    run_id: str


@dataclass(frozen=True, kw_only=True)
class Built:
    """An image. ``size`` in bytes; ``log`` is the end of what its build printed."""

    id: str
    size: int
    log: str


async def build(engine: Engine, order: Order) -> Built:
    """Build an image and give it its tag. Cancelling this ends the build, and leaves no container of it.

    Raises:
        ToolError: the tag is another's, an image to start from is missing or unfit, or the build failed.
        RefusedError: the Engine doesn't answer, or its disk is full.
    """
    try:
        async with asyncio.timeout(order.timeout):
            await _check_tag(engine, order)
            ids = {base: await _base(engine, base, pull_it=order.pull) for base in order.dockerfile.bases}
            built = await _build(engine, order, ids)
            await _tag(engine, order, built)
    except TimeoutError:
        raise ImageBuildFailedError(
            f"{order.tag} wasn't built within {order.timeout:g} s", fix="give it a longer `timeout`"
        ) from None
    return built


async def _check_tag(engine: Engine, order: Order) -> None:
    """Refuse a tag that another image has, or that the image of sandboxes will have.

    The label with the tag tells what was built here from what others made of it, which has the labels too.
    """
    if guest.NAME in order.tag.rpartition(":")[0].split("/"):
        raise InvalidArgumentsError(f"{guest.NAME} is the image of sandboxes", fix="choose another name")
    found = await engine.image(order.tag)
    labels = {} if found is None else found["Config"].get("Labels") or {}
    ours = labels.get(WORKSPACE_LABEL) == order.workspace and labels.get(TAG_LABEL) == order.tag
    if found is not None and not ours:
        raise AlreadyExistsError(
            f"the Engine has an image {order.tag} that no flow of this workspace built", fix="choose another tag"
        )


async def _base(engine: Engine, reference: str, *, pull_it: bool) -> str:
    """The id of an image to start from."""
    found = await engine.image(reference)
    if found is None and pull_it:
        async with aclosing(pull(engine, reference)) as lines:
            async for _line in lines:
                pass
        found = await engine.image(reference)
    if found is None:
        raise NotFoundError(
            f"the Docker Engine doesn't have the image {reference}",
            fix=f"run `docker pull {reference}`, or leave out pull",
        )
    for line in found["Config"].get("OnBuild") or ():
        dockerfile.check("ONBUILD", str(line).strip(), f"ONBUILD of {reference}")
    return str(found["Id"])


async def _build(engine: Engine, order: Order, ids: Mapping[str, str]) -> Built:
    """Build, within the limit of disk."""
    printout = _Printout()
    building = asyncio.ensure_future(_printed(engine, order, ids, printout))
    watching = asyncio.ensure_future(_watch(engine, printout))
    try:
        await asyncio.wait({building, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not building.done():
            watching.result()
        return await building
    finally:
        for task in (building, watching):
            task.cancel()
        await asyncio.wait({building, watching})
        for task in (building, watching):
            if not task.cancelled():
                task.exception()


async def _printed(engine: Engine, order: Order, ids: Mapping[str, str], printout: "_Printout") -> Built:
    labels = {WORKSPACE_LABEL: order.workspace, RUN_LABEL: order.run_id, TAG_LABEL: order.tag}
    query = {
        "version": "1",
        "networkmode": "none",
        "rm": "1",
        "forcerm": "1",
        "memory": order.memory,
        "memswap": order.memory,
        "cpushares": LEAST_CPU,
        "cpuperiod": PERIOD,
        "cpuquota": PERIOD,
        "shmsize": SHM,
        "ulimits": json.dumps([{"Name": "fsize", "Soft": MAX_SIZE, "Hard": MAX_SIZE}]),
        "buildargs": json.dumps(dict(order.build_args)),
        "labels": json.dumps(labels),
        **({"target": order.target} if order.target else {}),
    }
    body = order.context(order.dockerfile.text(ids))
    target = f"/v{engine.version}/build?{urlencode(query)}"
    image = None
    try:
        headers = (("Content-Type", "application/x-tar"),)
        async with aclosing(stream.told(engine.endpoint, "POST", target, *headers, body=body)) as told:
            async for item in told:
                printout.add(str(item.get("stream", "")))
                if "error" in item:
                    raise _failed(order, str(item["error"]), printout)
                image = (item.get("aux") or {}).get("ID", image)
    except stream.StreamError as error:
        raise _failed(order, str(error), printout) from None
    except OSError as error:
        raise engine.unavailable(f"build {order.tag}", error) from error
    found = None if image is None else await engine.image(str(image))
    if found is None:
        raise _failed(order, "the Docker Engine broke off", printout)
    return Built(id=str(found["Id"]), size=int(found["Size"]), log=str(printout))


async def _watch(engine: Engine, printout: "_Printout") -> None:
    """Wait until what the commands have written is more than an image may have.

    Raises:
        TooLargeError: it is.
        ImageBuildFailedError: the build names more containers than it has.
        RefusedError: the Engine doesn't answer.
    """
    written: dict[str, int] = {}
    while True:
        await asyncio.sleep(WATCHED_EVERY)
        if len(printout.containers) > MAX_CONTAINERS:
            raise ImageBuildFailedError("the build prints what looks like the Engine's own lines", fix="remove them")
        for name in tuple(printout.containers):
            written[name] = max(written.get(name, 0), await _written(engine, name))
        if sum(written.values()) > MAX_SIZE:
            raise TooLargeError(f"the build has written more than {MAX_SIZE:,} bytes", fix="write less in it")


async def _written(engine: Engine, container: str) -> int:
    """Bytes that a container has written to its file system; 0 where it is gone."""
    found = await engine.call(
        "look at a container", lambda client: client.containers(all=True, size=True, filters={"id": container})
    )
    return sum(int(each.get("SizeRw") or 0) for each in found)


async def _tag(engine: Engine, order: Order, built: Built) -> None:
    """Give an image its tag, or remove it where it may not be kept."""
    try:
        await _check_image(engine, built)
        await _check_tag(engine, order)
        name, _, tag = order.tag.rpartition(":")
        await engine.call(f"tag {order.tag}", lambda client: client.tag(built.id, name, tag, force=True))
    except BaseException:
        await asyncio.shield(_remove(engine, built.id))
        raise


async def _check_image(engine: Engine, built: Built) -> None:
    found = await engine.image(built.id)
    labels = ((found or {}).get("Config") or {}).get("Labels") or {}
    taken = sorted(name for name in labels if name.startswith(_OURS) and name not in _OWN_LABELS)
    if taken:
        raise ImageBuildFailedError(
            f"the image has the label {taken[0]}, which is Stepbox's own", fix="remove it, or start from another image"
        )
    if built.size > MAX_SIZE:
        raise TooLargeError(
            f"the image has {built.size:,} bytes, more than {MAX_SIZE:,}", fix="leave out what it doesn't need"
        )


async def _remove(engine: Engine, image: str) -> None:
    """Remove an image that nothing else is made of, or that has another tag."""

    def remove(client: docker.APIClient) -> None:
        with suppress(APIError):
            client.remove_image(image)

    with suppress(RefusedError):
        await engine.call("remove an image", remove)


def _failed(order: Order, told: str, printout: "_Printout") -> Exception:
    if "no space left on device" in told:
        return DockerDiskFullError(
            f"{order.tag} can't be built: {told}",
            fix="make room on the Engine's machine, for example by `docker system prune`",
        )
    instructions = order.dockerfile.instructions
    place = ""
    if 0 < printout.step <= len(instructions):
        at = instructions[printout.step - 1]
        place = f"line {at.line} (`{at.name} {at.value[:60]}`): "
    message = f"{order.tag} can't be built: {place}{told.strip()}\n{str(printout)[-MAX_TOLD:]}".rstrip()
    return ImageBuildFailedError(message, fix="change the Dockerfile, or its files; nothing in it has a network")


class _Printout:
    """What a build prints: its end, without what would command a terminal, and what the Engine's own lines tell.

    A command can print such lines too, so that nothing but sizes and messages goes by them.
    """

    def __init__(self) -> None:
        self._text = ""
        self.step = 0
        """The number of the instruction that the Engine is at."""
        self.containers: set[str] = set()

    def add(self, text: str) -> None:
        if (begun := _STEP.match(text)) is not None and int(begun[1]) == self.step + 1:
            self.step += 1
        if (running := _RUNNING.fullmatch(text)) is not None and len(self.containers) <= MAX_CONTAINERS:
            self.containers.add(running[1])
        self._text = (self._text + text)[-2 * MAX_LOG :]

    def __str__(self) -> str:
        return _CONTROL.sub("", _ESCAPES.sub("", self._text)).strip()[-MAX_LOG:]

"""Steps of ``image`` on images that the tests build: from the base that the Engine has, or from nothing."""

import io
import shutil
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol
from uuid import uuid4

import docker
import pytest

from flows.contracts import Asked, Awaited, Question, StepResult, Waited
from flows.masks import Masking
from flows.values import Json
from scripts.docker_engine import BASE
from steps.image import ImageStep
from steps.sandbox.docker.endpoint import Endpoint
from steps.sandbox.docker.runner import DockerRunner
from steps.sandbox.image_executor import ImageExecutor
from steps.sandbox.pool import Sandboxes
from tests.artifacts import Shelf
from tests.sandbox.conftest import until
from tests.servers import Journal

Build = Callable[..., str]


@dataclass
class Call(Journal, Shelf):
    """One attempt, as the engine would hand it over, which keeps the log."""

    inputs: Mapping[str, Json] = field(default_factory=dict)
    workspace: str = "default"
    run_id: str = "run"
    step_id: str = "step"
    attempt: int = 1
    secrets: Mapping[str, str] = field(default_factory=dict)
    mask: Masking | None = None
    lines: list[tuple[str, str]] = field(default_factory=list)

    async def log(self, stream: Literal["stdout", "stderr"], line: str) -> None:
        self.lines.append((stream, line))

    async def call_tool(self, name: str, arguments: Json) -> Json:
        raise NotImplementedError

    async def ask(self, question: Question) -> Asked:
        raise AssertionError(question.message)

    async def wait(self, awaited: Awaited) -> Waited:
        raise AssertionError(awaited)

    async def run_flow(self, name: str, inputs: Mapping[str, Json]) -> StepResult:
        raise NotImplementedError


def step(image: str, **more: Any) -> ImageStep:
    return ImageStep.model_validate({"id": "step", "image": image, **more})


def busybox() -> bytes:
    """A program that needs nothing but a kernel, and is a shell and many commands by its name."""
    path = shutil.which("busybox")
    assert path is not None, "install busybox-static"
    program = Path(path).read_bytes()
    assert b"/ld-linux" not in program[:4096], "busybox is not static: install busybox-static"
    return program


@pytest.fixture
def build(client: docker.APIClient) -> Iterator[Build]:
    """Builds an image by the lines of a Dockerfile after its FROM, with files by name; gives its reference."""
    built: list[str] = []

    def make(lines: str = "", files: Mapping[str, bytes] | None = None, *, base: str = BASE, tag: str = "") -> str:
        reference = tag or f"stepbox-test:{uuid4().hex[:12]}"
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as archive:
            for name, data in {"Dockerfile": f"FROM {base}\n{lines}\n".encode(), **(files or {})}.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(data), 0o755
                archive.addfile(entry, io.BytesIO(data))
        context.seek(0)
        told = list(
            client.build(fileobj=context, custom_context=True, tag=reference, network_mode="none", rm=True, decode=True)
        )
        assert not [item for item in told if "error" in item], told
        built.append(reference)
        return reference

    yield make
    for reference in built:
        client.remove_image(reference, force=True)


@pytest.fixture
async def executor(containers: DockerRunner, sandboxes: Sandboxes) -> ImageExecutor:
    return ImageExecutor(sandboxes, containers)


class RunImage(Protocol):
    async def __call__(self, image: str = BASE, *, call: Call | None = None, **more: Any) -> StepResult: ...


@pytest.fixture
def run_image(executor: ImageExecutor, tmp_path: Path) -> RunImage:
    """Executes one step of ``image``; further arguments are keys of the step."""

    async def run(image: str = BASE, *, call: Call | None = None, **more: Any) -> StepResult:
        call = call or Call()
        call.place = tmp_path
        return await executor.execute(step(image, **more), call)

    return run


@pytest.fixture
async def nothing_left(endpoint: Endpoint, client: docker.APIClient) -> AsyncIterator[None]:
    """Whatever the test does, no volume of it is left once its pool is closed."""
    before = volumes(client)
    yield
    await until(lambda: volumes(client) <= before)


def volumes(client: docker.APIClient) -> set[str]:
    return {volume["Name"] for volume in client.volumes()["Volumes"] or ()}


def made_of(client: docker.APIClient, image: str, *, ended: bool = True) -> list[str]:
    """The ids of the containers of an image, those that have ended included unless that is denied."""
    wanted = client.inspect_image(image)["Id"]  # type: ignore[no-untyped-call]
    return [each["Id"] for each in client.containers(all=ended) if each["ImageID"] == wanted]

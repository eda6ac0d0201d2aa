"""The sandbox suite's fixtures, over containers of a real Docker Engine."""

import io
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from uuid import uuid4

import docker
import pytest

from steps.sandbox.docker import guest
from steps.sandbox.docker.endpoint import Endpoint
from steps.sandbox.docker.runner import DockerRunner
from steps.sandbox.pool import Sandboxes
from tests.sandbox.runners import docker_endpoint

BuildImage = Callable[[str], str]


@pytest.fixture
def endpoint() -> Endpoint:
    return docker_endpoint()


@pytest.fixture
def client(endpoint: Endpoint) -> Iterator[docker.APIClient]:
    """The Engine, as anybody may speak to it."""
    made = docker.APIClient(endpoint.url)
    yield made
    made.close()


@pytest.fixture
async def containers(endpoint: Endpoint) -> AsyncIterator[DockerRunner]:
    made = DockerRunner(endpoint)
    yield made
    await made.close()


@pytest.fixture
async def sandboxes(containers: DockerRunner) -> AsyncIterator[Sandboxes]:
    pool = Sandboxes(containers)
    yield pool
    await pool.close()


@pytest.fixture
def on_the_guest(client: docker.APIClient) -> Iterator[BuildImage]:
    """Builds an image on the guest image by further lines of a Dockerfile; gives its reference."""
    built = []

    def build(lines: str) -> str:
        text = f"FROM {guest.tag()}\n{lines}\n".encode()
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as archive:
            entry = tarfile.TarInfo("Dockerfile")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
        context.seek(0)
        reference = f"stepbox-test:{uuid4().hex[:12]}"
        told = list(
            client.build(fileobj=context, custom_context=True, tag=reference, network_mode="none", rm=True, decode=True)
        )
        assert not [item for item in told if "error" in item], told
        built.append(reference)
        return reference

    yield build
    for reference in built:
        client.remove_image(reference, force=True)

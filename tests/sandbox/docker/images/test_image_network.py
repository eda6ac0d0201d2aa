"""Any image in a step, on a network of named hosts"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from flows.contracts import StepResult
from flows.values import StepStatus
from scripts.docker_engine import BASE
from steps.addresses import Endpoint
from steps.sandbox.docker.runner import DockerRunner
from steps.sandbox.image_executor import ImageExecutor
from steps.sandbox.pool import Sandboxes
from tests.sandbox.docker.images.conftest import Call, step
from tests.worlds import HOST, OTHER, World, networked

pytestmark = pytest.mark.only_runner("docker")


@pytest.fixture
async def world(sandboxes: Sandboxes, tmp_path: Path) -> AsyncIterator[World]:
    async with networked(sandboxes, tmp_path) as made:
        yield made


class Inside:
    """Runs images that may reach the world's two hosts."""

    def __init__(self, world: World, containers: DockerRunner, tmp_path: Path) -> None:
        self.world = world
        self.place = tmp_path
        self.allow = [f"{HOST}:{world.secure.port}", f"{OTHER}:{world.plain.port}"]
        (tmp_path / "authorities.pem").write_bytes(world.authorities)
        self.executor = ImageExecutor(
            world.sandboxes,
            containers,
            internal=frozenset(map(Endpoint.parse, self.allow)),
            resolver=world.names,
            ca_file=tmp_path / "authorities.pem",
        )

    async def __call__(self, code: str, call: Call, **more: Any) -> StepResult:
        job, call.place = self.world.job(code), self.place
        return await self.executor.execute(step(BASE, run=job.code, network={"allow": self.allow}, **more), call)


@pytest.fixture
def inside(world: World, containers: DockerRunner, tmp_path: Path) -> Inside:
    return Inside(world, containers, tmp_path)


PYTHON = 'python3 -c \'import json, urllib.request; print(json.load(urllib.request.urlopen("{}/x"))["hello"])\''


@pytest.mark.parametrize(
    "script",
    [
        "curl -sS SECURE/x | jq -r .hello",
        "curl -sS PLAIN/x | jq -r .hello",
        "curl -sSL SECURE/over | jq -r .hello",
        PYTHON.format("SECURE"),
        PYTHON.format("PLAIN"),
    ],
)
async def test_client_reaches_an_allowed_host(inside: Inside, script: str) -> None:
    call = Call()
    outcome = await inside(script, call)
    assert (outcome.result, outcome.error) == ("world", None)
    assert outcome.egress == len(call.decisions) == (2 if "/over" in script else 1)
    assert all(one.allowed for one in call.decisions)
    assert len(call.ends) == outcome.egress


@pytest.mark.attack(
    "an image that asks for a host that isn't allowed, with and without the proxy", "refused and recorded; no way out"
)
async def test_other_hosts_are_refused_and_recorded(inside: Inside) -> None:
    call = Call()
    outcome = await inside("curl -sS EVIL/x || curl -sS --noproxy '*' --max-time 5 https://1.1.1.1/", call)
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.FAILED, "exit_status")
    assert call.refused == ["not in network.allow of this step"]
    assert "refused: not in network.allow of this step" in outcome.stderr


@pytest.mark.attack("an image that takes the proxy's port, or serves on it", "the address is in use")
async def test_port_of_the_proxy_is_taken(inside: Inside) -> None:
    code = """
import socket
for address in ("127.0.0.1", "0.0.0.0"):
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try: line.bind((address, 17853))
    except OSError as error: print(error.strerror)
"""
    outcome = await inside(f"python3 -c '{code}'; curl -sS SECURE/x > /dev/null", Call())
    assert outcome.result == "Address already in use\nAddress already in use"


@pytest.mark.attack("an image that makes more requests than the limit", "`limit_exceeded`, code `too_many_requests`")
async def test_requests_are_counted(inside: Inside) -> None:
    outcome = await inside("for n in 1 2 3 4; do curl -sS SECURE/x; done; sleep 60", Call(), limits={"requests": 3})
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.LIMIT_EXCEEDED, "too_many_requests")


async def test_server_of_the_step_itself_is_reached_without_the_proxy(inside: Inside) -> None:
    script = (
        "python3 -m http.server 8000 --bind 127.0.0.1 2>/dev/null & sleep 1; curl -sS http://127.0.0.1:8000/ | head -1"
    )
    outcome = await inside(script, Call())
    assert (outcome.result, outcome.egress) == ("<!DOCTYPE HTML>", 0)

"""What others do to containers, images and connections while steps need them: each with its exact outcome."""

import asyncio
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import docker
import pytest

from flows.errors import RefusedError
from flows.values import StepStatus
from steps.sandbox import processes
from steps.sandbox.docker import stream
from steps.sandbox.docker.endpoint import PROBES, Endpoint
from steps.sandbox.docker.guest import GuestImageError
from steps.sandbox.docker.runner import DockerRunner
from steps.sandbox.pool import Sandboxes, profile_of
from tests.sandbox.conftest import RecordingHost, RunStep, job, told, until
from tests.sandbox.docker.conftest import BuildImage
from tests.sandbox.docker.tls import forward

ROOT = Path(__file__).parents[3]
SLEEPER = "print('on', flush=True)\nimport time; time.sleep(60)"


async def begun(run_step: RunStep, containers: DockerRunner) -> tuple[asyncio.Task[object], str]:
    """A step whose code runs, and the id of its container."""
    host = RecordingHost()
    running: asyncio.Task[object] = asyncio.create_task(run_step(SLEEPER, host=host))
    await until(lambda: host.lines)
    return running, containers.sandboxes[0].container


async def test_container_that_others_remove_is_killed(
    run_step: RunStep, containers: DockerRunner, client: docker.APIClient
) -> None:
    running, container = await begun(run_step, containers)
    await asyncio.to_thread(client.remove_container, container, force=True)
    assert told(await running) == (StepStatus.KILLED, "sandbox_lost")  # type: ignore[arg-type]


async def test_stopping_a_container_ends_it_at_once(
    run_step: RunStep, containers: DockerRunner, client: docker.APIClient
) -> None:
    """Code and image may ignore SIGTERM; the Engine would wait a minute for them."""
    running, container = await begun(run_step, containers)
    async with asyncio.timeout(30):
        await asyncio.to_thread(client.stop, container, timeout=60)
    assert told(await running) == (StepStatus.KILLED, "sandbox_lost")  # type: ignore[arg-type]


async def test_process_of_the_code_that_others_kill_is_killed(
    run_step: RunStep, containers: DockerRunner, client: docker.APIClient
) -> None:
    running, container = await begun(run_step, containers)
    first = client.inspect_container(container)["State"]["Pid"]
    os.kill(next(iter(processes.descendants(first))), signal.SIGKILL)
    assert told(await running) == (StepStatus.KILLED, "killed")  # type: ignore[arg-type]


async def test_cancelled_step_is_destroyed_at_once(
    run_step: RunStep, containers: DockerRunner, client: docker.APIClient
) -> None:
    running, container = await begun(run_step, containers)
    first = client.inspect_container(container)["State"]["Pid"]
    code = next(iter(processes.descendants(first)))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: processes.start_time(code) is None)
    await until(lambda: not client.containers(all=True, filters={"id": [container]}))


async def test_ready_container_that_others_remove_is_replaced(
    run_step: RunStep, containers: DockerRunner, sandboxes: Sandboxes, client: docker.APIClient
) -> None:
    sandboxes.expect(profile_of(job("return 1")), 1)
    await until(lambda: sandboxes.ready)
    doomed = containers.sandboxes[0]
    await asyncio.to_thread(client.remove_container, doomed.container, force=True)
    await until(lambda: not doomed.alive)
    assert (await run_step("return 1")).result == 1


async def test_image_that_is_built_anew_under_its_name_is_used(
    endpoint: Endpoint, client: docker.APIClient, on_the_guest: BuildImage
) -> None:
    first, second = on_the_guest("LABEL edition=1"), on_the_guest("LABEL edition=2")
    name = "stepbox-test-renamed"
    client.tag(first, name, "latest")
    runner = DockerRunner(endpoint, image=f"{name}:latest")
    pool = Sandboxes(runner)
    before = await pool.execute(job("return 1"), RecordingHost())
    await until(lambda: not runner.sandboxes)
    await until(lambda: not client.containers(all=True, filters={"ancestor": [first]}))
    client.remove_image(first)
    client.remove_image(f"{name}:latest")
    with pytest.raises(GuestImageError):
        await pool.execute(job("return 1"), RecordingHost())
    client.tag(second, name, "latest")
    after = await pool.execute(job("return 1"), RecordingHost())
    await pool.close()
    client.remove_image(f"{name}:latest")
    repository, _colon, tag = first.partition(":")
    client.tag(second, repository, tag)
    assert (before.result, after.result) == (1, 1)
    assert before.image != after.image


async def test_closed_runner_leaves_neither_threads_nor_descriptors(endpoint: Endpoint) -> None:
    async def round_trip() -> None:
        pool = Sandboxes(DockerRunner(endpoint))
        pool.expect(profile_of(job("return 1")), 2)
        await pool.execute(job("return 1"), RecordingHost())
        await pool.close()

    await round_trip()
    await until(lambda: not docker_threads())
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names, and no more
    for _round in range(3):
        await round_trip()
    await until(lambda: not docker_threads())
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208 - the same


def docker_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("docker")]


@pytest.fixture
async def silent(tmp_path: Path) -> AsyncIterator[Endpoint]:
    """An Engine that takes connections and never answers, as one that is stopped does."""
    writers: list[asyncio.StreamWriter] = []

    async def listen(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_unix_server(listen, tmp_path / "docker.sock")
    yield Endpoint(url=f"unix://{tmp_path}/docker.sock")
    for writer in writers:
        writer.close()
    server.close()


async def test_engine_that_never_answers_is_not_waited_for_without_end(
    silent: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "PATIENCE", 0.2)
    with pytest.raises(TimeoutError, match=r"no answer within 0\.2 s"):
        await stream.attach(silent, "1.41", "x")
    with pytest.raises(TimeoutError, match=r"no answer within 0\.2 s"):
        await anext(stream.events(silent, "1.41", {}))
    monkeypatch.setattr("steps.sandbox.docker.engine.TIMEOUT", 0.2)
    runner = DockerRunner(silent)
    with pytest.raises(RefusedError, match="does not answer") as caught:
        await runner.start(profile_of(job("return 1")))
    await runner.close()
    assert caught.value.code == "docker_unavailable"


async def test_connections_to_an_engine_far_away_are_watched_by_the_kernel(endpoint: Endpoint) -> None:
    assert endpoint.socket is not None
    async with forward(endpoint.socket, None) as port:
        reader, writer = await Endpoint(url=f"tcp://127.0.0.1:{port}").dial()
        line = writer.get_extra_info("socket")
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert {option: line.getsockopt(socket.IPPROTO_TCP, option) for option in PROBES} == PROBES
        writer.write(b"GET /_ping HTTP/1.0\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.0 200 OK\r\n"
        writer.close()


# Runs where no file and no process of the Engine's machine is known by the same name.
REMOTE = """
import asyncio, dataclasses, json, os, sys
from steps.sandbox.docker.endpoint import Endpoint
from steps.sandbox.docker.runner import DockerRunner
from steps.sandbox.limits import default_limits
from steps.sandbox.pool import Sandboxes
from steps.sandbox.protocol import Job

class Host:
    async def log(self, stream, line): pass

async def main():
    assert os.getpid() == 1 and not os.path.exists(sys.argv[2]), "this is no other machine"
    pool = Sandboxes(DockerRunner(Endpoint(url=sys.argv[1])))
    told = []
    for code in ("return 1", "import os\\nif os.fork() == 0: bytearray(b'x') * 10**9\\nimport time; time.sleep(60)"):
        limits = dataclasses.replace(default_limits("python"), memory=200_000_000)
        outcome = await pool.execute(Job(language="python", code=code, inputs={}, limits=limits), Host())
        told.append([outcome.status.value, outcome.result, outcome.peak_memory])
    await pool.close()
    print(json.dumps(told))

asyncio.run(main())
"""


async def test_engine_on_another_machine_does_everything_but_tell_the_peak(endpoint: Endpoint, tmp_path: Path) -> None:
    assert endpoint.socket is not None
    hidden = endpoint.socket.parent
    async with forward(endpoint.socket, None) as port:
        process = await asyncio.create_subprocess_exec(
            *("unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c"),
            f'mount -t tmpfs none "{hidden}" && exec "$0" -c "$1" "$2" "$3"',
            *(sys.executable, REMOTE, f"tcp://127.0.0.1:{port}", str(endpoint.socket)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
    assert out, err.decode()
    assert json.loads(out) == [["succeeded", 1, None], ["out_of_memory", None, None]]

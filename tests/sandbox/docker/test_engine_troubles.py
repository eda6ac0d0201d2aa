"""Nothing of a container outlives its owner, and whatever happens to an Engine is told."""

import asyncio
import gc
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
import pytest

from flows.errors import RefusedError
from flows.values import StepStatus
from scripts.docker_engine import EngineProcess, running_engine
from steps.sandbox import owner
from steps.sandbox.docker import container, guest
from steps.sandbox.docker.endpoint import Endpoint
from steps.sandbox.docker.engine import DockerDiskFullError, Engine
from steps.sandbox.docker.runner import DockerRunner
from steps.sandbox.docker.sweeper import sweep
from steps.sandbox.limits import default_limits
from steps.sandbox.pool import Sandboxes, profile_of
from steps.sandbox.protocol import Job
from tests.engines import engine_with_guest
from tests.sandbox.conftest import RecordingHost, until
from tests.sandbox.runners import docker_endpoint

OWNER = """
import asyncio, os
from steps.sandbox.docker.endpoint import Endpoint
from steps.sandbox.docker.runner import DockerRunner
from steps.sandbox.limits import default_limits
from steps.sandbox.pool import Sandboxes, profile_of
from steps.sandbox.protocol import Job

class Host:
    async def log(self, stream, line):
        print(line, flush=True)

async def main():
    runner = DockerRunner(Endpoint(url=os.environ["STEPBOX_TEST_DOCKER_HOST"]))
    pool = Sandboxes(runner)
    job = Job(language="shell", code="echo running; sleep 4343 & sleep 4343", inputs={}, limits=default_limits("shell"))
    running = asyncio.create_task(pool.execute(job, Host()))
    waiting = Job(language="python", code="return 1", inputs={}, limits=default_limits("python"))
    pool.expect(profile_of(waiting), 1)
    while pool.ready < 1:
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await running

asyncio.run(main())
"""


def sleeper(code: str = "print('on', flush=True)\nimport time; time.sleep(60)") -> Job:
    return Job(language="python", code=code, inputs={}, limits=default_limits("python"))


def ours(client: docker.APIClient, pid: int | None = None) -> set[str]:
    """The ids of Stepbox's containers, or of those of the Stepbox with that pid."""
    found = client.containers(all=True, filters={"label": [container.OWNER_LABEL]})
    owners = {each["Id"]: each["Labels"][container.OWNER_LABEL].split(".") for each in found}
    return {each for each, fields in owners.items() if pid is None or (len(fields) > 3 and fields[3] == str(pid))}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_killed_owner_leaves_no_container(
    endpoint: Endpoint, client: docker.APIClient, number: signal.Signals
) -> None:
    """One works and one waits when their owner ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "STEPBOX_TEST_DOCKER_HOST": endpoint.url},
    )
    assert process.stdout is not None
    assert {await process.stdout.readline() for _line in range(2)} == {b"running\n", b"ready\n"}
    made = ours(client, process.pid)
    assert len(made) == 2
    process.send_signal(number)
    await process.wait()
    await until(lambda: not ours(client) & made)


async def test_closed_pool_leaves_no_container(endpoint: Endpoint, client: docker.APIClient) -> None:
    before = ours(client, os.getpid())
    pool = Sandboxes(DockerRunner(endpoint))
    pool.expect(profile_of(sleeper()), 2)
    host = RecordingHost()
    running = asyncio.create_task(pool.execute(sleeper(), host))
    await until(lambda: host.lines and pool.ready)
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0.1)
    closing.cancel()
    await asyncio.gather(closing, running, return_exceptions=True)
    await until(lambda: not ours(client, os.getpid()) - before)


@pytest.fixture
def abandoned(client: docker.APIClient) -> Iterator[Callable[[str, int], str]]:
    """Makes a container with the labels of an owner and a deadline that doesn't end by itself; gives its id."""
    made: list[str] = []

    def make(whose: str, deadline: int) -> str:
        labels = {container.OWNER_LABEL: whose, container.DEADLINE_LABEL: str(deadline)}
        found = client.create_container(
            guest.tag(),
            ["60"],
            entrypoint=["/bin/sleep"],
            labels=labels,
            host_config=client.create_host_config(network_mode="none", init=True),
        )
        client.start(found)
        made.append(found["Id"])
        return made[-1]

    yield make
    for each in set(made) & ours(client):
        client.remove_container(each, force=True)


def dead() -> str:
    told = subprocess.run(
        [sys.executable, "-c", "from steps.sandbox import owner; print(owner.identity())"],
        check=True,
        capture_output=True,
        text=True,
    )
    return told.stdout.strip()


async def test_orphans_are_swept_at_the_start_and_others_containers_are_left_alone(
    endpoint: Endpoint, client: docker.APIClient, abandoned: Callable[[str, int], str]
) -> None:
    later, earlier = int(time.time()) + 3600, int(time.time()) - 1
    elsewhere = "abcdefabcdef.abcdefabcdef.1.1.1.1"
    orphan = abandoned(dead(), later)
    overdue = abandoned(elsewhere, earlier)
    others = {abandoned(elsewhere, later), abandoned(owner.identity(), later), abandoned("nonsense", later)}
    runner = DockerRunner(endpoint)
    await runner.enforcement()
    await until(lambda: not ours(client) & {orphan, overdue})
    await runner.close()
    assert others <= ours(client)


async def test_own_container_that_was_lost_is_swept_once_it_is_old(
    endpoint: Endpoint, client: docker.APIClient, abandoned: Callable[[str, int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, own = Engine(endpoint), owner.identity()
    await engine.open()
    lost, known = (abandoned(own, int(time.time()) + 3600) for _number in range(2))
    assert await sweep(engine, own, lambda: {known}) == []
    monkeypatch.setattr("steps.sandbox.docker.sweeper.CREATION", -10)
    assert await sweep(engine, own, lambda: {known}) == [lost]
    await engine.close()
    assert ours(client) >= {known}


@pytest.fixture
def other_engine(engine_of_these_tests: EngineProcess) -> Iterator[EngineProcess]:
    """An Engine that a test may stop, and starts again."""
    yield engine_of_these_tests
    # What the SDK left open where it couldn't connect, within the test that says so.
    gc.collect()


@pytest.fixture(scope="module")
def engine_of_these_tests() -> Iterator[EngineProcess]:
    client = docker.APIClient(docker_endpoint().url)
    with engine_with_guest(client) as made:
        client.close()
        yield made


# The SDK leaves its socket open where it can't connect.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_restarted_engine_is_a_typed_failure_and_the_next_attempt_works(
    other_engine: EngineProcess, number: signal.Signals
) -> None:
    pool = Sandboxes(DockerRunner(Endpoint(url=other_engine.host)))
    host = RecordingHost()
    running = asyncio.create_task(pool.execute(sleeper(), host))
    await until(lambda: host.lines)
    await asyncio.to_thread(other_engine.stop, number)
    outcome = await running
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.FAILED, "engine_lost")
    with pytest.raises(RefusedError) as caught:
        await pool.execute(sleeper("return 1"), RecordingHost())
    assert caught.value.code == "docker_unavailable"
    await asyncio.to_thread(other_engine.start)
    assert (await pool.execute(sleeper("return 1"), RecordingHost())).result == 1
    own = docker.APIClient(other_engine.host)
    await until(lambda: not ours(own))
    assert own.volumes()["Volumes"] in ([], None)
    assert {network["Name"] for network in own.networks()} == {"host", "none"}
    own.close()
    await pool.close()


@pytest.fixture
def full_engine(tmp_path: Path) -> Iterator[str]:
    """An Engine whose disk has no room, and whose guest image is a file."""
    data = tmp_path / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", str(data)], check=True)
    try:
        with running_engine(data) as made:
            client = docker.APIClient(made.host)
            labels = [f"LABEL {guest.IDENTITY_LABEL}={guest.identity()}", f"LABEL {guest.PYTHON_LABEL}=/python"]
            client.import_image_from_data(archive(), repository="stepbox-guest", tag=guest.identity(), changes=labels)
            client.close()
            fill(data / "filler")
            yield made.host
    finally:
        subprocess.run(["umount", "--lazy", str(data)], check=True)
        shutil.rmtree(data)


def fill(path: Path) -> None:
    """Write until there is no room left."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1 << 16)):
            pass


def archive() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as made:
        made.addfile(tarfile.TarInfo("python"))
    return data.getvalue()


async def test_full_disk_of_the_engine_is_told_with_the_fix(full_engine: str) -> None:
    runner = DockerRunner(Endpoint(url=full_engine))
    with pytest.raises(DockerDiskFullError) as caught:
        await runner.start(profile_of(sleeper()))
    await runner.close()
    assert "docker system prune" in str(caught.value.fix)


def test_nothing_is_imported_for_docker_where_it_is_not_used() -> None:
    code = "import sys, steps.sandbox.select; print(any(name in sys.modules for name in ('docker', 'h11')))"
    told: Any = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told.strip() == "False"

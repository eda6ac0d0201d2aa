"""Steps in containers of a Docker Engine, beside `docker run --rm` and llm-sandbox on the same image and Engine.

The Engine is that of ``STEPBOX_TEST_DOCKER_HOST`` (scripts/services.py starts one), else Docker's own; it must have the
guest image. llm-sandbox is installed into an environment of its own below ``.cache``.
"""

import asyncio
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import docker

from flows.errors import RefusedError
from steps.sandbox import processes
from steps.sandbox.docker import guest
from steps.sandbox.docker.endpoint import Endpoint, find
from steps.sandbox.docker.runner import DockerRunner
from steps.sandbox.pool import Sandboxes, profile_of
from tests.benchmarks.figures import Figure, Size
from tests.benchmarks.sandboxes import NAMES, TRIVIAL, Kind, job, new, ready, sustained
from tests.sandbox.conftest import RecordingHost, until

LLM_SANDBOX = "llm-sandbox[docker]==0.3.46"
ENVIRONMENT = Path(".cache/llm-sandbox")
CODE = "print(1)"
BURST = 10
CROWD = 4
LOOP_SECONDS = 6.0
SESSIONS = """
import json, sys, time
from llm_sandbox import SandboxSession
# Else the Engine would wait ten seconds for the end of each container.
WAIT = "import signal; signal.signal(signal.SIGTERM, signal.default_int_handler); signal.pause()"
image, code, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
samples = []
for _ in range(count):
    began = time.perf_counter()
    with SandboxSession(
        lang="python", image=image, keep_template=True, skip_environment_setup=True,
        runtime_configs={"network_mode": "none", "command": ["python", "-c", WAIT]},
    ) as session:
        told = session.run(code)
    assert told.stdout.strip() == "1", told
    samples.append(1000 * (time.perf_counter() - began))
print(json.dumps(samples))
"""


def endpoint() -> Endpoint:
    host = os.environ.get("STEPBOX_TEST_DOCKER_HOST")
    return Endpoint(url=host) if host else find(os.environ)


CONTAINERS = Kind(make=lambda: DockerRunner(endpoint()), key="_docker", name=", Docker")


async def measure(size: Size) -> Iterator[Figure]:
    runner = CONTAINERS.make()
    try:
        await runner.enforcement()
    except RefusedError as refused:
        print(f"containers are left out: {refused}")
        return iter(())
    finally:
        await runner.close()
    figures: list[Figure] = []
    compared: dict[str, list[Figure]] = {}
    for _round in range(size.rounds):
        # In turn, so that a noisy machine disturbs all alike.
        for figure in (
            await ready(CONTAINERS, "python", 1),
            await asyncio.to_thread(plain_runs, 1),
            await asyncio.to_thread(llm_sandbox, 1),
        ):
            compared.setdefault(figure.key, []).append(figure)
    figures += [
        replace(several[0], samples=[sample for figure in several for sample in figure.samples])
        for several in compared.values()
    ]
    for language in TRIVIAL:
        if language != "python":
            figures.append(await ready(CONTAINERS, language, size.rounds))
        figures.append(await new(CONTAINERS, language, size.rounds))
    figures += await burst(size.rounds)
    rates: list[Figure] = []
    loops: list[float] = []
    for _round in range(max(size.rounds // 2, 1)):
        rates += [figure for figure in await sustained(CONTAINERS, 1) if figure.unit == "1/s"]
        loops.append(await asyncio.to_thread(loop_rate))
    figures.append(
        Figure(
            key="sustained_docker",
            name="Python steps a second and processor, Docker",
            unit="1/s",
            samples=[sample for figure in rates for sample in figure.samples],
        )
    )
    figures.append(Figure(key="loop", name="`docker run --rm` a second and processor", unit="1/s", samples=loops))
    return iter([*figures, *await memory()])


async def burst(rounds: int) -> list[Figure]:
    """Ten trivial steps at once, ten containers being ready: what all of them wait for those, and until the last end."""
    waits, walls = [], []
    for _round in range(rounds):
        async with crowd(BURST) as pool:
            hosts = [Arrivals(time.perf_counter()) for _step in range(BURST)]
            began = time.perf_counter()
            await asyncio.gather(*(pool.execute(job("python", "print(1)\nreturn 1"), host) for host in hosts))
            walls.append(1000 * (time.perf_counter() - began))
            waits.append(1000 * max(host.first - began for host in hosts))
    return [
        Figure(
            key="burst_docker", name="burst of ten steps, Docker: until the last has begun", unit="ms", samples=waits
        ),
        Figure(
            key="burst_docker_end",
            name="burst of ten steps, Docker: until the last has ended",
            unit="ms",
            samples=walls,
        ),
    ]


class Arrivals(RecordingHost):
    """A host that knows when the first line came."""

    def __init__(self, began: float) -> None:
        super().__init__()
        self.first = began

    async def log(self, stream: object, line: str) -> None:
        self.first = time.perf_counter()


@asynccontextmanager
async def crowd(size: int) -> AsyncIterator[Sandboxes]:
    """A pool that has this many plain Python sandboxes ready."""
    pool = Sandboxes(CONTAINERS.make(), ceiling=size)
    try:
        await asyncio.gather(*(pool.execute(job("python"), RecordingHost()) for _step in range(size)))
        await until(lambda: pool.ready == size)
        yield pool
    finally:
        await pool.close()


def plain_runs(rounds: int) -> Figure:
    """The same code by `docker run --rm`, with Docker's own isolation, no network and the image's Python."""
    samples = []
    for _step in range(2 * rounds):
        began = time.perf_counter()
        docker_run()
        samples.append(1000 * (time.perf_counter() - began))
    return Figure(key="docker_run", name="`docker run --rm` of Python", unit="ms", samples=samples)


def docker_run() -> None:
    command = ["docker", "run", "--rm", "--network", "none", guest.tag(), "python3", "-I", "-c", CODE]
    done = subprocess.run(command, check=True, capture_output=True, env={**os.environ, "DOCKER_HOST": endpoint().url})
    assert done.stdout.strip() == b"1", done


def loop_rate() -> float:
    """`docker run --rm` in a loop on each processor: how many a second and processor."""
    cores = os.cpu_count() or 1
    began = time.perf_counter()

    def loop() -> int:
        count = 0
        while time.perf_counter() < began + LOOP_SECONDS:
            docker_run()
            count += 1
        return count

    with ThreadPoolExecutor(cores) as threads:
        done = sum(each.result() for each in [threads.submit(loop) for _core in range(cores)])
    return done / (time.perf_counter() - began) / cores


# It calls `python`, which the image has under its other name only.
RENAMED = f"FROM {guest.tag()}\nUSER 0:0\nRUN ln -sf $(command -v python3) /usr/local/bin/python\n"


def llm_sandbox(rounds: int) -> Figure:
    """The same code by llm-sandbox, a session of its own for each."""
    client = docker.APIClient(endpoint().url)
    list(client.build(fileobj=io.BytesIO(RENAMED.encode()), tag="stepbox-bench-llm", network_mode="none", rm=True))
    client.close()
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", LLM_SANDBOX], check=True)
    command = [str(python), "-c", SESSIONS, "stepbox-bench-llm", CODE, str(max(rounds // 2, 1))]
    environment = {**os.environ, "DOCKER_HOST": endpoint().url}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    samples = json.loads(done.stdout.splitlines()[-1])
    return Figure(key="llm_sandbox", name="llm-sandbox, a session for Python", unit="ms", samples=samples)


async def memory() -> list[Figure]:
    """What the processes of a ready container hold, shared pages counted by their share, without and with its shim."""
    figures = []
    client = docker.APIClient(endpoint().url)
    for language in TRIVIAL:
        runner = DockerRunner(endpoint())
        boxes = await asyncio.gather(*(runner.start(profile_of(job(language))) for _box in range(CROWD)))
        inside, shims = [], []
        for box in boxes:
            own, shim = held(client.inspect_container(box.container)["State"]["Pid"])
            inside.append(own)
            shims.append(own + shim)
        await runner.close()
        name = f"{NAMES[language]}, a ready container"
        figures += [
            Figure(key=f"memory_{language}_docker", name=name, unit="MB", samples=inside),
            Figure(key=f"memory_{language}_shim", name=f"{name} and its shim", unit="MB", samples=shims),
        ]
    client.close()
    return figures


def held(first: int) -> tuple[float, float]:
    """MB of a container, by its first process, and of the shim that is its parent."""
    own = sum(processes.proportional_memory(pid) for pid in (first, *processes.descendants(first)))
    parent = int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])
    return own / 1e6, processes.proportional_memory(parent) / 1e6

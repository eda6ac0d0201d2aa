"""Nothing of a sandbox outlives its step, its engine, or the next start."""

import asyncio
import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from steps.sandbox import processes
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes
from tests.sandbox.conftest import RunStep, until, user_processes

ENGINE = """
import asyncio, sys
from steps.sandbox.limits import default_limits
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes, profile_of
from steps.sandbox.protocol import Job

class Host:
    async def log(self, stream, line):
        print(line, flush=True)

async def main():
    pool = Sandboxes(NsjailRunner())
    job = Job(language="shell", code="echo running; sleep 4343 & sleep 4343", inputs={}, limits=default_limits("shell"))
    running = asyncio.create_task(pool.execute(job, Host()))
    waiting = Job(language="javascript", code="return 1", inputs={}, limits=default_limits("javascript"))
    pool.expect(profile_of(waiting), 2)
    while pool.ready < 2:
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await running

asyncio.run(main())
"""


def own_cgroups(pid: int) -> list[Path]:
    """The cgroups that the engine with this pid made."""
    started = processes.start_time(pid)
    pattern = f"*-{pid}-{started or '*'}-*"
    return [*Path("/sys/fs/cgroup").glob(f"*/stepbox/{pattern}"), *Path("/sys/fs/cgroup").glob(f"stepbox/{pattern}")]


async def test_closed_engine_leaves_no_process_and_no_cgroup(run_step: RunStep, sandboxes: Sandboxes) -> None:
    running = asyncio.create_task(run_step("import time; time.sleep(60)"))
    below = await until(lambda: user_processes(sandboxes))
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await sandboxes.close()
    assert own_cgroups(os.getpid()) == []
    # The kernel ends a namespace's processes a moment after its first one.
    assert await until(lambda: all(processes.start_time(pid) is None for pid in below))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_killed_engine_leaves_no_process_and_the_next_start_removes_its_cgroups(
    number: signal.Signals, tmp_path: Path
) -> None:
    """One sandbox works and two wait when the engine ends."""
    engine = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ENGINE),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert engine.stdout is not None
    assert {await engine.stdout.readline() for _line in range(2)} == {b"running\n", b"ready\n"}
    below = list(processes.descendants(engine.pid))
    names = [command(pid) for pid in below]
    assert (names.count("nsjail"), names.count("deno")) == (3, 2)
    cgroups = own_cgroups(engine.pid)
    assert bool(cgroups) == (os.geteuid() == 0)
    engine.send_signal(number)
    await engine.wait()
    await until(lambda: all(processes.start_time(pid) is None for pid in below))
    runner = NsjailRunner()
    await runner.enforcement()
    assert not any(path.exists() for path in cgroups)
    await runner.close()
    assert temporary_files(tmp_path) == []


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def temporary_files(of_engine: Path) -> list[Path]:
    """What engines and jails left, but for the two empty directories that nsjail keeps for each user."""
    found = [*of_engine.iterdir(), *Path("/tmp").glob("nsjail*"), *Path("/run/user").glob("nsjail*")]
    return [path for path in found if not re.fullmatch(r"nsjail\.\d+\.(root|tmp)", path.name)]


async def test_cgroups_of_a_living_engine_are_left_alone(run_step: RunStep) -> None:
    running = asyncio.create_task(run_step("import time; time.sleep(0.5); return 1"))
    other = NsjailRunner()
    await other.enforcement()
    await other.close()
    assert (await running).result == 1

"""Nothing of a sandbox outlives its step, its engine, or the next start"""

import asyncio
import os
import random
import re
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from steps.sandbox import processes
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes
from tests.sandbox.conftest import RunStep, until, user_processes

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("STEPBOX_TEST_KILLS", "8"))
"""Engines that are killed at random moments."""
LIFETIME = 1.6
"""Seconds that the engine below takes, about, from its first sandbox to its end."""
attack = pytest.mark.attack
pytestmark = pytest.mark.only_runner("nsjail")

# Says where it is; each moment goes on by itself.
ENGINE = """
import asyncio, sys
from dataclasses import replace
from steps.sandbox.limits import default_limits
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes, profile_of
from steps.sandbox.protocol import Job

CODE = {
    "shell": "echo running; (trap '' TERM; setsid sleep 300) & (sleep 300 > artifacts/x 2>&1) & tool wait; head -c 900000 /dev/zero | tr '\\\\0' x",
    "python": "import os\\nif os.fork() == 0:\\n    while True: os.write(1, b'x' * 100)\\ntools.wait()\\nreturn 'x' * 900_000",
    "javascript": "console.log('x'.repeat(50000)); await tools.wait({}); return 'x'.repeat(900000)",
}

def say(moment):
    print(moment, flush=True)

class Host:
    async def log(self, stream, line):
        if line == "running": say("running")
    async def call_tool(self, name, arguments):
        say("calling")
        await asyncio.sleep(0.15)

def job(language, code=None):
    limits = replace(default_limits(language), timeout=20.0)
    return Job(language=language, code=code or CODE[language], inputs={}, limits=limits, tools=("demo.wait",))

async def main():
    pool = Sandboxes(NsjailRunner())
    try:
        await work(pool)
    finally:
        say("closing")
        await pool.close()

async def work(pool):
    say("starting")
    for language in CODE:
        pool.expect(profile_of(job(language)), 2)
    while pool.ready < 2: await asyncio.sleep(0.005)
    say("ready")
    running = [asyncio.create_task(pool.execute(job(language), Host())) for language in CODE]
    say("taken")
    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    say("ended")
    await asyncio.wait(running)
    stopped = asyncio.create_task(pool.execute(job("python", "import time\\ntime.sleep(300)"), Host()))
    await asyncio.sleep(0.05)
    stopped.cancel()
    await asyncio.wait({stopped})
    say("cancelled")

asyncio.run(main())
"""

# Takes in every process that loses its parent, kills the engine, and waits for the end of all that are left.
REAPER = """
import ctypes, os, signal, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
number, moment, delay, code = int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4]
engine = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
said = iter(engine.stdout)
seen = [next(said).strip()]
while moment not in seen and (line := next(said, None)): seen.append(line.strip())
time.sleep(delay)
engine.send_signal(number)
print(engine.pid, flush=True)
def give_up(number, frame):
    left = open(f"/proc/self/task/{os.getpid()}/children").read().split()
    print("left:", [open(f"/proc/{pid}/cmdline").read()[:200] for pid in left], flush=True)
    for pid in left: os.kill(int(pid), signal.SIGKILL)
    sys.exit(1)
signal.signal(signal.SIGALRM, give_up)
signal.alarm(30)
try:
    while True: os.waitpid(-1, 0)
except ChildProcessError:
    print("all ended", seen, flush=True)
"""
MOMENTS = ["starting", "ready", "taken", "running", "calling", "ended", "cancelled", "closing"]


async def kill_engine(directory: Path, temporary: Path, *, number: int, moment: str, delay: float = 0) -> int:
    """Run the engine from a directory and end it; gives its pid once no process of it is left."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", REAPER, str(int(number)), moment, str(delay), ENGINE),
        cwd=directory,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(directory)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    told, errors = await process.communicate()
    assert process.returncode == 0, f"processes are left: {told.decode()} {errors.decode()}"
    assert b"all ended" in told
    return int(told.split()[0])


async def start_again() -> None:
    """What the next engine does before its first sandbox."""
    runner = NsjailRunner()
    await runner.enforcement()
    await runner.close()


def own_cgroups(pid: int) -> list[Path]:
    """The cgroups that the engine with this pid made."""
    started = processes.start_time(pid)
    pattern = f"*-{pid}-{started or '*'}-*"
    return [*Path("/sys/fs/cgroup").glob(f"*/stepbox/{pattern}"), *Path("/sys/fs/cgroup").glob(f"stepbox/{pattern}")]


def temporary_files(of_engine: Path) -> list[Path]:
    """What engines and jails left, but for the two empty directories that nsjail keeps for each user."""
    found = [*of_engine.iterdir(), *Path("/tmp").glob("nsjail*"), *Path("/run/user").glob("nsjail*")]
    return [path for path in found if not re.fullmatch(r"nsjail\.\d+\.(root|tmp)", path.name) or any(path.iterdir())]


def mounts() -> set[str]:
    """The places in which Stepbox or nsjail may mount something on the host."""
    places = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    return {place for place in places if re.match(r"/mnt|/media|/srv", place) or "nsjail" in place}


@pytest.mark.both_users
@attack(
    "the engine is killed (SIGKILL), at each moment of a sandbox's life",
    "no process, cgroup, mount or file is left after the next start",
)
@pytest.mark.parametrize("moment", MOMENTS)
async def test_engine_killed_at_each_moment_leaves_nothing(moment: str, tmp_path: Path) -> None:
    before = mounts()
    pid = await kill_engine(ROOT, tmp_path, number=signal.SIGKILL, moment=moment)
    await start_again()
    assert (own_cgroups(pid), temporary_files(tmp_path), mounts() - before) == ([], [], set())


@attack("the engine is killed (SIGKILL), at random moments", "the same")
@pytest.mark.parametrize("seed", range(KILLS))
async def test_engine_killed_at_a_random_moment_leaves_nothing(seed: int, tmp_path: Path) -> None:
    delay = random.Random(seed + int(os.environ.get("STEPBOX_TEST_SEED", "0"))).uniform(0, LIFETIME)
    pid = await kill_engine(ROOT, tmp_path, number=signal.SIGKILL, moment="starting", delay=delay)
    await start_again()
    assert (own_cgroups(pid), temporary_files(tmp_path)) == ([], [])


@pytest.mark.both_users
@attack("the engine is ended by SIGTERM or SIGINT while code runs", "the same")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_engine_ended_by_a_signal_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    pid = await kill_engine(ROOT, tmp_path, number=number, moment="running")
    await start_again()
    assert (own_cgroups(pid), temporary_files(tmp_path)) == ([], [])


@pytest.mark.skipif(os.geteuid() != 0, reason="the mounts for a private home are root's")
@attack(
    "the engine of root in a private home is killed, while it starts and while code runs", "its mounts vanish with it"
)
@pytest.mark.parametrize("moment", ["starting", "running", "closing"])
async def test_engine_killed_in_a_private_home_leaves_no_mount(moment: str, tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    for package in ("flows", "steps"):
        shutil.copytree(ROOT / package, private / package)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    before = mounts()
    namespaces = mount_namespaces()
    pid = await kill_engine(private, temporary, number=signal.SIGKILL, moment=moment)
    await start_again()
    assert (own_cgroups(pid), temporary_files(temporary), mounts() - before) == ([], [], set())
    assert [name for name in mount_namespaces() - namespaces if holds(name, private)] == []


def mount_namespaces() -> set[str]:
    found = set()
    for link in Path("/proc").glob("[0-9]*/ns/mnt"):
        with suppress(OSError):
            found.add(str(link.readlink()))
    return found


def holds(namespace: str, directory: Path) -> bool:
    """Whether something of the directory is mounted in a mount namespace."""
    for link in Path("/proc").glob("[0-9]*/ns/mnt"):
        with suppress(OSError):
            if str(link.readlink()) == namespace:
                return f"{directory}/" in (link.parents[1] / "mountinfo").read_text()
    return False


@pytest.mark.both_users
@attack("the pool is closed while code runs", "no process and no cgroup is left")
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


async def test_cgroups_of_a_living_engine_are_left_alone(run_step: RunStep) -> None:
    running = asyncio.create_task(run_step("import time; time.sleep(0.5); return 1"))
    await start_again()
    assert (await running).result == 1

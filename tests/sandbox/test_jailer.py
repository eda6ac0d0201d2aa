"""One nsjail process makes many sandboxes, which have nothing in common."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flows.errors import RefusedError
from steps.sandbox import jail, processes
from steps.sandbox.jailer import Jailer, JailerFailedError
from steps.sandbox.limits import MB, default_limits
from steps.sandbox.nsjail import IDLE_JAILERS, NsjailRunner
from steps.sandbox.pool import profile_of
from steps.sandbox.protocol import Job, Outcome, Profile
from tests.sandbox.conftest import RecordingHost, until

pytestmark = pytest.mark.only_runner("nsjail")
NAMESPACES = "import os\nreturn {name: os.readlink(f'/proc/self/ns/{name}') for name in os.listdir('/proc/self/ns')}"


@pytest.fixture
async def runner() -> AsyncIterator[NsjailRunner]:
    made = NsjailRunner()
    yield made
    await made.close()


def job(code: str) -> Job:
    return Job(language="python", code=code, inputs={}, limits=default_limits("python"))


async def execute(runner: NsjailRunner, code: str) -> tuple[Outcome, int]:
    """The outcome, and the pid of the jailer; returns when nothing of the sandbox is left."""
    sandbox = await runner.start(profile_of(job(code)))
    outcome = await sandbox.execute(job(code), RecordingHost())
    await sandbox.close()
    return outcome, sandbox.pid


def namespace(pid: int, name: str) -> str:
    return str(Path(f"/proc/{pid}/ns/{name}").readlink())


def living_children(pid: int) -> list[int]:
    return [child for child in processes.children(pid) if processes.threads(child) and not ended(child)]


def ended(pid: int) -> bool:
    """Whether the process is gone, or nobody has taken its exit status yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_each_sandbox_has_namespaces_of_its_own_and_the_jailer_of_the_last(runner: NsjailRunner) -> None:
    first, first_jailer = await execute(runner, NAMESPACES)
    outside = {name: namespace(first_jailer, name) for name in first.result}
    second, second_jailer = await execute(runner, NAMESPACES)
    assert first_jailer == second_jailer
    for outcome in (first, second):
        shared = {name for name in outside if outcome.result[name] == outside[name]}
        assert shared <= {"time", "time_for_children"}


async def test_next_sandbox_finds_no_file_and_no_process_of_the_last(runner: NsjailRunner) -> None:
    leave = "for place in ('/work', '/tmp', '/dev/shm'): open(f'{place}/left', 'w').write('x')\nimport os, time\nif os.fork() == 0: time.sleep(4444)"
    look = "import os\nreturn [os.listdir(place) for place in ('/work', '/tmp', '/dev/shm')], [name for name in os.listdir('/proc') if name.isdigit() and int(name) != os.getpid()]"
    await execute(runner, leave)
    outcome, _jailer = await execute(runner, look)
    assert outcome.result == [[["artifacts"], [], []], []]


async def test_jailer_makes_nothing_until_it_is_asked(runner: NsjailRunner) -> None:
    jailers = set()
    for _round in range(30):
        _outcome, jailer = await execute(runner, "return 1")
        jailers.add(jailer)
        assert living_children(jailer) == []
    await asyncio.sleep(0.2)
    assert [living_children(jailer) for jailer in jailers] == [[]]


async def test_killed_idle_jailer_is_replaced(runner: NsjailRunner) -> None:
    _outcome, jailer = await execute(runner, "return 1")
    os.kill(jailer, signal.SIGKILL)
    outcome, other = await execute(runner, "return 2")
    assert (outcome.result, other != jailer) == (2, True)


async def test_sandbox_whose_supervisor_died_leaves_a_jailer_that_works(runner: NsjailRunner) -> None:
    """nsjail makes its next jail at once, before anybody could stop it."""
    sandbox = await runner.start(profile_of(job("return 1")))
    supervisor = processes.children(sandbox.pid)[0]
    os.kill(supervisor, signal.SIGKILL)
    await sandbox.ended()
    await sandbox.close()
    outcome, jailer = await execute(runner, "return 3")
    assert (outcome.result, jailer) == (3, sandbox.pid)


async def test_few_idle_jailers_are_kept_and_closing_ends_them(runner: NsjailRunner) -> None:
    profiles = [
        Profile(language="shell", disk=(8 + number) * MB, memory=128 * MB) for number in range(IDLE_JAILERS + 2)
    ]
    boxes = await asyncio.gather(*(runner.start(profile) for profile in profiles))
    for box in boxes:
        await box.close()
    left = [box.pid for box in boxes if processes.start_time(box.pid) is not None]
    assert len(left) == IDLE_JAILERS
    await runner.close()
    assert [pid for pid in left if processes.start_time(pid) is not None] == []


async def test_closed_while_a_sandbox_starts_leaves_no_process(runner: NsjailRunner) -> None:
    starting = asyncio.create_task(runner.start(profile_of(job("return 1"))))
    jailers = await until(lambda: [pid for pid in processes.children(os.getpid()) if comm(pid) == "nsjail"])
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await until(lambda: all(processes.start_time(pid) is None for pid in jailers))


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


async def test_nsjail_that_makes_no_jail_is_refused_with_its_words(
    runner: NsjailRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> list[str]:
        return ["/bin/sh", "-c", "echo 'clone(flags=CLONE_NEWUSER) failed: Operation not permitted' >&2; exit 255"]

    monkeypatch.setattr(jail, "command", broken)
    with pytest.raises(RefusedError, match="CLONE_NEWUSER") as refused:
        await runner.start(profile_of(job("return 1")))
    assert refused.value.fix


async def test_program_that_is_missing_in_the_jail_is_refused_at_once(
    runner: NsjailRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = jail.command

    def without_python(*arguments: object) -> list[str]:
        command = right(*arguments)  # type: ignore[arg-type]
        return [*command[: command.index("--") + 1], "/opt/nothing"]

    monkeypatch.setattr(jail, "command", without_python)
    async with asyncio.timeout(20):
        with pytest.raises(RefusedError, match="a sandbox could not be started"):
            await runner.start(profile_of(job("return 1")))


async def test_cgroup_that_cannot_be_entered_is_refused_with_its_name(runner: NsjailRunner, tmp_path: Path) -> None:
    with pytest.raises(JailerFailedError, match=r"gone/cgroup\.procs can't be entered: No such file or directory"):
        await (await Jailer.start(["/bin/true"], [tmp_path / "gone" / "cgroup.procs"])).next_jail()

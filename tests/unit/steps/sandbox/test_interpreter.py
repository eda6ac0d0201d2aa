"""Building the environment of Python steps, from a lock with one package that needs no network."""

import asyncio
import fcntl
import os
import signal
import sys
from pathlib import Path

import pytest

from steps.sandbox import interpreter, processes
from tests.sandbox.conftest import one_package, until

WAIT = """
import asyncio, sys
from pathlib import Path
from steps.sandbox import interpreter
interpreter.LOCK, sys.prefix = Path(sys.argv[1]), sys.argv[2]
asyncio.run(interpreter.ensure(lambda message: print(message, flush=True)))
"""


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's environments are built."""
    monkeypatch.setattr(interpreter, "LOCK", one_package(tmp_path / "lock"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    share = tmp_path / "share" / "stepbox"
    share.mkdir(parents=True)
    return share


async def test_environment_is_built_once_and_found_by_all(share: Path) -> None:
    assert interpreter.find() is None
    told: list[str] = []
    places = await asyncio.gather(*(interpreter.ensure(told.append) for _number in range(2)))
    assert places[0] == places[1] == interpreter.find()
    assert (interpreter.site_packages(places[0]) / "tiny.py").exists()
    assert sum("building" in line for line in told) == 1
    assert _directories(share) == [places[0].name]


async def test_waiting_for_another_builder_can_be_interrupted(share: Path) -> None:
    place = interpreter._places()[0]
    with place.with_suffix(".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WAIT, str(interpreter.LOCK), sys.prefix),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        assert (await process.stdout.readline()).startswith(b"waiting for another process")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            await process.wait()


async def test_cancelled_build_leaves_no_process_and_no_directory(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connected = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        while await reader.read(1000):
            pass
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/simple")
    interpreter.LOCK.write_text(f"nothing_there==1 --hash=sha256:{'0' * 64}\n")
    before = set(processes.descendants(os.getpid()))
    building = asyncio.create_task(interpreter.ensure())
    async with asyncio.timeout(60):
        await connected.wait()
    pip = set(processes.descendants(os.getpid())) - before
    assert len(pip) >= 2
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    await until(lambda: all(processes.start_time(pid) is None or _is_zombie(pid) for pid in pip))
    assert _directories(share) == []
    server.close()
    await server.wait_closed()


async def test_what_killed_builders_left_is_removed_and_what_others_build_is_not(share: Path) -> None:
    place = interpreter._places()[0]
    abandoned = [share / f"{place.name}.building-a", share / "guest-old.building-b"]
    building = share / "guest-other.building-c"
    for path in (*abandoned, building):
        (path / "lib").mkdir(parents=True)
    with (share / "guest-other.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        await interpreter.ensure()
    assert not any(path.exists() for path in abandoned)
    assert building.is_dir()


async def test_nowhere_to_write_is_told(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/proc/self/nothing")
    monkeypatch.setenv("HOME", "/proc/self/nothing")
    with pytest.raises(interpreter.InterpreterError, match="can be written"):
        await interpreter.ensure()


def _directories(share: Path) -> list[str]:
    return [path.name for path in share.iterdir() if path.is_dir()]


def _is_zombie(pid: int) -> bool:
    """Whether it has ended and only its new parent hasn't taken note."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True

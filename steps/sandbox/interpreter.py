"""The environment of Python steps: requests, pandas, numpy, httpx and pyyaml, apart from Stepbox's own packages.

It is a virtual environment named by the hash of its lock and of the Python it is for, so a new lock makes a new one
and several versions of Stepbox may share a machine. It is built beside its place and renamed into it: whoever finds
it finds it whole.
"""

import asyncio
import fcntl
import hashlib
import os
import shutil
import signal
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

from flows.errors import StepboxError

LOCK = Path(__file__).with_name("guest-requirements.txt")
WAIT_INTERVAL = 0.2


class InterpreterError(StepboxError):
    """The environment of Python steps can't be built here."""

    code = "interpreter_unavailable"
    exit_status = 3


def find() -> Path | None:
    """The environment, where it has been built."""
    # Not Path.is_dir, which raises where a home is another user's.
    return next((place for place in _places() if os.path.isdir(place)), None)  # noqa: PTH112


async def ensure(progress: Callable[[str], None] = lambda _message: None) -> Path:
    """The environment, built where it wasn't; ``progress`` gets a line for each thing that takes long.

    Raises:
        InterpreterError: it can't be built; the message has pip's last words.
    """
    found = find()
    if found is not None:
        return found
    place = next((place for place in _places() if _writable(place.parent)), None)
    if place is None:
        raise InterpreterError(
            f"none of {', '.join(str(path.parent) for path in _places())} can be written, "
            "so the environment of Python steps can't be built",
            fix="run `stepbox init` once as a user who may write there",
        )
    async with _only_builder(place, progress) as lock:
        if place.is_dir():
            return place
        progress("building the environment of Python steps (requests, pandas, numpy, httpx, pyyaml)")
        await asyncio.to_thread(_remove_abandoned, place)
        await _build(place, lock)
    return place


def site_packages(environment: Path) -> Path:
    """Where the packages of an environment lie."""
    return environment / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"


def _places() -> list[Path]:
    """Where the environment may be, the best place first."""
    # The release and not the version: a micro release may change nothing that packages depend on.
    identity = f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}\n{LOCK.read_text()}"
    name = f"guest-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    data = Path(os.path.expanduser("~/.local/share"))  # noqa: PTH111 - no error where there is no home
    shares = [Path(sys.prefix) / "share", *([data] if data.is_absolute() else [])]
    return [share / "stepbox" / name for share in shares]


def _writable(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(directory, os.W_OK)


@contextmanager
def _lock_file(place: Path) -> Iterator[int]:
    """A descriptor of the file whose lock says that somebody builds this place."""
    descriptor = os.open(place.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Take the lock, unless another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@asynccontextmanager
async def _only_builder(place: Path, progress: Callable[[str], None]) -> AsyncIterator[int]:
    """Holds the lock of a place while it is built, and waits for another process that does."""
    with _lock_file(place) as descriptor:
        if not _locked(descriptor):
            progress("waiting for another process that builds the environment of Python steps")
            # A blocking wait would sit in a thread that nothing can interrupt.
            while not _locked(descriptor):  # noqa: ASYNC110 - a file's lock sends no event
                await asyncio.sleep(WAIT_INTERVAL)
        yield descriptor


def _remove_abandoned(place: Path) -> None:
    """Remove what builders left that were killed: this place's, whose lock we hold, and others' that nobody builds."""
    for abandoned in place.parent.glob("guest-*.building-*"):
        other = place.parent / abandoned.name.partition(".")[0]
        with _lock_file(other) as descriptor:
            if other == place or _locked(descriptor):
                shutil.rmtree(abandoned, ignore_errors=True)


async def _build(place: Path, lock: int) -> None:
    beside = Path(tempfile.mkdtemp(prefix=f"{place.name}.building-", dir=place.parent))
    environment, scratch = beside / "environment", beside / "tmp"
    scratch.mkdir()
    run = partial(run_tool, scratch=scratch, hold=(lock,))
    try:
        await run("make a virtual environment", sys.executable, "-m", "venv", "--without-pip", str(environment))
        await run(
            "install the packages of Python steps",
            *(sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install"),
            *("--require-hashes", "--only-binary", ":all:", "--no-deps", "--disable-pip-version-check", "--quiet"),
            *("--requirement", str(LOCK)),
        )
        os.chmod(environment, 0o755)  # noqa: PTH101, S103 - no work for a thread; read by every user's jail
        os.rename(environment, place)  # noqa: PTH104 - the same
    finally:
        await asyncio.to_thread(shutil.rmtree, beside, ignore_errors=True)


async def run_tool(purpose: str, *command: str, scratch: Path, hold: tuple[int, ...] = ()) -> None:
    """Run a command to its end, with ``scratch`` for its temporary files; ``purpose`` completes "could not …".

    It holds the descriptors of locks too: should we be killed, it is still working.

    Raises:
        InterpreterError: it failed; the message has its last words.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        pass_fds=hold,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    try:
        told, _nothing = await process.communicate()
    except asyncio.CancelledError:
        # The whole group: pip starts itself again with the other interpreter.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    if process.returncode != 0:
        raise InterpreterError(
            f"could not {purpose}: {told.decode(errors='replace').strip()[-2000:]}",
            fix="check the network and pip's settings, then try again",
        )

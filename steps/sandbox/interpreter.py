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
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.errors import StepboxError

LOCK = Path(__file__).with_name("guest-requirements.txt")


class InterpreterError(StepboxError):
    """The environment of Python steps can't be built here."""

    code = "interpreter_unavailable"
    exit_status = 3


def find() -> Path | None:
    """The environment, where it has been built."""
    return next((place for place in _places() if place.is_dir()), None)


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
    async with _only_builder(place):
        if place.is_dir():
            return place
        progress("building the environment of Python steps (requests, pandas, numpy, httpx, pyyaml)")
        await _build(place)
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
    return [Path(sys.prefix) / "share" / "stepbox" / name, data / "stepbox" / name]


def _writable(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(directory, os.W_OK)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class _only_builder:  # noqa: N801 - used as a function
    """Holds a lock beside the place while it is built; another process waits for it."""

    def __init__(self, place: Path) -> None:
        self._lock = _locked(place.with_suffix(".lock"))

    async def __aenter__(self) -> None:
        await asyncio.to_thread(self._lock.__enter__)

    async def __aexit__(self, *_exception: object) -> None:
        self._lock.__exit__(None, None, None)


async def _build(place: Path) -> None:
    for abandoned in place.parent.glob(f"{place.name}.building-*"):
        await asyncio.to_thread(shutil.rmtree, abandoned, ignore_errors=True)
    beside = Path(tempfile.mkdtemp(prefix=f"{place.name}.building-", dir=place.parent))
    try:
        await _run("make a virtual environment", sys.executable, "-m", "venv", "--without-pip", str(beside))
        await _run(
            "install the packages of Python steps",
            *(sys.executable, "-m", "pip", "--python", str(beside / "bin" / "python"), "install"),
            *("--require-hashes", "--only-binary", ":all:", "--no-deps", "--disable-pip-version-check", "--quiet"),
            *("--requirement", str(LOCK)),
        )
        os.chmod(beside, 0o755)  # noqa: PTH101, S103 - no work for a thread; read by every user's jail
        os.rename(beside, place)  # noqa: PTH104 - the same
    finally:
        await asyncio.to_thread(shutil.rmtree, beside, ignore_errors=True)


async def _run(purpose: str, *command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        told, _nothing = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise InterpreterError(
            f"could not {purpose}: {told.decode(errors='replace').strip()[-2000:]}",
            fix="check the network and pip's settings, then run `stepbox init` again",
        )

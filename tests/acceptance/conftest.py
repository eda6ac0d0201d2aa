"""Installs the built wheel into an environment of its own, outside the repository, and calls its ``stepbox``."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Queue
from typing import TypeVar

import pytest

from flows.values import Json

T = TypeVar("T")

AT_ONCE = 2
"""Commands that run beside one another."""

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command came to."""

    status: int
    stdout: str
    stderr: str

    def json(self) -> Json:
        """Standard output, which must be exactly one JSON document."""
        return json.loads(self.stdout)


@dataclass(frozen=True, kw_only=True)
class Stepbox:
    """The installed command, in a directory of its own."""

    bin: Path
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str, stdin: str = "", **environment: str) -> Outcome:
        run = subprocess.run(
            [self.bin / "stepbox", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.directory,
            env={**self.environment, **environment},
            timeout=170,
        )
        return Outcome(status=run.returncode, stdout=run.stdout, stderr=run.stderr)

    def python(self, code: str) -> Outcome:
        """Run Python code in the environment that the wheel is installed in."""
        run = subprocess.run(
            [self.bin / "python", "-c", code],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.directory,
            env=dict(self.environment),
            timeout=60,
        )
        return Outcome(status=run.returncode, stdout=run.stdout, stderr=run.stderr)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command without waiting for it, in a process group of its own."""
        return subprocess.Popen(
            [self.bin / "stepbox", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.directory,
            env=dict(self.environment),
            start_new_session=True,
        )

    def flow(self, name: str, text: str) -> str:
        """Write a flow file and give its name."""
        path = self.directory / f"{name}.yaml"
        path.write_text(f"{text.rstrip()}\n")
        return path.name


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of a new environment that has the wheel, its pinned dependencies and nothing of the repository."""
    made = tmp_path_factory.mktemp("installed")
    uv = Path(sys.executable).parent / "uv"
    python = made / "venv/bin/python"

    def call(*command: str | Path) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=made, env=clean_environment())

    call(uv, "build", "--quiet", "--wheel", "--out-dir", made / "dist", ROOT)
    (wheel,) = (made / "dist").glob("*.whl")
    call(uv, "venv", "--quiet", "--python", sys.executable, made / "venv")
    call(uv, "pip", "install", "--quiet", "--python", python, "-r", ROOT / "requirements/runtime.txt")
    call(uv, "pip", "install", "--quiet", "--python", python, "--no-deps", wheel)
    call(made / "venv/bin/stepbox", "init")
    return made / "venv" / "bin"


@pytest.fixture
def stepbox(installed: Path, tmp_path: Path) -> Stepbox:
    """The installed command with a home of its own."""
    return Stepbox(bin=installed, directory=tmp_path, environment=clean_environment())


class Warm:
    """Calls the installed command in processes that have imported it: as many at once as there are of those.

    See ``warm.py``.
    """

    def __init__(self, bin_: Path, directory: Path, *, count: int) -> None:
        command = [bin_ / "python", Path(__file__).with_name("warm.py"), directory / "home"]
        self._directory = directory
        self._servers: list[subprocess.Popen[str]] = []
        self._idle: Queue[subprocess.Popen[str]] = Queue()
        for _ in range(count):
            # One after the other: the first in a new environment compiles what it imports, for all.
            server = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean_environment()
            )
            self._servers.append(server)
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            self._idle.put(server)

    def __call__(self, directory: Path, *arguments: str, stdin: str = "", **environment: str) -> Outcome:
        server = self._idle.get()
        try:
            assert server.stdin is not None
            assert server.stdout is not None
            streams = {name: self._directory / f"{server.pid}.{name}" for name in ("stdin", "stdout", "stderr")}
            for name, path in streams.items():
                path.write_text(stdin if name == "stdin" else "", encoding="utf-8")
            call = {
                "arguments": arguments,
                "directory": str(directory),
                "environment": {**clean_environment(), **environment},
                **{name: str(path) for name, path in streams.items()},
            }
            server.stdin.write(json.dumps(call) + "\n")
            server.stdin.flush()
            status = int(server.stdout.readline())
            stdout, stderr = (streams[name].read_text(encoding="utf-8") for name in ("stdout", "stderr"))
            return Outcome(status=status, stdout=stdout, stderr=stderr)
        finally:
            self._idle.put(server)

    def close(self) -> None:
        for server in self._servers:
            with server:
                pass


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A copy of a flow of the library, with a home of its own."""

    name: str
    directory: Path
    warm: Warm

    def call(self, *arguments: str, stdin: str = "", **environment: str) -> Outcome:
        return self.warm(self.directory, *arguments, stdin=stdin, **environment)

    def run(self, *arguments: str, **environment: str) -> Outcome:
        return self.call("run", f"{self.name}.yaml", *arguments, "--output", "json", **environment)

    def shared(self, path: str) -> str:
        """A file that the flow wrote by ``files.write``."""
        return (self.directory / ".stepbox" / "shared" / path).read_text(encoding="utf-8")

    def look(self, code: str, *tools: str) -> Json:
        """What Python code says of the workspace."""
        granted = [word for tool in tools for word in ("--tool", f"workspace.{tool}")]
        outcome = self.call("exec", "-l", "python", *granted, "--output", "json", stdin=code)
        assert outcome.status == 0, outcome.stdout
        return outcome.json()["result"]

    def document(self, name: str) -> str:
        """The content of a document."""
        code = f"return tools.open_resource(sourceKind='doc', sourceId={name!r})['content']"
        return str(self.look(code, "open_resource"))

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a text that a file of the flow has once."""
        path = self.directory / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, text
        path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="session")
def warm(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """The installed command for many short runs."""
    warm = Warm(installed, tmp_path_factory.mktemp("warm"), count=AT_ONCE)
    yield warm
    warm.close()


@pytest.fixture(scope="session")
def examples(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Each flow of the library in a directory of its own, as ``stepbox init --example`` makes it."""
    root = tmp_path_factory.mktemp("examples")
    names = warm(root, "init", "--example", "list", "--output", "json").json()["examples"]

    def init(name: str) -> Path:
        (root / name).mkdir()
        made = warm(root / name, "init", "--example", name, "--output", "json")
        assert made.status == 0, made.stdout
        assert made.json()["kept"] == []
        return root / name

    return dict(zip(names, at_once(*(partial(init, name) for name in names)), strict=True))


@pytest.fixture
def trial(warm: Warm, examples: Mapping[str, Path], tmp_path: Path) -> Callable[..., Trial]:
    """Makes a copy of an example, or of what another trial left."""

    def make(name: str, copy: str = "copy", *, of: Trial | None = None) -> Trial:
        source = examples[name] if of is None else of.directory
        return Trial(name=name, directory=Path(shutil.copytree(source, tmp_path / copy)), warm=warm)

    return make


def at_once(*calls: Callable[[], T]) -> list[T]:
    """What the calls give; a few at a time."""
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        return list(pool.map(lambda call: call(), calls))


def clean_environment() -> dict[str, str]:
    """The environment without what would lead back to the repository or colour the output."""
    dropped = ("STEPBOX_", "PREFECT_", "PYTHON", "VIRTUAL_ENV", "COV_", "FORCE_COLOR", "NO_COLOR")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def interrupt(process: subprocess.Popen[str]) -> None:
    """What Ctrl-C in a terminal does to a command's process group."""
    os.killpg(process.pid, signal.SIGINT)

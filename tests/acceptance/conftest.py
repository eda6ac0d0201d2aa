"""Installs the built wheel into an environment of its own, outside the repository, and calls its ``stepbox``."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from flows.values import Json

T = TypeVar("T")

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


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A copy of a flow of the library, with a home of its own."""

    name: str
    stepbox: Stepbox

    def run(self, *arguments: str, **environment: str) -> Outcome:
        return self.stepbox("run", f"{self.name}.yaml", *arguments, "--output", "json", **environment)

    def shared(self, path: str) -> str:
        """A file that the flow wrote by ``files.write``."""
        return (self.stepbox.directory / ".stepbox" / "shared" / path).read_text(encoding="utf-8")

    def look(self, code: str, *tools: str) -> Json:
        """What Python code says of the workspace."""
        granted = [word for tool in tools for word in ("--tool", f"workspace.{tool}")]
        outcome = self.stepbox("exec", "-l", "python", *granted, "--output", "json", stdin=code)
        assert outcome.status == 0, outcome.stdout
        return outcome.json()["result"]

    def document(self, name: str) -> str:
        """The content of a document."""
        code = f"return tools.open_resource(sourceKind='doc', sourceId={name!r})['content']"
        return str(self.look(code, "open_resource"))

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a text that a file of the flow has once."""
        path = self.stepbox.directory / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, text
        path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="session")
def examples(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Each flow of the library in a directory of its own, as ``stepbox init --example`` makes it."""
    root = tmp_path_factory.mktemp("examples")
    here = Stepbox(bin=installed, directory=root, environment=clean_environment())
    names = here("init", "--example", "list", "--output", "json").json()["examples"]

    def init(name: str) -> Path:
        (root / name).mkdir()
        made = replace(here, directory=root / name)("init", "--example", name, "--output", "json")
        assert made.status == 0, made.stdout
        assert made.json()["kept"] == []
        return root / name

    return dict(zip(names, at_once(*(partial(init, name) for name in names)), strict=True))


@pytest.fixture
def trial(installed: Path, examples: Mapping[str, Path], tmp_path: Path) -> Callable[..., Trial]:
    """Makes a copy of an example, or of what another trial left."""

    def make(name: str, copy: str = "copy", *, of: Trial | None = None) -> Trial:
        source = examples[name] if of is None else of.stepbox.directory
        directory = Path(shutil.copytree(source, tmp_path / copy))
        return Trial(name=name, stepbox=Stepbox(bin=installed, directory=directory, environment=clean_environment()))

    return make


def at_once(*calls: Callable[[], T]) -> list[T]:
    """What the calls give; two at a time."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(lambda call: call(), calls))


def clean_environment() -> dict[str, str]:
    """The environment without what would lead back to the repository or colour the output."""
    dropped = ("STEPBOX_", "PREFECT_", "PYTHON", "VIRTUAL_ENV", "COV_", "FORCE_COLOR", "NO_COLOR")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def interrupt(process: subprocess.Popen[str]) -> None:
    """What Ctrl-C in a terminal does to a command's process group."""
    os.killpg(process.pid, signal.SIGINT)

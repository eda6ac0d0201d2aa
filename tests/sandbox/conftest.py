"""``run_step`` executes code in a real sandbox; the tests are what a sandbox promises."""

import asyncio
import hashlib
import os
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import pytest

from flows.contracts import WorkFile
from flows.values import Json, StepStatus
from steps.sandbox import interpreter, jail, processes
from steps.sandbox.limits import Language, default_limits
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes
from steps.sandbox.protocol import Job, Outcome, Runner
from tests.artifacts import content_of
from tests.sandbox.hostile import Rewrite, hostile_guest
from tests.sandbox.runners import RUNNERS, names_for

T = TypeVar("T")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what only an ordinary user can see to the run that ``test_users`` starts as one."""
    theirs = [item for item in items if item.get_closest_marker("ordinary_user") and os.geteuid() == 0]
    config.hook.pytest_deselected(items=theirs)
    items[:] = [item for item in items if item not in theirs]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with each runner that it is for."""
    if "runner" in metafunc.fixturenames:
        metafunc.parametrize("runner", names_for(metafunc.definition), indirect=True)


@pytest.fixture(scope="session", autouse=True)
def step_interpreter() -> None:
    """The environment of Python steps, which a fresh checkout doesn't have yet."""
    asyncio.run(interpreter.ensure())


_FILENAMES = {"python": "step.py", "javascript": "step.ts", "shell": "step"}


@dataclass
class RecordingHost:
    """A host that keeps the log and answers tool calls by plain functions."""

    tools: Mapping[str, Callable[[Any], Json]] = field(default_factory=dict)
    lines: list[tuple[str, str]] = field(default_factory=list)
    calls: list[tuple[str, Json]] = field(default_factory=list)

    async def log(self, stream: Literal["stdout", "stderr"], line: str) -> None:
        self.lines.append((stream, line))

    async def call_tool(self, name: str, arguments: Json) -> Json:
        self.calls.append((name, arguments))
        return self.tools[name](arguments)


async def until(find: Callable[[], T]) -> T:
    """What ``find`` gives once that is true; fails after a generous while."""
    async with asyncio.timeout(20):
        while not (found := find()):  # noqa: ASYNC110 - the kernel sends no event for it
            await asyncio.sleep(0.01)
    return found


def one_package(folder: Path) -> Path:
    """A lock file, with the wheel that it names beside it."""
    folder.mkdir(exist_ok=True)
    wheel = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "answer = 42\n")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    lock = folder / "lock.txt"
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock.write_text(f"tiny @ {wheel.as_uri()} --hash=sha256:{digest}\n")
    return lock


def user_processes(sandboxes: Sandboxes) -> list[int]:
    """The processes of the code in the running sandboxes, by their pids on the host."""
    runner = sandboxes.runner
    assert isinstance(runner, NsjailRunner)
    return [pid for box in runner.sandboxes for pid in list(processes.descendants(box.pid))[1:]]


def job(
    code: str,
    language: Language = "python",
    *,
    inputs: Mapping[str, Json] | None = None,
    tools: tuple[str, ...] = (),
    **limits: float,
) -> Job:
    return Job(
        language=language,
        code=code,
        inputs=inputs or {},
        limits=replace(default_limits(language), **limits),  # type: ignore[arg-type] # sizes are whole numbers
        tools=tools,
        filename=_FILENAMES[language],
    )


def told(outcome: Outcome) -> tuple[StepStatus, str | None]:
    """The status, and the code of the error where there is one."""
    return outcome.status, outcome.error.code if outcome.error else None


class RunStep(Protocol):
    async def __call__(
        self,
        code: str,
        language: Language = "python",
        *,
        inputs: Mapping[str, Json] | None = None,
        host: RecordingHost | None = None,
        **limits: float,
    ) -> Outcome: ...


@pytest.fixture
async def runner(request: pytest.FixtureRequest) -> AsyncIterator[Runner]:
    made = RUNNERS[request.param]()
    yield made
    await made.close()


@pytest.fixture
async def sandboxes(runner: Runner) -> AsyncIterator[Sandboxes]:
    pool = Sandboxes(runner)
    yield pool
    await pool.close()


@pytest.fixture
def run_step(sandboxes: Sandboxes) -> RunStep:
    async def run(
        code: str,
        language: Language = "python",
        *,
        inputs: Mapping[str, Json] | None = None,
        host: RecordingHost | None = None,
        **limits: float,
    ) -> Outcome:
        host = host or RecordingHost()
        return await sandboxes.execute(job(code, language, inputs=inputs, tools=tuple(host.tools), **limits), host)

    return run


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rewrite]:
    """Replaces the guest of jails by one that does other lines."""
    with hostile_guest(jail.GUEST) as (place, rewrite):
        monkeypatch.setattr(jail, "GUEST", place)
        yield rewrite


class Leave(Protocol):
    """Runs code that may leave artifacts; gives the outcome, and what it left by path."""

    async def __call__(
        self, code: str, language: Language = "python", *, files: tuple[WorkFile, ...] = (), **limits: float
    ) -> tuple[Outcome, dict[str, bytes]]: ...


@pytest.fixture
def leave(sandboxes: Sandboxes, tmp_path: Path) -> Leave:
    def directory() -> Path:
        return Path(tempfile.mkdtemp(dir=tmp_path))

    async def run(
        code: str, language: Language = "python", *, files: tuple[WorkFile, ...] = (), **limits: float
    ) -> tuple[Outcome, dict[str, bytes]]:
        host = RecordingHost()
        given = job(code, language, inputs=None, tools=(), **limits)
        outcome = await sandboxes.execute(replace(given, files=files, artifact_directory=directory), host)
        # What is noted on artifacts is in the log as well.
        notes = [line for line in outcome.stderr.splitlines() if "left out of the artifacts" in line]
        assert [line for stream, line in host.lines if "left out of the artifacts" in line] == notes
        return outcome, {file.path: content_of(file) for file in outcome.artifacts}

    return run


@pytest.fixture
def host() -> RecordingHost:
    return RecordingHost()

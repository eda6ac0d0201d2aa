"""``run_step`` executes code in a real sandbox; the tests are what a sandbox promises."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import pytest

from flows.values import Json
from steps.sandbox.limits import Language, default_limits
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes
from steps.sandbox.protocol import Job, Outcome

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
async def sandboxes() -> AsyncIterator[Sandboxes]:
    pool = Sandboxes(NsjailRunner())
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
        job = Job(
            language=language,
            code=code,
            inputs=inputs or {},
            limits=replace(default_limits(language), **limits),  # type: ignore[arg-type] # sizes are whole numbers
            tools=tuple(host.tools),
            filename=_FILENAMES[language],
        )
        return await sandboxes.execute(job, host)

    return run


@pytest.fixture
def host() -> RecordingHost:
    return RecordingHost()

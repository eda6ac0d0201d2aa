"""Steps as their YAML says them"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from flows.contracts import Asked, Awaited, Question, StepResult, Waited
from flows.errors import RefusedError
from flows.masks import Masking
from flows.values import Json, StepStatus
from steps.code import JavaScriptStep, PythonStep, ShellStep
from steps.sandbox.executor import CodeExecutor
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes
from steps.sandbox.protocol import Runner
from steps.sandbox.select import choose
from tests.artifacts import Shelf
from tests.sandbox.conftest import until
from tests.servers import Journal


@dataclass
class Call(Journal, Shelf):
    """One attempt, as the engine would hand it over."""

    inputs: Mapping[str, Json] = field(default_factory=dict)
    workspace: str = "default"
    run_id: str = "run"
    step_id: str = "step"
    attempt: int = 1
    secrets: Mapping[str, str] = field(default_factory=dict)
    mask: Masking | None = None

    async def log(self, stream: Literal["stdout", "stderr"], line: str) -> None: ...

    async def call_tool(self, name: str, arguments: Json) -> Json:
        return [name, arguments]

    async def ask(self, question: Question) -> Asked:
        raise AssertionError(question.message)

    async def wait(self, awaited: Awaited) -> Waited:
        raise AssertionError(awaited)

    async def run_flow(self, name: str, inputs: Mapping[str, Json]) -> StepResult:
        raise NotImplementedError


@pytest.fixture
def executor(sandboxes: Sandboxes) -> CodeExecutor:
    return CodeExecutor(sandboxes)


def python(code: str, **more: Any) -> PythonStep:
    return PythonStep.model_validate({"id": "step", "python": code, **more})


@pytest.mark.every_runner
async def test_step_gives_its_result_and_what_it_took(executor: CodeExecutor, runner: Runner) -> None:
    step = python("print('x')\nreturn [inputs, tools.echo(a=1)]", tools=["demo.echo"])
    result = await executor.execute(step, Call(inputs={"n": 1}))
    assert result.result == [{"n": 1}, ["demo.echo", {"a": 1}]]
    assert (result.status, result.isolation, result.tool_calls) == (StepStatus.SUCCEEDED, runner.isolation, 1)
    assert (result.stdout, result.stderr) == ("x\n", "")
    assert result.duration > 0


@pytest.mark.every_runner
@pytest.mark.parametrize(
    "step",
    [
        JavaScriptStep.model_validate({"id": "step", "javascript": "return 2 as number"}),
        ShellStep.model_validate({"id": "step", "shell": "echo 2 > $RESULT"}),
    ],
)
async def test_other_languages_run_too(executor: CodeExecutor, step: JavaScriptStep | ShellStep) -> None:
    assert (await executor.execute(step, Call())).result == 2


@pytest.mark.every_runner
@pytest.mark.both_users
@pytest.mark.parametrize(
    ("limits", "code", "status"),
    [
        ({"timeout": "200ms"}, "while True: pass", StepStatus.TIMED_OUT),
        ({"memory": "64MB"}, "import time\nhoard = bytearray(100_000_000)\ntime.sleep(20)", StepStatus.OUT_OF_MEMORY),
        ({"memory": "512MB"}, "return len(bytearray(b'x') * 300_000_000)", StepStatus.SUCCEEDED),
        ({"disk": "1MB"}, "open('x', 'wb').write(bytes(2_000_000))", StepStatus.FAILED),
        ({"disk": "128MB"}, "open('x', 'wb').write(bytes(100_000_000))", StepStatus.SUCCEEDED),
        ({"pids": 1}, "import os\nos.fork()", StepStatus.FAILED),
        ({"tool_calls": 0}, "tools.echo()", StepStatus.LIMIT_EXCEEDED),
    ],
)
async def test_declared_limits_hold(
    executor: CodeExecutor, limits: dict[str, Json], code: str, status: StepStatus
) -> None:
    result = await executor.execute(python(code, limits=limits, tools=["demo.echo"]), Call())
    assert (result.status, result.error) == (status, result.error)


@pytest.mark.attack(
    "code of exactly 100,000 bytes, and one byte more",
    "it runs; `limit_exceeded`, code `code_too_large`",
    group="Time, disk, processor and sizes",
)
async def test_code_of_exactly_the_limit_runs_and_one_byte_more_does_not(executor: CodeExecutor) -> None:
    fits = "return 1" + "#" * (100_000 - 8)
    assert (await executor.execute(python(fits), Call())).result == 1
    beyond = await executor.execute(python(fits + "#"), Call())
    assert beyond.error is not None
    assert (beyond.status, beyond.error.code) == (StepStatus.LIMIT_EXCEEDED, "code_too_large")


async def test_the_whole_network_is_given_but_for_what_is_internal(executor: CodeExecutor) -> None:
    code = "import urllib.request\nurllib.request.urlopen('https://localhost/')"
    host = Call()
    result = await executor.execute(python(code, network="full"), host)
    assert result.egress == 1
    assert "not on the public Internet" in result.stderr


async def test_a_network_of_listed_hosts_is_given(executor: CodeExecutor) -> None:
    assert await executor.refusal(python("return 1", network={"allow": ["example.com"]})) is None


async def test_an_empty_allowlist_is_no_network_at_all(executor: CodeExecutor) -> None:
    assert await executor.refusal(python("return 1", network={"allow": []})) is None


@pytest.mark.parametrize(
    ("code", "status"), [("return {'total': 1.5}", StepStatus.SUCCEEDED), ("return {'total': 'x'}", StepStatus.FAILED)]
)
async def test_result_is_checked_against_returns(executor: CodeExecutor, code: str, status: StepStatus) -> None:
    schema = {"type": "object", "properties": {"total": {"type": "number"}}}
    result = await executor.execute(python(code, returns=schema), Call())
    assert result.status is status
    if result.error is not None:
        assert result.error.code == "result_schema"
        assert result.error.message.startswith("result.total: ")


@pytest.mark.parametrize(
    ("block", "code"),
    [
        ("dependencies = ['pandas>=1', 'requests']", None),
        ("requires-python = '>=3.11'", None),
        ("dependencies = ['torch']", "missing_dependency"),
        ("dependencies = ['pandas<1']", "missing_dependency"),
        ("dependencies = ['torch; python_version < \"3\"']", None),
        ("requires-python = '<3.11'", "missing_dependency"),
        ("dependencies = ['not a requirement!']", "invalid_script_block"),
        ("dependencies = 5", "invalid_script_block"),
        ("no toml", "invalid_script_block"),
    ],
)
async def test_script_block_is_checked(executor: CodeExecutor, block: str, code: str | None) -> None:
    step = python(f"x = 1\n# /// script\n# {block}\n# ///\nreturn 1")
    result = await executor.execute(step, Call())
    assert (result.error.code if result.error else None) == code
    if result.error is not None:
        assert result.error.line == 2


@pytest.mark.every_runner
async def test_expected_steps_find_ready_sandboxes(executor: CodeExecutor, sandboxes: Sandboxes) -> None:
    executor.expect(python("return 1"), 2)
    assert await until(lambda: sandboxes.ready == 2)
    assert (await executor.execute(python("return 1"), Call())).result == 1
    assert sandboxes.ready == 1


@pytest.mark.ordinary_user
async def test_part_of_a_processor_is_refused_without_cgroups(executor: CodeExecutor) -> None:
    with pytest.raises(RefusedError, match="can't be enforced without cgroups"):
        await executor.execute(python("return 1", limits={"cpu": 0.5}), Call())


async def test_without_an_engine_auto_is_the_jail(tmp_path: Path) -> None:
    nowhere = {"DOCKER_HOST": f"unix://{tmp_path}/none"}
    assert isinstance(await choose("auto", docker=nowhere), NsjailRunner)
    assert (await choose("docker", docker=nowhere)).isolation == "container"


@pytest.mark.both_users
async def test_enforcement_tells_how_each_limit_holds() -> None:
    runner = NsjailRunner()
    told = await runner.enforcement()
    await runner.close()
    assert set(told) == {"timeout", "memory", "cpu", "pids", "disk", "output", "network"}
    assert "missing" not in told.values()
    assert (told["memory"] == "hard") == (os.geteuid() == 0)


async def test_step_takes_and_leaves_artifacts(executor: CodeExecutor, tmp_path: Path) -> None:
    call = Call(place=tmp_path, earlier={"make/in.txt": b"given"})
    step = python("open('artifacts/out.txt', 'w').write(open('make/in.txt').read().upper())", files=["make/in.txt"])
    result = await executor.execute(step, call)
    assert (result.error, call.kept) == (None, {"out.txt": b"GIVEN"})
    assert [one.path for one in result.artifacts] == ["out.txt"]


async def test_artifacts_of_a_step_whose_result_is_wrong_are_kept(executor: CodeExecutor, tmp_path: Path) -> None:
    call = Call(place=tmp_path)
    step = python("open('artifacts/x', 'w').write('x')\nreturn 1", returns={"type": "string"})
    result = await executor.execute(step, call)
    assert (result.status, [one.path for one in result.artifacts]) == (StepStatus.FAILED, ["x"])


async def test_limit_of_artifacts_is_the_steps(executor: CodeExecutor, tmp_path: Path) -> None:
    code = "open('artifacts/x', 'w').write('x' * 11)"
    fits = await executor.execute(python(code, limits={"artifacts": "11B"}), Call(place=tmp_path))
    beyond = await executor.execute(python(code, limits={"artifacts": "10B"}), Call(place=tmp_path))
    assert (fits.status, beyond.status) == (StepStatus.SUCCEEDED, StepStatus.LIMIT_EXCEEDED)
    assert beyond.error is not None
    assert beyond.error.code == "artifacts_too_large"

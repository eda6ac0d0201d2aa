"""Other container runtimes: the core of the suite under gVisor, and refusal where one isn't there."""

import asyncio
import errno
from collections.abc import AsyncIterator
from dataclasses import replace

import docker
import pytest

from flows.errors import RefusedError
from flows.values import StepStatus
from steps.code import PythonStep
from steps.sandbox.docker.endpoint import Endpoint
from steps.sandbox.docker.runner import DockerRunner
from steps.sandbox.executor import CodeExecutor
from steps.sandbox.limits import Language, default_limits
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes, profile_of
from steps.sandbox.protocol import Job, LimitUnavailableError, RuntimeUnavailableError
from tests.sandbox.conftest import RecordingHost, RunStep, until


@pytest.fixture
async def containers(endpoint: Endpoint) -> AsyncIterator[DockerRunner]:
    """Containers under gVisor."""
    made = DockerRunner(endpoint, runtime="runsc")
    yield made
    await made.close()


async def test_kernel_is_gvisors_own(run_step: RunStep) -> None:
    outcome = await run_step("dmesg | grep -c gVisor", "shell")
    assert (outcome.status, outcome.result) == (StepStatus.SUCCEEDED, "1")


@pytest.mark.parametrize(
    ("language", "code", "result"),
    [
        ("python", "import pandas\nreturn inputs['n'] + int(pandas.Series([1, 2]).sum())", 44),
        ("javascript", "return inputs.n + 1", 42),
        ("shell", "echo $((INPUT_N + 1)) > $RESULT", 42),
    ],
)
async def test_each_language_gives_its_result(run_step: RunStep, language: Language, code: str, result: int) -> None:
    outcome = await run_step(code, language, inputs={"n": 41})
    assert (outcome.result, outcome.isolation) == (result, "container")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("while True: pass", StepStatus.TIMED_OUT),
        ("bytearray(b'x') * 1_000_000_000", StepStatus.OUT_OF_MEMORY),
        ("open('big', 'wb').write(bytes(70_000_000))", StepStatus.FAILED),
        ("return 'x' * 2_000_000", StepStatus.LIMIT_EXCEEDED),
    ],
)
async def test_limit_ends_the_step_as_it_does_elsewhere(run_step: RunStep, code: str, status: StepStatus) -> None:
    assert (await run_step(code, timeout=5, grace=0.3)).status is status


async def test_fork_bomb_is_contained(run_step: RunStep) -> None:
    code = """
import os
while True:
    try: os.fork()
    except OSError: pass
"""
    outcome = await run_step(code, timeout=10)
    assert outcome.status in (StepStatus.OUT_OF_MEMORY, StepStatus.TIMED_OUT, StepStatus.KILLED)


async def test_as_many_processes_as_the_limit_says_are_there(run_step: RunStep) -> None:
    code = """
import os
for _ in range(60):
    if os.fork() == 0:
        os.read(os.pipe()[0], 1)
return "done"
"""
    assert (await run_step(code, memory=400_000_000)).result == "done"


@pytest.mark.parametrize("address", ["1.1.1.1", "169.254.169.254"])
async def test_no_network_is_reachable(run_step: RunStep, address: str) -> None:
    code = f"import socket\ntry: socket.create_connection(('{address}', 80), 5)\nexcept OSError as error: return error.errno"
    assert (await run_step(code)).result in (errno.ENETUNREACH, errno.EHOSTUNREACH)


async def test_root_is_read_only_and_nobody_is_root(run_step: RunStep) -> None:
    code = "id -u; grep -c '^none / 9p ro' /proc/mounts; grep -c '^Cap.*0000000000000000' /proc/self/status"
    outcome = await run_step(code, "shell")
    assert outcome.result.splitlines() == ["1000", "1", "4"]


async def test_supervisor_can_not_be_traced(run_step: RunStep) -> None:
    outcome = await run_step("import ctypes\nreturn ctypes.CDLL(None).ptrace(16, 1, 0, 0)")
    assert outcome.result == -1


async def test_code_that_kills_the_supervisor_loses_its_own_sandbox_and_nothing_else(run_step: RunStep) -> None:
    """Linux protects the first process of a namespace from those in it, gVisor doesn't."""
    outcome = await run_step("import os; os.kill(1, 9)\nreturn 1")
    assert outcome.status is StepStatus.KILLED


async def test_tools_are_called_through_gvisor(run_step: RunStep) -> None:
    host = RecordingHost(tools={"demo.echo": lambda arguments: arguments})
    assert (await run_step("return tools.echo({'a': 1})", host=host)).result == {"a": 1}
    assert (await run_step("tool echo '{\"a\": 1}'", "shell", host=host)).result == '{"a":1}'


async def test_cancelled_step_leaves_no_container(
    run_step: RunStep, containers: DockerRunner, client: docker.APIClient
) -> None:
    host = RecordingHost()
    running = asyncio.create_task(run_step("print('on', flush=True)\nwhile True: pass", host=host))
    await until(lambda: host.lines)
    ids = [sandbox.container for sandbox in containers.sandboxes]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await until(lambda: not client.containers(all=True, filters={"id": ids}))


async def test_number_of_processes_that_gvisor_can_not_count_is_refused(containers: DockerRunner) -> None:
    limits = default_limits("python")
    assert await containers.refusal(limits) is None
    assert isinstance(await containers.refusal(replace(limits, pids=10)), LimitUnavailableError)
    assert (await containers.enforcement())["pids"] == "watched"


async def test_runtime_that_is_not_there_is_refused_and_nothing_else_taken(endpoint: Endpoint) -> None:
    runner = DockerRunner(endpoint, runtime="kata")
    refused = await runner.refusal(default_limits("python"))
    assert isinstance(refused, RuntimeUnavailableError)
    assert "runsc" in str(refused.fix)
    job = Job(language="python", code="return 1", inputs={}, limits=default_limits("python"))
    with pytest.raises(RefusedError, match="no runtime 'kata'"):
        await runner.start(profile_of(job))
    await runner.close()


def python(code: str, runtime: str | None) -> PythonStep:
    return PythonStep.model_validate({"id": "code", "python": code, **({"runtime": runtime} if runtime else {})})


async def test_step_chooses_its_own_runtime(endpoint: Endpoint) -> None:
    pool = Sandboxes(DockerRunner(endpoint))
    executor = CodeExecutor(pool)
    assert isinstance(await executor.refusal(python("return 1", "kata")), RuntimeUnavailableError)
    assert await executor.refusal(python("return 1", "runsc")) is None
    code = "import platform; return platform.release()"
    kernels = []
    for runtime in (None, "runsc"):
        job = Job(language="python", code=code, inputs={}, limits=default_limits("python"), runtime=runtime)
        kernels.append((await pool.execute(job, RecordingHost())).result)
    await pool.close()
    assert kernels[1] == "4.4.0"
    assert kernels[0] != kernels[1]


async def test_jail_refuses_any_runtime() -> None:
    refused = await CodeExecutor(Sandboxes(NsjailRunner())).refusal(python("return 1", "runsc"))
    assert isinstance(refused, RuntimeUnavailableError)

"""What every runner must do for the pool, whatever it isolates with."""

import asyncio
from dataclasses import replace

import pytest

from flows.values import StepStatus
from steps.sandbox.limits import Language, default_limits
from steps.sandbox.pool import profile_of
from steps.sandbox.protocol import Job, Runner, SandboxLostError
from tests.sandbox.conftest import RecordingHost

CODE: dict[Language, str] = {"python": "return 1", "javascript": "return 1", "shell": "echo 1 > $RESULT"}


def job(language: Language = "python", code: str | None = None) -> Job:
    return Job(language=language, code=code or CODE[language], inputs={}, limits=default_limits(language))


@pytest.mark.parametrize("language", ["python", "javascript", "shell"])
async def test_sandbox_takes_one_job_and_is_gone(runner: Runner, language: Language) -> None:
    sandbox = await runner.start(profile_of(job(language)))
    before = sandbox.alive
    outcome = await sandbox.execute(job(language), RecordingHost())
    assert (outcome.status, outcome.result, outcome.isolation) == (StepStatus.SUCCEEDED, 1, runner.isolation)
    assert (before, sandbox.alive) == (True, False)
    await sandbox.close()
    await sandbox.ended()


async def test_unused_sandbox_can_be_closed_twice(runner: Runner) -> None:
    sandbox = await runner.start(profile_of(job()))
    await sandbox.close()
    await sandbox.close()
    assert not sandbox.alive
    with pytest.raises((SandboxLostError, RuntimeError)):
        await sandbox.execute(job(), RecordingHost())


async def test_sandboxes_run_side_by_side(runner: Runner) -> None:
    boxes = await asyncio.gather(*(runner.start(profile_of(job())) for _number in range(4)))
    jobs = [job(code=f"return {number}") for number in range(4)]
    outcomes = await asyncio.gather(
        *(box.execute(each, RecordingHost()) for box, each in zip(boxes, jobs, strict=True))
    )
    assert [outcome.result for outcome in outcomes] == [0, 1, 2, 3]


async def test_environment_of_the_job_reaches_the_code(runner: Runner) -> None:
    asked = replace(job(code="import os\nreturn os.environ['GREETING']"), environment={"GREETING": "hello"})
    sandbox = await runner.start(profile_of(asked))
    assert (await sandbox.execute(asked, RecordingHost())).result == "hello"


async def test_every_limit_is_told(runner: Runner) -> None:
    names = {"timeout", "memory", "cpu", "pids", "disk", "output", "network"}
    assert set(await runner.enforcement()) == names


async def test_closed_runner_leaves_no_sandbox(runner: Runner) -> None:
    sandbox = await runner.start(profile_of(job()))
    await runner.close()
    assert not sandbox.alive

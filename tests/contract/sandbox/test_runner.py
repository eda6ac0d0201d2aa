"""What every runner must do for the pool, whatever it isolates with."""

import asyncio
from dataclasses import replace

import pytest

from flows.values import StepStatus
from steps.addresses import Endpoint
from steps.allowlist import Allowlist
from steps.sandbox.limits import Language, default_limits
from steps.sandbox.pool import profile_of
from steps.sandbox.protocol import Job, Network, Runner, SandboxLostError
from tests.sandbox.conftest import RecordingHost, until
from tests.servers import Journal, local, site

pytestmark = pytest.mark.every_runner
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


NETWORKED: dict[Language, str] = {
    "python": "import urllib.request\nreturn urllib.request.urlopen('URL').read().decode()",
    "javascript": "return await (await fetch('URL')).text()",
    "shell": "curl -sS URL",
}


@pytest.mark.parametrize("language", ["python", "javascript", "shell"])
async def test_the_host_makes_the_requests_of_the_code(runner: Runner, language: Language) -> None:
    async with site() as server:
        server.answer("/x", b"hello")
        entry = f"api.example.com:{server.port}"
        network = Network(
            allow=Allowlist((entry,)), internal=frozenset({Endpoint.parse(entry)}), resolver=local("api.example.com")
        )
        journal = Journal()
        code = NETWORKED[language].replace("URL", f"http://{entry}/x")
        asked = replace(job(language, code), network=network, journal=journal)
        sandbox = await runner.start(profile_of(asked))
        outcome = await sandbox.execute(asked, RecordingHost())
    assert (outcome.result, outcome.error, outcome.egress) == ("hello", None, 1)
    assert [(one.host, one.address, one.allowed) for one in journal.decisions] == [
        ("api.example.com", "127.0.0.1", True)
    ]


async def test_every_limit_is_told(runner: Runner) -> None:
    names = {"timeout", "memory", "cpu", "pids", "disk", "output", "network"}
    assert set(await runner.enforcement()) == names


async def test_closed_runner_leaves_no_sandbox(runner: Runner) -> None:
    sandbox = await runner.start(profile_of(job()))
    await runner.close()
    assert not sandbox.alive


async def test_closed_runner_may_be_used_again(runner: Runner) -> None:
    for _time in range(2):
        sandbox = await runner.start(profile_of(job()))
        assert (await sandbox.execute(job(), RecordingHost())).result == 1
        await runner.close()


async def test_cancelled_job_leaves_no_sandbox(runner: Runner) -> None:
    sandbox = await runner.start(profile_of(job()))
    host = RecordingHost()
    running = asyncio.create_task(sandbox.execute(job(code="print('on', flush=True)\nwhile True: pass"), host))
    await until(lambda: host.lines)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await sandbox.close()
    await sandbox.ended()
    assert not sandbox.alive


async def test_limits_of_the_job_hold_whatever_the_sandbox_was_started_with(runner: Runner) -> None:
    tight = job(code="return len(bytearray(b'x') * 80_000_000)")
    tight = replace(tight, limits=replace(tight.limits, memory=60_000_000))
    sandbox = await runner.start(profile_of(tight))
    outcome = await sandbox.execute(tight, RecordingHost())
    assert outcome.status is StepStatus.OUT_OF_MEMORY


async def test_peak_memory_and_processor_time_are_told(runner: Runner) -> None:
    busy = job(code="import time\nwhile time.process_time() < 0.3: pass")
    sandbox = await runner.start(profile_of(busy))
    outcome = await sandbox.execute(busy, RecordingHost())
    assert outcome.peak_memory is not None
    assert outcome.cpu_time is not None
    assert outcome.peak_memory > 1_000_000
    assert 0.2 < outcome.cpu_time < 5

"""Time, disk, processor and sizes"""

import asyncio
import os
import signal
import time

import pytest

from flows.values import StepStatus
from steps.sandbox import processes
from steps.sandbox.limits import MB, Language
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes, profile_of
from tests.sandbox.conftest import RecordingHost, RunStep, job, told, until, user_processes

attack = pytest.mark.attack
pytestmark = pytest.mark.every_runner
FOREVER = {"python": "while True: pass", "javascript": "for (;;);", "shell": "while :; do :; done"}


@pytest.mark.both_users
@attack("infinite loop", "`timed_out`")
@pytest.mark.parametrize("language", ["python", "javascript", "shell"])
async def test_infinite_loop_is_timed_out(run_step: RunStep, language: Language) -> None:
    outcome = await run_step(FOREVER[language], language, timeout=0.3, grace=0.3)
    assert told(outcome) == (StepStatus.TIMED_OUT, "timed_out")


@pytest.mark.both_users
@attack("ignore SIGTERM", "`timed_out`, killed after the grace")
@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"),
        ("shell", "trap '' TERM; while :; do sleep 1; done"),
    ],
)
async def test_code_that_ignores_sigterm_is_killed_after_the_grace(
    run_step: RunStep, language: Language, code: str
) -> None:
    started = time.monotonic()
    outcome = await run_step(code, language, timeout=0.3, grace=0.3)
    assert told(outcome) == (StepStatus.TIMED_OUT, "timed_out")
    assert time.monotonic() - started < 20


@attack("block without a loop: regular expressions, `Atomics.wait`, a FIFO, a child that is waited for", "`timed_out`")
@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "import re\nre.match('(a+)+$', 'a' * 64 + 'b')"),
        ("python", "import os\nos.mkfifo('pipe')\nopen('pipe')"),
        ("python", "return 10 ** 10 ** 8"),
        ("javascript", "return /^(a+)+$/.test('a'.repeat(64) + 'b')"),
        ("javascript", "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)"),
        ("javascript", "for (;;) await null"),
        ("shell", "sh -c 'sleep 60'"),
    ],
)
async def test_what_blocks_is_timed_out(run_step: RunStep, language: Language, code: str) -> None:
    outcome = await run_step(code, language, timeout=0.3, grace=0.2)
    assert told(outcome) == (StepStatus.TIMED_OUT, "timed_out")


async def test_code_may_clean_up_within_the_grace(run_step: RunStep) -> None:
    code = "trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done"
    outcome = await run_step(code, "shell", timeout=0.3, grace=5)
    assert outcome.status is StepStatus.TIMED_OUT
    assert outcome.stdout == "bye\n"


@pytest.mark.both_users
@attack("fill `/work`, `/tmp`, `/dev/shm`", "`failed`, code `disk_full`")
@pytest.mark.parametrize(
    ("language", "place"),
    [("python", "/work"), ("python", "/tmp"), ("python", "/dev/shm"), ("shell", "/work"), ("shell", "/tmp")],
)
async def test_full_disk_is_the_codes_own_error(run_step: RunStep, language: Language, place: str) -> None:
    code = {
        "python": f"with open('{place}/big', 'wb') as file:\n    while True: file.write(bytes(1_000_000))",
        "shell": f"head -c 1000000000 /dev/zero > {place}/big",
    }
    outcome = await run_step(code[language], language, disk=8 * MB)
    assert told(outcome) == (StepStatus.FAILED, "disk_full")
    assert outcome.error is not None
    assert "limits.disk" in (outcome.error.fix or "")


async def test_a_caught_full_disk_is_no_failure(run_step: RunStep) -> None:
    code = """
try:
    open("big", "wb").write(bytes(20_000_000))
except OSError as error:
    return error.errno
"""
    outcome = await run_step(code, disk=8 * MB)
    assert outcome.result == 28


@pytest.mark.both_users
@attack("fill the inodes of `/work`, `/tmp`, `/dev/shm`", "`failed`, code `disk_full`")
@pytest.mark.parametrize("place", ["/work", "/tmp", "/dev/shm"])
async def test_inodes_run_out_before_memory_does(run_step: RunStep, place: str) -> None:
    outcome = await run_step(f"for number in range(100_000): open(f'{place}/{{number}}', 'w').close()")
    assert told(outcome) == (StepStatus.FAILED, "disk_full")


@pytest.mark.both_users
@attack("a result of exactly the limit, and one byte more", "it fits; `limit_exceeded`, code `result_too_large`")
@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "return 'x' * {size}"),
        ("javascript", "return 'x'.repeat({size})"),
        ("shell", "(printf '\"'; head -c {size} /dev/zero | tr '\\0' x; printf '\"') > $RESULT"),
    ],
)
async def test_result_of_exactly_the_limit_fits_and_one_more_does_not(
    run_step: RunStep, language: Language, code: str
) -> None:
    fits = await run_step(code.format(size=1_000_000 - 2), language)
    assert told(fits) == (StepStatus.SUCCEEDED, None)
    assert len(fits.result) == 1_000_000 - 2
    beyond = await run_step(code.format(size=1_000_000 - 1), language)
    assert told(beyond) == (StepStatus.LIMIT_EXCEEDED, "result_too_large")
    assert "artifacts" in (beyond.error.fix or "").lower() if beyond.error else False


async def test_shell_output_too_large_for_a_result_is_refused(run_step: RunStep) -> None:
    outcome = await run_step("head -c 1100000 /dev/zero | tr '\\0' x", "shell")
    assert told(outcome) == (StepStatus.LIMIT_EXCEEDED, "result_too_large")


@attack("more tool calls than the limit", "`limit_exceeded`, code `too_many_tool_calls`; none beyond is made")
async def test_tool_calls_beyond_the_limit_end_the_step(run_step: RunStep) -> None:
    host = RecordingHost(tools={"demo.echo": lambda arguments: arguments})
    outcome = await run_step(
        "while True:\n    try: tools.echo({})\n    except Exception: pass", host=host, tool_calls=3
    )
    assert told(outcome) == (StepStatus.LIMIT_EXCEEDED, "too_many_tool_calls")
    assert (outcome.tool_calls, len(host.calls)) == (3, 3)


async def test_inputs_larger_than_the_disk_are_told(run_step: RunStep) -> None:
    outcome = await run_step("true", "shell", inputs={"text": "x" * 3_000_000}, disk=2 * MB)
    assert told(outcome) == (StepStatus.FAILED, "disk_full")


async def test_inputs_that_cannot_be_sent_are_told(run_step: RunStep) -> None:
    outcome = await run_step("return 1", inputs={"number": float("nan")})
    assert told(outcome) == (StepStatus.FAILED, "inputs_unusable")


@pytest.mark.both_users
@attack("use more processors than the limit", "the code is slowed down")
async def test_cpu_limit_holds(run_step: RunStep) -> None:
    code = """
import os, time
end = time.monotonic() + 1.5
for _process in range(3):
    if os.fork() == 0:
        while time.monotonic() < end: pass
        os._exit(0)
while time.monotonic() < end: pass
for _process in range(3): os.wait()
return sum(os.times()[:4])
"""
    outcome = await run_step(code)
    assert outcome.error is None
    assert outcome.result < 1.5 * 1.4
    assert outcome.cpu_time is not None


@pytest.mark.both_users
@pytest.mark.only_runner("nsjail")
async def test_process_killed_from_outside_is_killed(run_step: RunStep, sandboxes: Sandboxes) -> None:
    running = asyncio.create_task(run_step("import time; time.sleep(60)"))
    code = (await until(lambda: user_processes(sandboxes)))[0]
    os.kill(code, signal.SIGKILL)
    assert told(await running) == (StepStatus.KILLED, "killed")


@pytest.mark.both_users
@pytest.mark.only_runner("nsjail")
async def test_sandbox_killed_from_outside_is_killed(run_step: RunStep, sandboxes: Sandboxes) -> None:
    running = asyncio.create_task(run_step("import time; time.sleep(60)"))
    await until(lambda: user_processes(sandboxes))
    kill_all(sandboxes)
    assert told(await running) == (StepStatus.KILLED, "sandbox_lost")


@pytest.mark.both_users
@pytest.mark.only_runner("nsjail")
async def test_cancelled_step_is_destroyed_at_once(run_step: RunStep, sandboxes: Sandboxes) -> None:
    running = asyncio.create_task(run_step("import time; time.sleep(60)"))
    code = (await until(lambda: user_processes(sandboxes)))[0]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: processes.start_time(code) is None)


@pytest.mark.only_runner("nsjail")
async def test_sandbox_that_dies_while_it_waits_is_replaced(run_step: RunStep, sandboxes: Sandboxes) -> None:
    sandboxes.expect(profile_of(job("return 1")), 1)
    await until(lambda: sandboxes.ready)
    runner = sandboxes.runner
    assert isinstance(runner, NsjailRunner)
    doomed = [pid for box in runner.sandboxes for pid in processes.descendants(box.pid)]
    kill_all(sandboxes)
    await until(lambda: all(processes.start_time(pid) is None for pid in doomed))
    outcome = await run_step("return 1")
    assert outcome.result == 1


def kill_all(sandboxes: Sandboxes) -> None:
    runner = sandboxes.runner
    assert isinstance(runner, NsjailRunner)
    for box in runner.sandboxes:
        os.kill(box.pid, signal.SIGKILL)

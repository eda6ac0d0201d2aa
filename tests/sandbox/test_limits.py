"""Every limit and every outcome, against real sandboxes."""

import asyncio
import os
import signal
import time

import pytest

from flows.values import StepStatus
from steps.sandbox import processes
from steps.sandbox.limits import MB, Language, default_limits
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes, profile_of
from steps.sandbox.protocol import Job, Outcome
from tests.sandbox.conftest import RecordingHost, RunStep, until, user_processes

FOREVER = {"python": "while True: pass", "javascript": "for (;;);", "shell": "while :; do :; done"}


def told(outcome: Outcome) -> tuple[StepStatus, str | None]:
    return outcome.status, outcome.error.code if outcome.error else None


@pytest.mark.parametrize("language", ["python", "javascript", "shell"])
async def test_infinite_loop_is_timed_out(run_step: RunStep, language: Language) -> None:
    outcome = await run_step(FOREVER[language], language, timeout=0.3, grace=0.3)
    assert told(outcome) == (StepStatus.TIMED_OUT, "timed_out")


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


async def test_code_may_clean_up_within_the_grace(run_step: RunStep) -> None:
    code = "trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done"
    outcome = await run_step(code, "shell", timeout=0.3, grace=5)
    assert outcome.status is StepStatus.TIMED_OUT
    assert outcome.stdout == "bye\n"


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "hoard = []\nwhile True: hoard.append('x' * 1_000_000 + str(len(hoard)))"),
        ("python", "return len(bytearray(10**10))"),
        ("javascript", "const hoard = []; for (;;) hoard.push({ n: hoard.length, m: [1.5, 2.5] });"),
        ("javascript", "const hoard = []; for (;;) hoard.push(new Uint8Array(1e6).fill(7));"),
        ("shell", 'x=aaaaaaaaaaaaaaaa; while :; do x="$x$x"; done'),
    ],
)
async def test_memory_bomb_is_out_of_memory(run_step: RunStep, language: Language, code: str) -> None:
    outcome = await run_step(code, language)
    assert told(outcome) == (StepStatus.OUT_OF_MEMORY, "out_of_memory")


async def test_memory_bomb_across_many_processes_is_out_of_memory(run_step: RunStep) -> None:
    code = """
import os, time
for _ in range(10):
    if os.fork() == 0:
        hoard = os.urandom(30_000_000)
        time.sleep(300)
time.sleep(300)
"""
    # A timeout behind that of the test: the job ends because the host notices.
    outcome = await run_step(code, timeout=300)
    assert told(outcome) == (StepStatus.OUT_OF_MEMORY, "out_of_memory")


async def test_memory_bomb_in_the_grace_ends_the_grace(run_step: RunStep) -> None:
    code = """
import os, signal, time
def hoard(number, frame):
    if os.fork() == 0:
        bytearray(b'x') * 400_000_000
    time.sleep(300)
signal.signal(signal.SIGTERM, hoard)
time.sleep(300)
"""
    outcome = await run_step(code, timeout=0.3, grace=300)
    assert told(outcome) == (StepStatus.OUT_OF_MEMORY, "out_of_memory")


async def test_memory_within_the_limit_is_there(run_step: RunStep) -> None:
    outcome = await run_step("return len(bytearray(b'x') * 200_000_000)")
    assert outcome.result == 200_000_000


async def test_fork_bomb_is_contained(run_step: RunStep) -> None:
    code = """
import os, time
if os.fork() == 0:
    while True:
        try: os.fork()
        except OSError: pass
time.sleep(0.5)
return "alive"
"""
    outcome = await run_step(code)
    assert (outcome.result, outcome.error) == ("alive", None)


async def test_process_limit_fails_the_fork_of_the_code_itself(run_step: RunStep) -> None:
    code = """
import os
count = 0
try:
    while True:
        if os.fork() == 0:
            os.read(os.pipe()[0], 1)
        count += 1
except BlockingIOError:
    return count
"""
    outcome = await run_step(code, pids=10)
    assert outcome.result == 9


async def test_orphans_are_reaped_and_do_not_count_for_ever(run_step: RunStep) -> None:
    code = """
import os, time
for _ in range(60):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.wait()
    time.sleep(0.005)
return "done"
"""
    outcome = await run_step(code, pids=10)
    assert (outcome.result, outcome.error) == ("done", None)


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


async def test_inodes_run_out_before_memory_does(run_step: RunStep) -> None:
    outcome = await run_step("for number in range(100_000): open(f'{number}', 'w').close()")
    assert told(outcome) == (StepStatus.FAILED, "disk_full")


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "for number in range(100_000): print('x' * 100)\nreturn 1"),
        ("python", "import sys\nsys.stderr.write('x' * 5_000_000)\nreturn 1"),
        ("javascript", "for (let n = 0; n < 20000; n++) console.log('x'.repeat(100)); return 1"),
    ],
)
async def test_output_beyond_the_limit_is_dropped_and_marked(run_step: RunStep, language: Language, code: str) -> None:
    outcome = await run_step(code, language)
    assert told(outcome) == (StepStatus.SUCCEEDED, None)
    assert outcome.truncated
    text = outcome.stdout + outcome.stderr
    assert text.endswith("[output beyond 1000000 bytes is dropped]\n")
    assert len(text) < 1_000_100


async def test_endless_line_is_cut_into_lines(run_step: RunStep, host: RecordingHost) -> None:
    await run_step("print('x' * 40_000, end='')", host=host)
    assert [len(line) for _stream, line in host.lines] == [16_384, 16_384, 40_000 - 2 * 16_384]


async def test_invalid_utf8_is_replaced(run_step: RunStep, host: RecordingHost) -> None:
    outcome = await run_step("printf 'a\\xffb\\n' >&2", "shell", host=host)
    assert host.lines == [("stderr", "a\ufffdb")]
    assert outcome.stderr == "a\ufffdb\n"


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


async def test_cpu_limit_holds(run_step: RunStep) -> None:
    code = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        while True: pass
end = time.monotonic() + 1.5
while time.monotonic() < end: pass
"""
    outcome = await run_step(code)
    assert outcome.status is StepStatus.SUCCEEDED
    assert outcome.cpu_time is not None
    assert outcome.cpu_time < 1.5 * 1.4


async def test_process_killed_from_outside_is_killed(run_step: RunStep, sandboxes: Sandboxes) -> None:
    running = asyncio.create_task(run_step("import time; time.sleep(60)"))
    code = (await until(lambda: user_processes(sandboxes)))[0]
    os.kill(code, signal.SIGKILL)
    assert told(await running) == (StepStatus.KILLED, "killed")


async def test_sandbox_killed_from_outside_is_killed(run_step: RunStep, sandboxes: Sandboxes) -> None:
    running = asyncio.create_task(run_step("import time; time.sleep(60)"))
    await until(lambda: user_processes(sandboxes))
    kill_all(sandboxes)
    assert told(await running) == (StepStatus.KILLED, "sandbox_lost")


async def test_cancelled_step_is_destroyed_at_once(run_step: RunStep, sandboxes: Sandboxes) -> None:
    running = asyncio.create_task(run_step("import time; time.sleep(60)"))
    code = (await until(lambda: user_processes(sandboxes)))[0]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: processes.start_time(code) is None)


async def test_sandbox_that_dies_while_it_waits_is_replaced(run_step: RunStep, sandboxes: Sandboxes) -> None:
    job = Job(language="python", code="return 1", inputs={}, limits=default_limits("python"))
    sandboxes.expect(profile_of(job), 1)
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

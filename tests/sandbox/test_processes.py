"""Processes and signals"""

import random
from contextlib import suppress
from pathlib import Path

import pytest

from flows.values import StepStatus
from steps.sandbox.limits import Language
from steps.sandbox.protocol import Runner
from tests.sandbox.conftest import RecordingHost, RunStep, told, until
from tests.sandbox.snippets import FORGE, SYSCALL

attack = pytest.mark.attack
pytestmark = pytest.mark.every_runner


def command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_text())
    return found


@pytest.mark.both_users
@attack(
    "see processes of the host, of other sandboxes, or the supervisor",
    "the code's own are all there is; in a container process 1 too",
)
async def test_only_own_processes_are_visible(run_step: RunStep, runner: Runner) -> None:
    outcome = await run_step(
        "import os\nreturn [name for name in os.listdir('/proc') if name.isdigit() and int(name) != os.getpid()]"
    )
    assert outcome.result == ([] if runner.isolation == "jail" else ["1"])


@pytest.mark.both_users
@attack(
    "read the supervisor's memory, descriptors, environment; raise its badness",
    "`/proc/1` is not there; in a container `EACCES`",
)
async def test_supervisor_is_out_of_reach(run_step: RunStep, runner: Runner) -> None:
    code = """
import errno, os
def failure(path):
    try: return os.open(path, os.O_RDWR if path.endswith("adj") else os.O_RDONLY)
    except OSError as error: return errno.errorcode[error.errno]
parts = ["mem", "fd/0", "fd/1", "environ", "exe", "root", "cwd", "maps", "task/1/mem", "oom_score_adj", "ns/mnt"]
return sorted({failure(f"/proc/1/{part}") for part in parts})
"""
    outcome = await run_step(code)
    assert outcome.result == (["ENOENT"] if runner.isolation == "jail" else ["EACCES"])


@pytest.mark.both_users
@attack("take the supervisor's descriptors through a pidfd", "`EPERM`")
async def test_pidfd_of_the_supervisor_gives_nothing(run_step: RunStep) -> None:
    code = f"{SYSCALL}\npid = os.pidfd_open(1)\nreturn [call(438, pid, descriptor, 0) for descriptor in range(3)]"
    assert (await run_step(code)).result == ["EPERM"] * 3


@pytest.mark.both_users
@attack("set the supervisor's limits, so that it dies or can't work", "`EPERM`")
async def test_limits_of_the_supervisor_can_not_be_changed(run_step: RunStep) -> None:
    code = f"""{SYSCALL}
import resource
limits = (ctypes.c_ulong * 2)(0, 0)
tries = [call(302, 1, limit, limits, 0) for limit in range(16)]
for _line in range(1000): print("x" * 1000)
return tries
"""
    outcome = await run_step(code)
    assert (outcome.result, outcome.error) == (["EPERM"] * 16, None)


@pytest.mark.both_users
@attack("send each of the 64 signals to the supervisor, by `kill`, `tgkill` and a pidfd", "it goes on")
async def test_signals_do_not_reach_the_supervisor(run_step: RunStep) -> None:
    code = f"""{SYSCALL}
import signal
pid = os.pidfd_open(1)
for number in range(1, 65):
    call(62, 1, number)
    call(234, 1, 1, number)
    call(424, pid, number, 0, 0)
return "still here"
"""
    outcome = await run_step(code)
    assert (outcome.result, outcome.error) == ("still here", None)


@pytest.mark.both_users
@attack("`kill -9 -1`", "the code ends itself: `killed`")
async def test_kill_everything_ends_only_the_code(run_step: RunStep) -> None:
    outcome = await run_step("kill -9 -1; sleep 60", "shell")
    assert told(outcome) in ((StepStatus.KILLED, "killed"), (StepStatus.FAILED, "exit_status"))


@attack("stop itself (SIGSTOP), so that SIGTERM is not delivered", "`timed_out`, killed after the grace")
async def test_stopped_process_is_killed_after_the_grace(run_step: RunStep) -> None:
    outcome = await run_step("kill -STOP $$", "shell", timeout=0.3, grace=0.3)
    assert told(outcome) == (StepStatus.TIMED_OUT, "timed_out")


@pytest.mark.both_users
@attack("fork bomb", "`fork` fails in the code; the step goes on and returns")
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


@pytest.mark.both_users
@attack("start more processes than the limit", "`EAGAIN` for the one beyond")
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


@pytest.mark.both_users
@attack("start more threads than the limit", "the thread beyond can't be started")
async def test_threads_count_as_processes(run_step: RunStep) -> None:
    code = """
import threading
gate, count = threading.Event(), 0
try:
    while True:
        threading.Thread(target=gate.wait, daemon=True).start()
        count += 1
except RuntimeError:
    return count
"""
    outcome = await run_step(code, pids=10)
    assert outcome.result == 9


@pytest.mark.both_users
@attack("use up the process limit by zombies", "orphans are reaped")
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


@attack(
    "make children of the supervisor (`CLONE_PARENT`), untraced ones and such without an exit signal",
    "reaped; the step goes on",
)
async def test_children_given_to_the_supervisor_are_reaped(run_step: RunStep) -> None:
    code = f"""{SYSCALL}
import time
for flags in (0x8000 | 17, 0x00800000 | 17, 0x2000 | 17, 0x8000, 0):
    for _child in range(20):
        if call(56, flags, 0, 0, 0, 0) == 0:
            os._exit(7)
        try:
            while os.waitpid(-1, os.WNOHANG | 0x40000000)[0]: pass
        except ChildProcessError: pass
        time.sleep(0.002)
return "done"
"""
    outcome = await run_step(code, pids=20)
    assert (outcome.result, outcome.error) == ("done", None)


@pytest.mark.both_users
@attack("leave a daemon behind: `setsid`, `nohup`, double fork", "it is gone when the step has ended")
async def test_daemon_is_gone_when_the_step_ends(run_step: RunStep) -> None:
    seconds = random.randrange(10**6, 10**9)
    outcome = await run_step(f"(setsid nohup sleep {seconds} > /dev/null 2>&1 &); echo done", "shell")
    assert outcome.result == "done"
    # The kernel ends a namespace's processes a moment after its first one.
    await until(lambda: f"sleep\0{seconds}\0" not in command_lines())


FLOODING_CHILDREN = """
import os
for _child in range(8):
    if os.fork() == 0:
        while True:
            for descriptor in (1, 2, *range(3, 20)):
                try: os.write(descriptor, b"x" * 4096)
                except OSError: pass
"""


@attack(
    "outlive the result, and flood output and channel from many children",
    "the step ends at once with its result, or its violation",
)
@pytest.mark.parametrize("end", ["return 'done'", "os._exit(0)"])
async def test_children_that_flood_after_the_end_do_not_hold_it_up(run_step: RunStep, end: str) -> None:
    outcome = await run_step(f"{FLOODING_CHILDREN}\n{end}", timeout=60)
    assert told(outcome) in {
        (StepStatus.SUCCEEDED, None),
        (StepStatus.FAILED, "no_result"),
        (StepStatus.FAILED, "channel_violation"),
    }


@attack("send the result, then hang", "`timed_out`: a result counts once the code has ended")
async def test_result_before_the_end_of_the_process_does_not_count(run_step: RunStep) -> None:
    code = f"{FORGE}\nforge(frame({{'kind': 'result'}}, b'1'))\nimport time\ntime.sleep(60)"
    outcome = await run_step(code, timeout=0.5, grace=0.2)
    assert (told(outcome), outcome.result) == ((StepStatus.TIMED_OUT, "timed_out"), None)


@attack("go on in threads, `atexit`, `__del__` after the result", "the process ends with its result")
async def test_nothing_goes_on_after_the_result(run_step: RunStep) -> None:
    code = """
import atexit, threading, time
class Late:
    def __del__(self): tools.late()
globals()["late"] = Late()
atexit.register(lambda: tools.late())
threading.Thread(target=lambda: (time.sleep(0.3), tools.late())).start()
return "done"
"""
    host = RecordingHost(tools={"demo.late": lambda _given: None})
    outcome = await run_step(code, host=host)
    assert (outcome.result, host.calls) == ("done", [])


@attack("close all descriptors", "the code's own failure")
@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "import os\nos.closerange(0, 1024)\nreturn 1"),
        ("shell", "exec 0<&- 1>&- 2>&-\nfalse"),
    ],
)
async def test_code_that_closes_everything_fails(run_step: RunStep, language: Language, code: str) -> None:
    outcome = await run_step(code, language)
    assert told(outcome) == (StepStatus.FAILED, "exit_status")


@attack(
    "read its own output pipe, so that the supervisor waits for what it was told", "it doesn't wait; the step goes on"
)
async def test_stolen_output_does_not_block_the_supervisor(run_step: RunStep) -> None:
    code = """
import os
if os.fork() == 0:
    stolen = os.open("/proc/self/fd/1", os.O_RDONLY | os.O_NONBLOCK)
    while True:
        try: os.read(stolen, 65536)
        except BlockingIOError: pass
for _round in range(500):
    os.write(1, b"x")
    answer = tools.echo()
return answer
"""
    host = RecordingHost(tools={"demo.echo": lambda _given: "answered"})
    outcome = await run_step(code, host=host, cpu=2, tool_calls=500)
    assert (outcome.result, outcome.error) == ("answered", None)


@attack("use a terminal, or push keys into one (`TIOCSTI`)", "there is none: `ENOENT` or `ENXIO`, `ENOTTY`")
async def test_there_is_no_terminal(run_step: RunStep, runner: Runner) -> None:
    code = """
import errno, fcntl, os, pty
def failure(function, *arguments):
    try: return function(*arguments)
    except OSError as error: return errno.errorcode.get(error.errno, str(error))
keys = [failure(fcntl.ioctl, descriptor, 0x5412, b"x") for descriptor in range(3)]
return [failure(os.open, "/dev/tty", os.O_RDWR), failure(os.open, "/dev/ptmx", os.O_RDWR), keys, os.isatty(0)]
"""
    outcome = await run_step(code)
    # A container has the device that stands for a terminal, and no terminal for it.
    device = "ENOENT" if runner.isolation == "jail" else "ENXIO"
    assert outcome.result == [device, "ENOENT", ["ENOTTY"] * 3, False]


@attack("take priority over others: negative nice, real time, another processor", "`EACCES`, `EPERM`")
async def test_no_priority_over_others(run_step: RunStep) -> None:
    code = f"""{SYSCALL}
one = ctypes.byref(ctypes.c_int(1))
return [call(141, 0, 0, -5), call(144, 0, 1, one), call(144, 0, 2, one), call(203, 0, 8, ctypes.byref(ctypes.c_ulong(1)))]
"""
    assert (await run_step(code)).result == ["EACCES", "EPERM", "EPERM", "EPERM"]

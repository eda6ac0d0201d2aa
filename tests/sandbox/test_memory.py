"""Memory"""

import asyncio
import os
from pathlib import Path

import pytest

from flows.values import StepStatus
from steps.sandbox import processes
from steps.sandbox.limits import MB, Language
from tests.sandbox.conftest import RecordingHost, RunStep, told
from tests.sandbox.snippets import FORGE, SYSCALL

OUT_OF_MEMORY = (StepStatus.OUT_OF_MEMORY, "out_of_memory")
attack = pytest.mark.attack
pytestmark = pytest.mark.every_runner


@pytest.mark.both_users
@attack("memory bomb in one process: objects, one allocation, V8's heap, typed arrays, bash", "`out_of_memory`")
@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "hoard = []\nwhile True: hoard.append('x' * 1_000_000 + str(len(hoard)))"),
        ("python", "return len(bytearray(10**10))"),
        ("javascript", "const hoard = []; for (;;) hoard.push({ n: hoard.length, m: [1.5, 2.5] });"),
        ("javascript", "const hoard = []; for (;;) hoard.push(new Uint8Array(1e6).fill(7));"),
        ("javascript", "const hoard = []; for (;;) hoard.push(new SharedArrayBuffer(1e8));"),
        ("javascript", "return new Uint8Array(2 ** 40).length"),
        ("shell", 'x=aaaaaaaaaaaaaaaa; while :; do x="$x$x"; done'),
    ],
)
async def test_memory_bomb_is_out_of_memory(run_step: RunStep, language: Language, code: str) -> None:
    outcome = await run_step(code, language)
    assert told(outcome) == OUT_OF_MEMORY


@pytest.mark.both_users
@attack("memory bomb in a child, while the code itself waits", "`out_of_memory`, at once")
async def test_memory_bomb_in_a_child_is_out_of_memory(run_step: RunStep) -> None:
    code = """
import os
if os.fork() == 0:
    hoard = [os.urandom(10_000_000) for _piece in range(100)]
os.wait()
import time; time.sleep(300)
"""
    # A timeout behind that of the test: the job ends because the host notices.
    outcome = await run_step(code, timeout=300)
    assert told(outcome) == OUT_OF_MEMORY


@pytest.mark.both_users
@attack("memory bomb across many processes, each below the limit", "`out_of_memory`, at once")
async def test_memory_bomb_across_many_processes_is_out_of_memory(run_step: RunStep) -> None:
    code = """
import os, time
for _ in range(10):
    if os.fork() == 0:
        hoard = b"x" * 30_000_000
        time.sleep(300)
time.sleep(300)
"""
    outcome = await run_step(code, timeout=300)
    assert told(outcome) == OUT_OF_MEMORY


@pytest.mark.both_users
@attack("memory bomb in the grace after SIGTERM", "`out_of_memory`, and the grace is over")
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
    assert told(outcome) == OUT_OF_MEMORY


@pytest.mark.both_users
@attack(
    "hide memory from whoever measures it: not dumpable, own badness lowered, shared with children", "`out_of_memory`"
)
async def test_memory_can_not_be_hidden(run_step: RunStep) -> None:
    code = f"""{SYSCALL}
import mmap, time
call(157, 4, 0, 0, 0, 0)
try: open("/proc/self/oom_score_adj", "w").write("0")
except OSError: pass
shared = mmap.mmap(-1, 600_000_000)
for child in range(6):
    if os.fork() == 0:
        call(157, 4, 0, 0, 0, 0)
        for offset in range(child * 100_000_000, (child + 1) * 100_000_000, 4096): shared[offset] = 1
        time.sleep(300)
time.sleep(300)
"""
    outcome = await run_step(code, timeout=300)
    assert told(outcome) == OUT_OF_MEMORY


@pytest.mark.ordinary_user
@pytest.mark.only_runner("nsjail")
@attack("hide memory in a program that its user may run and not read", "its resident memory counts in full")
def test_memory_of_an_unreadable_process_counts() -> None:
    # The first process of the machine is root's.
    with pytest.raises(PermissionError):
        Path("/proc/1/smaps_rollup").read_bytes()
    assert processes.proportional_memory(1) > 0


@pytest.mark.both_users
@attack("make the kernel need memory: page tables of a vast empty mapping", "`out_of_memory`")
async def test_page_tables_count(run_step: RunStep) -> None:
    code = """
import ctypes, time
libc = ctypes.CDLL(None)
libc.mmap.restype, libc.mmap.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
size = 200 << 30
start = libc.mmap(None, size, 1, 0x4022, -1, 0)
libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), 15)
for offset in range(0, size, 2 << 20): ctypes.c_char.from_address(start + offset).value
time.sleep(300)
"""
    outcome = await run_step(code, timeout=300)
    assert told(outcome) == OUT_OF_MEMORY


@pytest.mark.both_users
@attack(
    "make the kernel need memory: fill Unix sockets, with raised buffer sizes",
    "`out_of_memory`; the sizes stay the kernel's",
)
async def test_what_waits_in_unix_sockets_counts(run_step: RunStep) -> None:
    code = """
import os, socket, time
for _process in range(8):
    if os.fork() == 0:
        pairs = []
        try:
            while True:
                pairs.append(socket.socketpair())
                for line in pairs[-1]:
                    line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 24)
                    line.setblocking(False)
                    try:
                        while True: line.send(bytes(32768))
                    except BlockingIOError: pass
        except OSError: pass
        time.sleep(300)
time.sleep(300)
"""
    outcome = await run_step(code, timeout=300)
    assert told(outcome) == OUT_OF_MEMORY


@pytest.mark.both_users
@attack("make the kernel need memory: fill TCP connections that nobody reads", "sending stops, or `out_of_memory`")
async def test_what_waits_in_tcp_connections_is_limited(run_step: RunStep) -> None:
    code = """
import socket, time
server = socket.create_server(("127.0.0.1", 0), backlog=400)
ends, total = [], 0
for _connection in range(150):
    ends.append((socket.create_connection(server.getsockname()), server.accept()[0]))
    for sender, receiver in (ends[-1], ends[-1][::-1]):
        sender.setblocking(False)
        receiver.setblocking(False)
        for _round in range(60):
            for act in (lambda: sender.send(bytes(262144)), lambda: receiver.recv(1 << 20)):
                try: act()
                except BlockingIOError: pass
        try:
            while True: total += sender.send(bytes(262144))
        except BlockingIOError: pass
return total
"""
    outcome = await run_step(code, memory=128 * MB, timeout=100)
    if os.geteuid() == 0:
        # A quarter of the memory, and in each connection the little that the kernel allows whatever the limit.
        assert outcome.error is None
        assert outcome.result < 128 * MB
    else:
        assert told(outcome) == OUT_OF_MEMORY


@attack(
    "memory bomb of files in `/work`, `/tmp` and `/dev/shm`, within the size of the disk",
    "as root, or in a cgroup: `out_of_memory`",
)
async def test_files_are_memory_too(run_step: RunStep) -> None:
    code = """
for place in ("/work", "/tmp"):
    with open(f"{place}/big", "wb") as file:
        for _piece in range(60): file.write(bytes(1_000_000))
return "done"
"""
    assert told(await run_step(code, memory=64 * MB)) == OUT_OF_MEMORY
    assert (await run_step(code, memory=256 * MB)).result == "done"


@pytest.mark.both_users
@attack("memory bomb in the supervisor: a frame of 60 MB", "`out_of_memory`")
async def test_frame_larger_than_the_memory_is_out_of_memory(run_step: RunStep) -> None:
    code = f"{FORGE}\nforge(frame({{'kind': 'call', 'id': 1, 'tool': 'x'}}, b'1' * 60_000_000))\nimport time\ntime.sleep(300)"
    assert told(await run_step(code, memory=64 * MB, timeout=300)) == OUT_OF_MEMORY


@pytest.mark.both_users
@attack(
    "memory bomb in the engine: arguments of tool calls of 8 MB, that read are thirty times as large",
    "read one after the other",
)
async def test_large_arguments_are_read_one_after_the_other(run_step: RunStep, host: RecordingHost) -> None:
    at_once, most = 0, 0

    async def slow(name: str, arguments: object) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.05)
        at_once -= 1

    host.tools = {"demo.take": lambda _given: None}
    host.call_tool = slow  # type: ignore[method-assign]
    code = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    return list(pool.map(tools.take, [{"a": [[]] * 100_000} for _call in range(4)]))
"""
    outcome = await run_step(code, host=host)
    assert (outcome.result, outcome.tool_calls, most) == ([None] * 4, 4, 1)


@attack("lock memory beyond the kernel's default", "`ENOMEM`")
async def test_memory_can_not_be_locked_without_limit(run_step: RunStep) -> None:
    code = f"{SYSCALL}\nimport mmap\nmemory = mmap.mmap(-1, 100_000_000)\nreturn call(149, ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(memory))), 100_000_000)"
    assert (await run_step(code)).result == "ENOMEM"


@pytest.mark.both_users
async def test_memory_within_the_limit_is_there(run_step: RunStep) -> None:
    outcome = await run_step("return len(bytearray(b'x') * 200_000_000)")
    assert outcome.result == 200_000_000

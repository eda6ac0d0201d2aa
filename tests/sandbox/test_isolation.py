"""What code in a sandbox can't reach."""

from contextlib import suppress
from pathlib import Path

import pytest

from flows.values import StepStatus
from steps.sandbox.limits import Language
from tests.sandbox.conftest import RunStep

HOST_PATHS = [__file__, str(Path.home()), str(Path(__file__).parents[2] / "engine")]
SYSCALL = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    value = libc.syscall(number, *arguments)
    return os.strerror(ctypes.get_errno()) if value < 0 else value
"""


@pytest.mark.parametrize(
    "path", ["/etc/shadow", "/root", "/home", "/var", "/sys", "/proc/sys", "/proc/1", "/boot", "/run"]
)
async def test_host_path_does_not_exist(run_step: RunStep, path: str) -> None:
    outcome = await run_step(f"import os\nreturn os.path.exists('{path}')")
    assert outcome.result is False


async def test_engine_source_and_home_do_not_exist(run_step: RunStep) -> None:
    outcome = await run_step(
        "import os\nreturn [os.path.exists(path) for path in inputs['paths']]",
        inputs={
            "paths": HOST_PATHS,
        },
    )
    assert outcome.result == [False, False, False]


@pytest.mark.parametrize("path", ["/", "/usr", "/opt/stepbox", "/opt/packages", "/etc", "/dev"])
async def test_system_path_is_read_only(run_step: RunStep, path: str) -> None:
    outcome = await run_step(f"echo x > {path}/probe", "shell")
    assert outcome.status is StepStatus.FAILED
    assert "Read-only file system" in outcome.stderr


async def test_host_environment_is_not_inherited(run_step: RunStep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPBOX_PROBE", "secret")
    outcome = await run_step(
        "env; for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ; done 2>/dev/null || true", "shell"
    )
    names = {line.partition("=")[0] for line in outcome.stdout.splitlines()}
    assert "secret" not in outcome.stdout
    assert names <= {
        *("PATH", "HOME", "TMPDIR", "LANG", "TZ", "ARTIFACTS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "PYTHONPATH"),
        *("STEPBOX_PYTHON", "INPUTS", "RESULT", "BASH_ENV", "PWD", "SHLVL", "_", "LD_LIBRARY_PATH", "OLDPWD"),
    }


async def test_no_descriptor_above_two_reaches_a_program(run_step: RunStep) -> None:
    code = "import subprocess\nreturn subprocess.check_output(['/bin/ls', '/proc/self/fd'], close_fds=False, text=True).split()"
    outcome = await run_step(code)
    # The last one is the folder that ls itself reads.
    assert outcome.result == ["0", "1", "2", "3"]


async def test_only_own_processes_are_visible(run_step: RunStep) -> None:
    outcome = await run_step(
        "import os\nreturn [name for name in os.listdir('/proc') if name.isdigit() and int(name) != os.getpid()]"
    )
    assert outcome.result == []


@pytest.mark.parametrize(
    "code",
    [
        "open('/proc/1/mem', 'rb')",
        "import os; os.open('/proc/1/fd/0', os.O_RDONLY)",
        "import os; os.listdir('/proc/1')",
    ],
)
async def test_supervisor_is_out_of_reach(run_step: RunStep, code: str) -> None:
    outcome = await run_step(code)
    assert outcome.error is not None
    assert outcome.error.message.startswith(("FileNotFoundError", "PermissionError"))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ptrace", "101, 16, 1, 0, 0"),
        ("process_vm_readv", "310, 1, 0, 0, 0, 0, 0"),
        ("pidfd_getfd", "438, 3, 0, 0"),
        ("keyctl", "250, 0, -3, 0"),
        ("add_key", "248, b'user', b'a', b'b', 1, -3"),
        ("bpf", "321, 0, 0, 0"),
        ("perf_event_open", "298, 0, 0, -1, -1, 0"),
        ("userfaultfd", "323, 0"),
        ("io_uring_setup", "425, 1, 0"),
        ("mount", "165, b'none', b'/work', b'tmpfs', 0, 0"),
        ("umount2", "166, b'/work', 0"),
        ("unshare", "272, 0x10000000"),
        ("setns", "308, 3, 0"),
        ("clone with a new user namespace", "56, 0x10000011, 0, 0, 0, 0"),
        ("mknod", "133, b'/work/node', 0o20666, 0x101"),
        ("kexec_load", "246, 0, 0, 0, 0"),
        ("init_module", "175, 0, 0, b''"),
        ("open_by_handle_at", "304, 0, 0, 0"),
        ("chroot", "161, b'/work'"),
    ],
)
async def test_system_call_is_denied(run_step: RunStep, name: str, arguments: str) -> None:
    outcome = await run_step(f"{SYSCALL}\nreturn call({arguments})")
    assert (name, outcome.result) == (name, "Operation not permitted")


async def test_clone3_is_unknown_so_that_libc_falls_back(run_step: RunStep) -> None:
    outcome = await run_step(f"{SYSCALL}\nreturn call(435, 0, 0)")
    assert outcome.result == "Function not implemented"


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("AF_NETLINK", "SOCK_RAW"),
        ("AF_PACKET", "SOCK_RAW"),
        ("AF_VSOCK", "SOCK_STREAM"),
        ("AF_INET", "SOCK_RAW"),
        ("AF_INET6", "SOCK_RAW"),
        ("AF_ALG", "SOCK_SEQPACKET"),
    ],
)
async def test_socket_is_denied(run_step: RunStep, family: str, kind: str) -> None:
    code = f"import socket\ntry: socket.socket(socket.{family}, socket.{kind})\nexcept PermissionError: return 'denied'"
    outcome = await run_step(code)
    assert outcome.result == "denied"


@pytest.mark.parametrize("address", ["1.1.1.1", "10.0.0.1", "169.254.169.254", "2606:4700:4700::1111", "fe80::1"])
async def test_no_network_is_reachable(run_step: RunStep, address: str) -> None:
    code = f"import socket\ntry: socket.create_connection(('{address}', 80), 5)\nexcept OSError as error: return error.errno"
    outcome = await run_step(code)
    assert outcome.result in (101, 99, 22)


async def test_no_name_is_resolved(run_step: RunStep) -> None:
    outcome = await run_step("curl -sS -m 5 https://example.com", "shell")
    assert outcome.status is StepStatus.FAILED
    assert "Could not resolve host" in outcome.stderr


async def test_loopback_is_the_only_interface_and_is_the_sandboxs_own(run_step: RunStep) -> None:
    code = """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
return open("/proc/self/net/dev").read().count(":")
"""
    outcome = await run_step(code)
    assert outcome.result == 1


async def test_no_capability_and_no_new_privileges(run_step: RunStep) -> None:
    outcome = await run_step("grep -E 'Cap|NoNewPrivs|Seccomp:|^Uid|Groups' /proc/self/status", "shell")
    fields = dict(line.split(":\t", 1) for line in outcome.result.splitlines())
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    assert fields["Uid"].split() == ["1000"] * 4


async def test_there_is_no_terminal(run_step: RunStep) -> None:
    outcome = await run_step("tty; exec 3< /dev/tty", "shell")
    assert outcome.status is StepStatus.FAILED


async def test_kill_everything_ends_only_the_code(run_step: RunStep) -> None:
    outcome = await run_step("kill -9 -1; sleep 60", "shell")
    assert outcome.status in (StepStatus.KILLED, StepStatus.FAILED)
    assert outcome.error is not None
    assert outcome.error.code != "sandbox_lost"


async def test_signals_do_not_reach_the_supervisor(run_step: RunStep) -> None:
    code = "import os, signal\nfor number in (1, 2, 3, 9, 15, 17, 19): os.kill(1, number)\nreturn 'still here'"
    outcome = await run_step(code)
    assert outcome.result == "still here"


async def test_daemon_is_gone_when_the_step_ends(run_step: RunStep) -> None:
    marker = "sleep 4242"
    outcome = await run_step(f"(setsid nohup {marker} >/dev/null 2>&1 &) ; echo done", "shell")
    assert outcome.result == "done"
    assert "sleep\0004242\0" not in command_lines()


def command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_text())
    return found


async def test_next_run_sees_nothing_of_the_last(run_step: RunStep) -> None:
    write = (
        "for place in ('/work', '/tmp', '/dev/shm'): open(f'{place}/left', 'w').write('x')\nimport json; json.evil = 1"
    )
    look = (
        "import json, os\nreturn [os.listdir(place) for place in ('/work', '/tmp', '/dev/shm')], hasattr(json, 'evil')"
    )
    assert (await run_step(write)).status is StepStatus.SUCCEEDED
    assert (await run_step(look)).result == [[["artifacts"], [], []], False]


async def test_random_is_seeded_anew_in_each_sandbox(run_step: RunStep) -> None:
    code = "import random, numpy\nreturn [random.random(), float(numpy.random.rand()), str(hash('text'))]"
    first, second = (await run_step(code)).result, (await run_step(code)).result
    assert all(one != other for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("name", ["json.py", "sitecustomize.py", "usercustomize.py"])
async def test_module_in_the_work_directory_does_not_shadow(run_step: RunStep, name: str) -> None:
    code = f"open('{name}', 'w').write('raise SystemExit(9)')\nimport importlib, sys\nsys.modules.pop('json', None)\nimport json\nreturn json.loads('1')"
    assert (await run_step(code)).result == 1


@pytest.mark.parametrize("language", ["python", "javascript", "shell"])
async def test_forged_frame_is_output_and_nothing_else(run_step: RunStep, language: Language) -> None:
    frame = '\\x00\\x00\\x00\\x15\\x00\\x00\\x00\\x01{"kind":"result","x":1}2'
    code = {
        "python": f"import os\nos.write(1, b'{frame}')\nreturn 1",
        "javascript": f"console.log('{frame}'); return 1",
        "shell": f"printf '{frame}'; echo 1 > $RESULT",
    }
    outcome = await run_step(code[language], language)
    assert outcome.result == 1


async def test_code_that_writes_garbage_to_its_own_channel_fails(run_step: RunStep) -> None:
    code = """
import os
for descriptor in range(3, 20):
    try: os.write(descriptor, b"\\xff" * 64)
    except OSError: pass
import time; time.sleep(60)
"""
    outcome = await run_step(code)
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.FAILED, "channel_violation")


async def test_second_result_is_ignored(run_step: RunStep) -> None:
    code = """
import json, os
def frame(value):
    head, body = json.dumps({"kind": "result"}).encode(), json.dumps(value).encode()
    return len(head).to_bytes(4, "big") + len(body).to_bytes(4, "big") + head + body
for descriptor in range(3, 20):
    try: os.write(descriptor, frame("first") + frame("second"))
    except OSError: pass
return "third"
"""
    outcome = await run_step(code)
    assert outcome.result == "first"


async def test_exit_and_log_frames_of_user_code_are_refused(run_step: RunStep) -> None:
    code = """
import json, os
head = json.dumps({"kind": "exit", "status": 0}).encode()
for descriptor in range(3, 20):
    try: os.write(descriptor, len(head).to_bytes(4, "big") + bytes(4) + head)
    except OSError: pass
return "third"
"""
    outcome = await run_step(code)
    assert outcome.error is not None
    assert outcome.error.code == "channel_violation"

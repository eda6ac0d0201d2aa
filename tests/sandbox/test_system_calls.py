"""System calls"""

import pytest

from flows.values import StepStatus
from steps.sandbox.protocol import Runner
from tests.sandbox.conftest import RunStep, told
from tests.sandbox.snippets import SYSCALL

attack = pytest.mark.attack
pytestmark = pytest.mark.every_runner

# By their numbers on x86-64, with arguments that would be good ones where that matters.
DANGEROUS = {
    "process_vm_writev": "311, 1, 0, 0, 0, 0, 0",
    "kcmp": "312, 1, 1, 0, 0, 0",
    "process_madvise": "440, 0, 0, 0, 0, 0",
    "request_key": "249, b'user', b'a', 0, 0",
    "io_uring_enter": "426, 0, 0, 0, 0, 0",
    "io_uring_register": "427, 0, 0, 0, 0",
    "io_setup": "206, 1, ctypes.byref(ctypes.c_ulong(0))",
    "pivot_root": "155, b'/work', b'/work'",
    "open_tree": "428, -100, b'/', 1",
    "move_mount": "429, -100, b'/work', -100, b'/tmp', 0",
    "fsopen": "430, b'tmpfs', 0",
    "fsmount": "432, 0, 0, 0",
    "mount_setattr": "442, -100, b'/work', 0, 0, 0",
    "name_to_handle_at": "303, -100, b'/usr', 0, 0, 0",
    "kexec_file_load": "320, 0, 0, 0, b'', 0",
    "finit_module": "313, 0, b'', 0",
    "delete_module": "176, b'x', 0",
    "reboot": "169, 0, 0, 0, 0",
    "acct": "163, 0",
    "swapon": "167, b'/work/x', 0",
    "swapoff": "168, b'/work/x'",
    "quotactl": "179, 0, b'', 0, 0",
    "syslog": "103, 3, ctypes.create_string_buffer(100), 100",
    "sethostname": "170, b'x', 1",
    "setdomainname": "171, b'x', 1",
    "settimeofday": "164, 0, 0",
    "clock_settime": "227, 0, 0",
    "adjtimex": "159, ctypes.create_string_buffer(400)",
    "iopl": "172, 3",
    "ioperm": "173, 0, 1, 1",
    "modify_ldt": "154, 0, 0, 0",
    "sched_setaffinity": "203, 0, 8, ctypes.byref(ctypes.c_ulong(1))",
    "set_mempolicy": "238, 0, 0, 0",
    "mbind": "237, 0, 0, 0, 0, 0, 0",
    "migrate_pages": "256, 0, 0, 0, 0",
    "move_pages": "279, 0, 0, 0, 0, 0, 0",
    "vhangup": "153,",
    "personality": "135, 0x0040000",
    "inotify_init1": "294, 0",
    "inotify_init": "253,",
    "fanotify_init": "300, 0, 0",
    "memfd_create": "319, b'x', 0",
    "shmget": "29, 0, 4096, 0o1600",
    "msgget": "68, 0, 0o1600",
    "semget": "64, 0, 1, 0o1600",
    "vmsplice": "278, 1, 0, 0, 0",
}


@attack(
    "trace or read other processes, keyrings, bpf, perf, userfaultfd, io_uring, mounts, namespaces, modules", "`EPERM`"
)
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
        ("mknod", "133, b'/work/node', 0o20666, 0x101"),
        ("mknodat", "259, -100, b'/work/node', 0o60666, 0x800"),
        ("kexec_load", "246, 0, 0, 0, 0"),
        ("init_module", "175, 0, 0, b''"),
        ("open_by_handle_at", "304, 0, 0, 0"),
        ("chroot", "161, b'/work'"),
    ],
)
async def test_system_call_is_denied(run_step: RunStep, name: str, arguments: str) -> None:
    outcome = await run_step(f"{SYSCALL}\nreturn call({arguments})")
    assert (name, outcome.result) == (name, "EPERM")


@attack(f"{len(DANGEROUS)} more calls that no step needs, or that use up what the whole machine shares", "`EPERM`")
async def test_every_other_dangerous_system_call_is_denied(run_step: RunStep) -> None:
    calls = ", ".join(f"{name!r}: call({arguments})" for name, arguments in DANGEROUS.items())
    outcome = await run_step(f"{SYSCALL}\nreturn {{{calls}}}")
    assert outcome.result == dict.fromkeys(DANGEROUS, "EPERM")


@attack("make a namespace by `clone`, of each of the eight kinds", "`EPERM`")
async def test_clone_makes_no_namespace(run_step: RunStep) -> None:
    kinds = [0x80, 0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000]
    outcome = await run_step(f"{SYSCALL}\nreturn [call(56, flag | 17, 0, 0, 0, 0) for flag in {kinds}]")
    assert outcome.result == ["EPERM"] * 8


@attack("use `clone3`, whose flags a filter can't see", "`ENOSYS`, so that libc uses `clone`")
async def test_clone3_is_unknown_so_that_libc_falls_back(run_step: RunStep) -> None:
    outcome = await run_step(f"{SYSCALL}\nreturn call(435, 0, 0)")
    assert outcome.result == "ENOSYS"


@attack("use a call that is newer than the filter", "`ENOSYS`")
async def test_unlisted_system_call_is_unknown(run_step: RunStep) -> None:
    # statmount, listmount, open_tree_attr, file_setattr, and two that no kernel has yet.
    outcome = await run_step(
        f"{SYSCALL}\nreturn [call(number, 0, 0, 0, 0) for number in (457, 458, 467, 469, 600, 9999)]"
    )
    assert outcome.result == ["ENOSYS"] * 6


@attack("get around the filter by the x32 interface", "`ENOSYS`; in a container the process is ended, by SIGSYS")
async def test_x32_system_call_is_unknown(run_step: RunStep, runner: Runner) -> None:
    # getpid, unshare and ptrace.
    numbers = [0x40000000 + number for number in (39, 272, 521)]
    outcome = await run_step(f"{SYSCALL}\nreturn [call(number, 0, 0, 0, 0) for number in {numbers}]")
    if runner.isolation == "jail":
        assert outcome.result == ["ENOSYS"] * 3
    else:
        # The filter of an Engine takes x32 as an architecture of its own, which the profile doesn't allow.
        assert told(outcome) == (StepStatus.FAILED, "signal")
        assert outcome.error is not None
        assert "SIGSYS" in outcome.error.message


I386_GETPID = """
import ctypes, mmap
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes((0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3)))
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
return "went on"
"""


@pytest.mark.only_runner("nsjail")
@attack("get around the filter by the 32-bit (i386) interface", "the thread that tries is ended, by SIGSYS")
async def test_i386_system_call_ends_the_thread(run_step: RunStep) -> None:
    outcome = await run_step(I386_GETPID)
    assert told(outcome) == (StepStatus.FAILED, "signal")
    assert outcome.error is not None
    assert "SIGSYS" in outcome.error.message


@attack(
    "loosen the filter, raise capabilities, become dumpable's opposite: `prctl`, `capset`, `setuid(0)`",
    "`EPERM`, `EINVAL`",
)
async def test_no_way_back_to_privileges(run_step: RunStep, runner: Runner) -> None:
    code = f"""{SYSCALL}
header, data = (ctypes.c_uint * 2)(0x20080522, 0), (ctypes.c_uint * 6)(*[0xFFFFFFFF] * 6)
return dict(
    seccomp_off=call(157, 22, 0, 0, 0, 0),
    new_privileges=call(157, 38, 0, 0, 0, 0),
    keep_capabilities=call(157, 47, 2, 12, 0, 0),
    bounding_set=call(157, 24, 21, 0, 0, 0),
    memory_map=call(157, 35, 8, 0, 0, 0),
    capset=call(126, header, data),
    setuid=call(105, 0),
    setgid=call(106, 0),
    setgroups=call(116, 1, ctypes.byref(ctypes.c_uint(0))),
)
"""
    outcome = await run_step(code)
    # The user namespace of a jail has no user 0.
    to_root = "EINVAL" if runner.isolation == "jail" else "EPERM"
    assert outcome.result == {
        "seccomp_off": "EINVAL",
        "new_privileges": "EINVAL",
        "keep_capabilities": "EPERM",
        "bounding_set": "EPERM",
        "memory_map": "EPERM",
        "capset": "EPERM",
        "setuid": to_root,
        "setgid": to_root,
        "setgroups": "EPERM",
    }


@pytest.mark.both_users
@attack("use a capability", "there is none, and none can be gained")
async def test_no_capability_and_no_new_privileges(run_step: RunStep) -> None:
    outcome = await run_step("grep -E 'Cap|NoNewPrivs|Seccomp:|^Uid' /proc/self/status", "shell")
    fields = dict(line.split(":\t", 1) for line in outcome.result.splitlines())
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    assert fields["Uid"].split() == ["1000"] * 4


@attack("take huge pages, which the host reserves for others", "`EPERM`")
async def test_huge_pages_are_denied(run_step: RunStep) -> None:
    outcome = await run_step(f"{SYSCALL}\nreturn call(9, 0, 2 << 20, 3, 0x40022, -1, 0)")
    assert outcome.result == "EPERM"


@attack("fill the one limit that all socket filters of the machine share", "`EPERM`")
async def test_filters_on_sockets_are_denied(run_step: RunStep) -> None:
    code = f"{SYSCALL}\nimport socket\nline = socket.socket()\nreturn [call(54, line.fileno(), 1, name, b'', 0) for name in (26, 50, 51, 52)]"
    outcome = await run_step(code)
    assert outcome.result == ["EPERM"] * 4


@attack("say a number with more bits than the kernel reads, so that the filter takes it for another", "`EPERM`")
async def test_numbers_that_only_the_filter_reads_whole_are_denied(run_step: RunStep) -> None:
    code = f"""{SYSCALL}
import socket
line = socket.socket()
def wide(number): return ctypes.c_ulong(number + (1 << 32))
program = ctypes.create_string_buffer(16)
return [
    *(call(54, line.fileno(), wide(1), ctypes.c_ulong(name), program, 16) for name in (26, 50, 51, 52)),
    *(call(54, line.fileno(), ctypes.c_ulong(1), wide(name), program, 16) for name in (26, 50, 51, 52)),
    *(call(41, wide(family), 3, 0) for family in (16, 17, 40)),
]
"""
    outcome = await run_step(code)
    assert outcome.result == ["EPERM"] * 11


@attack("run a program that has no file, from memory", "there is no `memfd_create`")
async def test_program_without_a_file_can_not_be_made(run_step: RunStep) -> None:
    outcome = await run_step("import os\nos.memfd_create('program')")
    assert outcome.error is not None
    assert outcome.error.message == "PermissionError: [Errno 1] Operation not permitted"


@attack("make a device of the host as root would", "`EPERM`; a FIFO is allowed")
async def test_only_harmless_nodes_can_be_made(run_step: RunStep) -> None:
    code = """
import errno, os, stat
def made(kind, device=0):
    try: os.mknod("node", kind | 0o666, device)
    except OSError as error: return errno.errorcode[error.errno]
    os.unlink("node")
    return "made"
return [made(stat.S_IFCHR, os.makedev(1, 1)), made(stat.S_IFBLK, os.makedev(8, 0)), made(stat.S_IFCHR), made(stat.S_IFIFO)]
"""
    assert (await run_step(code)).result == ["EPERM", "EPERM", "EPERM", "made"]

"""The system calls that a sandbox denies, with their numbers and with arguments that do no harm.

Numbers are those of arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (aarch64) in Linux;
-1 where an architecture lacks the call. The arguments are such that, were the call allowed, it would fail with another
error than EPERM or change nothing but the process that makes it: an invalid descriptor, a missing path, a null pointer.
``"pid"`` stands for the caller's own pid.
"""

Argument = int | str

_NEW_USER = 0x10000000
_MISSING = "/nonexistent"
_INVALID = -1
_SIGCHLD = 17

CALLS: tuple[tuple[str, int, int, tuple[Argument, ...]], ...] = (
    ("ptrace", 101, 117, (0, 0, 0, 0)),
    ("process_vm_readv", 310, 270, ("pid", 0, 0, 0, 0, 0)),
    ("process_vm_writev", 311, 271, ("pid", 0, 0, 0, 0, 0)),
    ("kcmp", 312, 272, ("pid", "pid", 0, 0, 0)),
    ("pidfd_getfd", 438, 438, (_INVALID, 0, 0)),
    ("process_madvise", 440, 440, (_INVALID, 0, 0, 0, 0)),
    ("keyctl", 250, 219, (0, -3, 0)),
    ("add_key", 248, 217, ("user", "stepbox", "x", 1, -2)),
    ("request_key", 249, 218, ("user", "stepbox", 0, 0)),
    ("bpf", 321, 280, (0, 0, 0)),
    ("perf_event_open", 298, 241, (0, 0, -1, -1, 0)),
    ("userfaultfd", 323, 282, (0,)),
    ("io_uring_setup", 425, 425, (1, 0)),
    ("io_uring_enter", 426, 426, (_INVALID, 0, 0, 0, 0, 0)),
    ("io_uring_register", 427, 427, (_INVALID, 0, 0, 0)),
    ("mount", 165, 40, ("none", _MISSING, "tmpfs", 0, 0)),
    ("umount2", 166, 39, (_MISSING, 0)),
    ("pivot_root", 155, 41, (_MISSING, _MISSING)),
    ("chroot", 161, 51, (_MISSING,)),
    ("open_tree", 428, 428, (_INVALID, _MISSING, 0)),
    ("move_mount", 429, 429, (_INVALID, "", _INVALID, "", 0)),
    ("fsopen", 430, 430, ("tmpfs", 0)),
    ("fsconfig", 431, 431, (_INVALID, 0, 0, 0, 0)),
    ("fsmount", 432, 432, (_INVALID, 0, 0)),
    ("fspick", 433, 433, (_INVALID, _MISSING, 0)),
    ("mount_setattr", 442, 442, (_INVALID, _MISSING, 0, 0, 0)),
    ("unshare", 272, 97, (_NEW_USER,)),
    ("setns", 308, 268, (_INVALID, 0)),
    ("clone", 56, 220, (_NEW_USER | _SIGCHLD, 0, 0, 0, 0)),
    ("clone3", 435, 435, (0, 0)),
    ("name_to_handle_at", 303, 264, (_INVALID, _MISSING, 0, 0, 0)),
    ("open_by_handle_at", 304, 265, (_INVALID, 0, 0)),
    ("mknodat", 259, 33, (_INVALID, "/work/stepbox-doctor", 0o20666, 0x101)),
    ("init_module", 175, 105, (0, 0, "")),
    ("finit_module", 313, 273, (_INVALID, "", 0)),
    ("delete_module", 176, 106, ("stepbox_doctor", 0)),
    ("kexec_load", 246, 104, (0, 100_000, 0, 0)),
    ("kexec_file_load", 320, 294, (_INVALID, _INVALID, 0, 0, 0)),
    ("reboot", 169, 142, (0, 0, 0, 0)),
    ("swapon", 167, 224, (_MISSING, 0)),
    ("swapoff", 168, 225, (_MISSING,)),
    ("acct", 163, 89, (_MISSING,)),
    ("quotactl", 179, 60, (0, 0, 0, 0)),
    ("syslog", 103, 116, (10, 0, 0)),
    ("sethostname", 170, 161, ("", -1)),
    ("setdomainname", 171, 162, ("", -1)),
    ("settimeofday", 164, 170, (0, 0)),
    ("clock_settime", 227, 112, (_INVALID, 0)),
    ("personality", 135, 92, (0xFFFFFFFF,)),
    ("iopl", 172, -1, (0,)),
    ("ioperm", 173, -1, (0, 1, 0)),
)
"""Name, number on x86_64, number on aarch64, arguments."""

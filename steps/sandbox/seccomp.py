"""Which system calls the code in a jail may make, in nsjail's policy language (kafel).

What is dangerous fails with EPERM. What this list doesn't know, a later kernel's calls and the x32 interface included,
fails with ENOSYS, so that a newer kernel gives the code nothing new. Calls of the 32-bit (i386) interface end the
thread that makes them: the language can't say otherwise. The numbers are those of x86-64.
"""

MACHINE = "x86_64"

_DENIED = """
ptrace, process_vm_readv, process_vm_writev, kcmp, pidfd_getfd, process_madvise,
keyctl, add_key, request_key,
bpf, perf_event_open, userfaultfd, io_uring_setup, io_uring_enter, io_uring_register,
mount, umount, pivot_root, chroot, move_mount, open_tree, fsopen, fsconfig, fsmount, fspick, mount_setattr,
unshare, setns, open_by_handle_at, name_to_handle_at,
kexec_load, kexec_file_load, init_module, finit_module, delete_module, reboot, acct, swapon, swapoff, quotactl,
syslog, sethostname, setdomainname, settimeofday, clock_settime, adjtimex, clock_adjtime, iopl, ioperm, modify_ldt,
sched_setaffinity, set_mempolicy, mbind, migrate_pages, move_pages, vhangup, uselib, personality, nfsservctl,
"""

# Memory that belongs to no process and no file system with a size, so that a watchdog wouldn't see it.
_UNSEEN_MEMORY = "memfd_create, shmget, msgget, semget, vmsplice,"

# Each user, or the whole machine, has few of these, and other programs need them.
_SHARED_WITH_THE_HOST = "inotify_init, inotify_init1, fanotify_init, io_setup,"

# Namespaces; device files; the limits of other processes, which here are the supervisor; huge pages, which are
# reserved for others; sockets other than streams and datagrams of Unix, TCP and UDP; filters on sockets, whose
# machine code has one limit for the whole machine. A filter compares 64 bits where the kernel takes 32 of an int.
_DENIED_WITH_THESE_ARGUMENTS = """
clone(clone_flags, newsp, parent_tid, child_tid, tls) { (clone_flags & 0x7e020080) != 0 },
mknod(path, mode, device) { (mode & 0xf000) == 0x2000 || (mode & 0xf000) == 0x6000 },
mknodat(folder, path, mode, device) { (mode & 0xf000) == 0x2000 || (mode & 0xf000) == 0x6000 },
prlimit64(pid, resource, new_limit, old_limit) { pid != 0 && new_limit != 0 },
mmap(address, length, protection, flags, descriptor, offset) { (flags & 0x40000) != 0 },
socket(family, type, protocol) {
  (family != 1 && family != 2 && family != 10)
  || ((type & 15) != 1 && (type & 15) != 2 && (type & 15) != 5)
  || (family != 1 && protocol != 0 && protocol != 6 && protocol != 17)
},
socketpair(family, type, protocol, pair) { family != 1 },
setsockopt(socket, level, name, value, length) {
  (level & 0xffffffff) == 1 && ((name & 0xffffffff) == 26
  || (name & 0xffffffff) == 50 || (name & 0xffffffff) == 51 || (name & 0xffffffff) == 52)
}
"""

# Sizes of socket buffers stay the kernel's own: they are hints, so that asking for more isn't an error.
_IGNORED = """
setsockopt(socket, level, name, value, length) {
  (level & 0xffffffff) == 1 && ((name & 0xffffffff) == 7 || (name & 0xffffffff) == 8)
}
"""

# clone3's flags are out of a filter's sight; libc then uses clone.
_UNKNOWN = "clone3"

# All up to rseq, then pidfd_send_signal, pidfd_open, close_range, openat2, faccessat2, epoll_pwait2, landlock,
# process_mrelease, futex_waitv, fchmodat2, futex_wake, futex_wait, futex_requeue and mseal.
_KNOWN = (*range(335), 424, 434, 436, 437, 439, 441, 444, 445, 446, 448, 449, 452, 454, 455, 456, 462)

# Of several rules for a call, the first that holds decides.
POLICY = f"""
POLICY stepbox {{
  ERRNO(1) {{ {_DENIED} {_UNSEEN_MEMORY} {_SHARED_WITH_THE_HOST} {_DENIED_WITH_THESE_ARGUMENTS} }},
  ERRNO(0) {{ {_IGNORED} }},
  ERRNO(38) {{ {_UNKNOWN} }},
  ALLOW {{ {", ".join(f"SYSCALL[{number}]" for number in _KNOWN)} }}
}}
USE stepbox DEFAULT ERRNO(38)
"""

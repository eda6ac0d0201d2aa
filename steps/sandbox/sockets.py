"""What the sockets of a network namespace hold: memory of the kernel, which belongs to no process."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

MAX_READ = 512
"""Sockets of TCP and UDP, up to which their queues are read; more are taken for full."""
TCP_OVERHEAD = 2
"""TCP tells the bytes of its queues, of which the kernel's buffers for them are at most about twice as large."""
_QUEUED = {"tcp": TCP_OVERHEAD, "tcp6": TCP_OVERHEAD, "udp": 1, "udp6": 1}


def held(pid: int) -> int:
    """Bytes in the queues of all sockets of a process's network namespace, at most; 0 where the process is gone.

    TCP and UDP tell their queues. Unix sockets don't: each counts as full, with the size that the kernel gives it
    (``net.core.wmem_default``), which code in a jail can't raise.
    """
    sockets = dict(_sockets(pid))
    unix = sum(count for name, count in sockets.items() if name.startswith("UNIX"))
    others = sum(sockets.values()) - unix
    if others > MAX_READ:
        return (unix + others) * _default_size()
    return unix * _default_size() + (_queued(pid) if others else 0)


def _sockets(pid: int) -> Iterator[tuple[str, int]]:
    """Each protocol with its number of sockets."""
    for line in _lines(pid, "protocols"):
        name, _size, count = line.split()[:3]
        yield name, int(count)


def _queued(pid: int) -> int:
    total = 0
    for name, overhead in _QUEUED.items():
        for line in _lines(pid, name):
            sending, _colon, receiving = line.split()[4].partition(":")
            total += overhead * (int(sending, 16) + int(receiving, 16))
    return total


def _lines(pid: int, name: str) -> list[str]:
    """The lines of a table, without its head."""
    try:
        return Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    except OSError:
        return []


@cache
def _default_size() -> int:
    return int(Path("/proc/sys/net/core/wmem_default").read_text())

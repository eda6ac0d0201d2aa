"""What the kernel tells about processes: their descendants, memory, processor time, start and end."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The children of all threads of a process; none where it is gone."""
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_text().split()]
    except OSError:
        pass
    return found


def descendants(pid: int) -> Iterator[int]:
    """All processes below one, parents first."""
    found = children(pid)
    while found:
        child = found.pop()
        yield child
        found += children(child)


def proportional_memory(pid: int) -> int:
    """Bytes of memory of a process, shared pages counted by their share; 0 where it is gone.

    A process that runs a file which its user can't read doesn't tell the share: of it, shared pages count in full.
    """
    try:
        return _kilobytes(pid, "smaps_rollup", "Pss:")
    except PermissionError:
        return _kilobytes(pid, "status", "VmRSS:")
    except OSError:
        return 0


def page_tables(pid: int) -> int:
    """Bytes that the kernel needs to find a process's memory; 0 where it is gone."""
    return _kilobytes(pid, "status", "VmPTE:")


def _kilobytes(pid: int, file: str, field: str) -> int:
    """A field in bytes; 0 where the process is gone.

    Raises:
        PermissionError: the process doesn't tell us.
    """
    try:
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    except (ProcessLookupError, FileNotFoundError):
        pass
    return 0


def cpu_time(pid: int) -> float:
    """Seconds of processor time of a process and of the children it has waited for; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / _TICKS


def start_time(pid: int) -> int | None:
    """When a process started, in ticks since boot: with the pid it names one process; None where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def threads(pid: int) -> list[int]:
    try:
        return [int(thread.name) for thread in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []


def kill(pid: int) -> None:
    """SIGKILL, and no complaint where the process is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class Handle:
    """One process, and never another that got its pid later."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._descriptor = -1

    def kill(self) -> None:
        """SIGKILL, and no complaint where the process is gone."""
        self.send(signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, and no complaint where the process is gone."""
        if self._descriptor >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    async def ended(self) -> None:
        """Returns once the process has ended, reaped or not. For one caller at a time."""
        if self._descriptor >= 0:
            await readable(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


async def readable(descriptor: int) -> None:
    """Returns once a descriptor can be read. For one caller at a time."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)

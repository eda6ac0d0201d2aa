"""Watches a sandbox's memory where no cgroup can: sums its processes' share of memory, many times a second."""

import asyncio
import resource
from contextlib import suppress

from steps.sandbox import processes
from steps.sandbox.limits import Language, Limits

INTERVAL = 0.05
OVERHEAD_MEMORY = 8_000_000
OVERHEAD_PROCESSES = 1
SLACK = 64_000_000


class Watchdog:
    """The memory, in bytes, of the processes below ``pid``; ``exceeded`` says that it has passed the limit."""

    def __init__(self, pid: int, limit: int) -> None:
        self._pid = pid
        self._limit = limit + OVERHEAD_MEMORY
        self.peak = 0
        self.exceeded = False

    async def wait(self) -> None:
        """Returns once the limit is passed."""
        while not self.exceeded:
            total = sum(processes.proportional_memory(pid) for pid in processes.descendants(self._pid))
            self.peak = max(self.peak, total)
            self.exceeded = total > self._limit
            await asyncio.sleep(0 if self.exceeded else INTERVAL)


def limit_by_rlimits(pid: int, language: Language, limits: Limits) -> None:
    """Set what rlimits can for the processes below ``pid``.

    The data limit only stops what grows faster than the watchdog looks; the process limit is exact from Linux 5.14,
    where it counts within the sandbox's user namespace.
    """
    data = 2 * limits.memory + SLACK
    count = limits.pids + OVERHEAD_PROCESSES
    for process in processes.descendants(pid):
        with suppress(ProcessLookupError):
            if language != "javascript":
                # V8 takes address space that it may never use, and has a limit of its own.
                resource.prlimit(process, resource.RLIMIT_DATA, (data, data))
            resource.prlimit(process, resource.RLIMIT_NPROC, (count, count))

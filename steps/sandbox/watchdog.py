"""Watches a sandbox's memory where no cgroup can: sums what /proc tells of it, many times a second."""

import asyncio
import resource
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from steps.sandbox import processes, sockets
from steps.sandbox.limits import Language, Limits

INTERVAL = 0.05
OVERHEAD_MEMORY = 8_000_000
OVERHEAD_PROCESSES = 1
SLACK = 64_000_000


class Watchdog:
    """The memory, in bytes, of the processes below ``pid``; ``exceeded`` says that it has passed the limit.

    Page tables and what waits in sockets count as well: the kernel's memory, which a process could fill unseen.
    """

    def __init__(self, pid: int, limit: int) -> None:
        self._pid = pid
        self._limit = limit + OVERHEAD_MEMORY
        self.peak = 0
        self.exceeded = False

    async def wait(self) -> None:
        """Returns once the limit is passed."""
        loop = asyncio.get_running_loop()
        # A thread of its own: how long the kernel needs for an answer is in the hands of the code.
        thread = ThreadPoolExecutor(1, "watchdog")
        try:
            while not self.exceeded:
                total = await loop.run_in_executor(thread, self._measure)
                self.peak = max(self.peak, total)
                self.exceeded = total > self._limit
                await asyncio.sleep(0 if self.exceeded else INTERVAL)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

    def _measure(self) -> int:
        below = list(processes.descendants(self._pid))
        mapped = sum(processes.proportional_memory(pid) + processes.page_tables(pid) for pid in below)
        return mapped + (sockets.held(below[0]) if below else 0)


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

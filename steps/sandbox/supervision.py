"""How long a job may talk: to its end, to its timeout, or until its memory is used up. The same for every runner."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from steps.sandbox.conversation import Conversation
from steps.sandbox.limits import Limits
from steps.sandbox.protocol import SandboxLostError


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a job's conversation went. ``duration`` in seconds; ``timed_out`` says that its time was over."""

    duration: float
    timed_out: bool


async def never() -> bool:
    """No: for a job that brings no files."""
    return False


async def supervise(
    said: Conversation,
    limits: Limits,
    *,
    exhausted: Coroutine[Any, Any, None],
    cut_off: Callable[[], None],
    filled: Callable[[], Awaitable[bool]] = never,
) -> Course:
    """Let a conversation run to its end, or bring that about.

    ``exhausted`` returns once the job's memory is used up; ``cut_off`` ends the stream of a conversation that goes on
    when it should be over; ``filled`` says of a sandbox that ended before it took the job whether the job's own files
    were too much for it.

    Raises:
        SandboxLostError: the sandbox ended before it took the job.
    """
    started = time.perf_counter()
    talking, watching = asyncio.ensure_future(said.run()), asyncio.ensure_future(exhausted)
    waiting: set[asyncio.Future[None]] = {talking, watching}
    timed_out = False
    try:
        done, _pending = await asyncio.wait(waiting, timeout=limits.timeout, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            timed_out = True
            said.signal(signal.SIGTERM)
            await asyncio.wait(waiting, timeout=limits.grace, return_when=asyncio.FIRST_COMPLETED)
        duration = time.perf_counter() - started
        if watching.done():
            watching.result()
        if not talking.done():
            cut_off()
        await talking
    finally:
        if not talking.done():
            cut_off()
        for each in waiting:
            if not each.done():
                each.cancel()
                with suppress(asyncio.CancelledError):
                    await each
    if not said.taken and said.failure is None and not await filled():
        raise SandboxLostError
    return Course(duration=duration, timed_out=timed_out)

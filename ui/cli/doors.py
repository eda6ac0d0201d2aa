"""From a command's coroutine to an exit status: the one place where errors become messages and statuses."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import typer

from flows.errors import StepboxError
from ui.cli.options import Output
from ui.cli.show import show_error

INTERRUPTED = 130
"""The exit status after SIGINT or SIGTERM."""


def leave(work: Callable[[], Coroutine[Any, Any, int]], output: Output = Output.TEXT) -> NoReturn:
    """Run a command to its end and exit with the status it gives.

    A :class:`StepboxError` is shown, as JSON on standard output where that was asked for, and exits with its own
    status. SIGINT and SIGTERM cancel the command, which cleans up behind itself, and exit with 130.
    """
    try:
        status = asyncio.run(_cancelled_by_sigterm(work))
    except StepboxError as problem:
        show_error(problem, output)
        status = problem.exit_status
    except (KeyboardInterrupt, asyncio.CancelledError):
        status = INTERRUPTED
    raise typer.Exit(status)


async def _cancelled_by_sigterm(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work()

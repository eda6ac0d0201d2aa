"""From a command's work to an exit status: the one place where errors become messages and statuses."""

import signal
import sys
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, NoReturn

import typer

from flows.errors import InvalidCallError, StepboxError
from ui.cli import INTERRUPTED, SIGNALS, Interrupted, interrupt
from ui.cli.options import Output
from ui.cli.show import answered, show_error
from ui.cli.streams import OutputError

Work = Callable[[], int | Coroutine[Any, Any, int]]


CANCELLATIONS = 2
"""How many signals the work may answer itself."""


class CommandInterruptedError(StepboxError):
    """A signal ended the command before there was anything else to say."""

    code = "interrupted"
    exit_status = INTERRUPTED


def leave(work: Work, output: Output = Output.TEXT) -> NoReturn:
    """Do a command's work and exit with the status it gives.

    The work is done by a plain function, or begun by it and done by the coroutine that it returns: reading that may
    wait for a person belongs in the function, where a signal ends it at once.

    A :class:`StepboxError` is shown, as JSON on standard output where that was asked for, and exits with its own
    status. SIGINT, SIGTERM and SIGHUP cancel the coroutine, which cleans up behind itself; a second one cancels that,
    and a third one ends it, whatever it is doing. All exit with 130.
    """
    try:
        _refuse_other_encodings(sys.argv[1:])
        begun = work()
        status = begun if isinstance(begun, int) else _run(begun)
    except OutputError as problem:
        show_error(problem, Output.TEXT)
        status = problem.exit_status
    except StepboxError as problem:
        show_error(problem, output)
        status = problem.exit_status
    except Interrupted:
        if output is Output.JSON and not answered():
            show_error(CommandInterruptedError("the command was interrupted"), output)
        status = INTERRUPTED
    raise typer.Exit(status)


def _refuse_other_encodings(arguments: list[str]) -> None:
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise InvalidCallError(f"the argument {argument!r} is not UTF-8", fix="write it in UTF-8") from None


def _run(work: Coroutine[Any, Any, int]) -> int:
    import asyncio

    signals = 0

    async def cancellable() -> int:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def cancel(_signal: int, _frame: FrameType | None) -> None:
            nonlocal signals
            signals += 1
            if signals > CANCELLATIONS or task is None or task.done():
                raise Interrupted
            # Wakes the loop, which may be waiting.
            loop.call_soon_threadsafe(task.cancel)

        for number in SIGNALS:
            if signal.getsignal(number) is interrupt:
                signal.signal(number, cancel)
        return await work

    try:
        return asyncio.run(cancellable())
    except asyncio.CancelledError:
        raise Interrupted from None
    finally:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, interrupt)

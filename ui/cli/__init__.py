"""The command line: ``stepbox``."""

import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What interrupts a command, unless the caller has it ignored, as ``nohup`` does."""

INTERRUPTED = 130
"""The exit status after one of them."""


class Interrupted(SystemExit):
    """A signal ends the command: without a word, whatever it is doing."""

    def __init__(self) -> None:
        super().__init__(INTERRUPTED)


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    """End the command here; the handler of the signals until a command has work to cancel."""
    raise Interrupted


def main() -> None:
    """Run the command line; the entry point of the ``stepbox`` script."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)

    from ui.cli.app import app
    from ui.cli.streams import prepare

    prepare()
    app()

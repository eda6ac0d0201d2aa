"""The standard streams, of which any may be closed, go away on the way, or not take every character."""

import errno
import os
import sys
from contextlib import suppress
from typing import IO, Literal, TextIO, cast

from flows.errors import StepboxError

GONE = {errno.EPIPE, errno.EIO}
"""The reader of a pipe has left; the terminal has."""


class OutputError(StepboxError):
    """Standard output is there but takes nothing more, as on a full disk."""

    code = "output_failed"


def prepare() -> None:
    """Make the streams fit for any text: closed ones lead nowhere, what an encoding doesn't have is written out."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - for the life of the process
        elif mode == "w":
            stream.reconfigure(errors="backslashreplace")


class Stream:
    """A standard stream whose reader may leave: what is written then goes nowhere, and the command goes on.

    Raises:
        OutputError: on writing, where standard output takes no more for another reason.
    """

    def __init__(self, name: Literal["stdout", "stderr"]) -> None:
        self._name = name
        self._stream: TextIO = getattr(sys, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as problem:
            self._abandon(problem)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as problem:
            self._abandon(problem)

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:
        return self._stream.encoding

    def as_file(self) -> IO[str]:
        """For those who ask for a file but only write to it."""
        return cast("IO[str]", self)

    def _abandon(self, problem: OSError) -> None:
        # What the stream still holds would fail once more at the end of the process.
        with suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
        if self._name == "stdout" and problem.errno not in GONE:
            raise OutputError(f"can't write to standard output: {problem.strerror}") from problem

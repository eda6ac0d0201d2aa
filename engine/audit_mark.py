"""How far chains of the audit have come, beside the database: a small file of the home for each.

Whoever can write only to the database can't take entries back without its saying so: an end that was cut off with a
head to match, or a database restored from a backup. It moves with each entry, so writing it is not synced: a power cut,
unlike the end of a process, may take back the last moves as it may the last commits.
"""

import fcntl
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_log = logging.getLogger(__name__)

_TEXT: Final = re.compile(rb"(\d{20}) ([0-9a-f]{64})\n")
_LENGTH: Final = 86


@dataclass(frozen=True, kw_only=True)
class Mark:
    """The number and the hash of the last entry that this machine has added to a chain."""

    number: int
    hash: str


class Marks:
    """The marks of all chains in a directory, each as text: its number, its hash."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def read(self, workspace: str) -> Mark | None:
        """The mark of a chain, None where there is none that can be read."""
        try:
            return _parsed(self._path(workspace).read_bytes())
        except OSError:
            return None

    def names(self) -> tuple[str, ...]:
        """The workspaces whose chains have a mark."""
        return tuple(sorted(path.stem for path in self.directory.glob("*.head")))

    def move(self, workspace: str, mark: Mark, *, back: bool = False) -> None:
        """Set a mark, unless another process has set a later one; ``back``: also where it is later."""
        try:
            with self._locked(workspace) as descriptor:
                known = _parsed(os.pread(descriptor, _LENGTH, 0))
                if back or known is None or known.number < mark.number:
                    os.pwrite(descriptor, b"%020d %s\n" % (mark.number, mark.hash.encode()), 0)
        except OSError as problem:
            _log.warning("the mark of the audit in %s can't be moved: %s", self.directory, problem.strerror)

    @contextmanager
    def _locked(self, workspace: str) -> Iterator[int]:
        path = self._path(workspace)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileNotFoundError:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _path(self, workspace: str) -> Path:
        return self.directory / f"{workspace}.head"


def _parsed(content: bytes) -> Mark | None:
    found = _TEXT.fullmatch(content)
    return None if found is None else Mark(number=int(found[1]), hash=found[2].decode())

"""Where files lie while they are on their way: a directory of this process, gone with it.

What a killed process left is removed by the next one that makes its own.
"""

import fcntl
import os
import shutil
from pathlib import Path
from threading import Lock

from ulid import ULID


class Spool:
    """Directories below one of this process's own, in ``root``, which processes share. Made when first needed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._making = Lock()
        self._own: Path | None = None
        self._held = -1

    def directory(self) -> Path:
        """A new, empty directory, which only this user can enter.

        Raises:
            OSError: it can't be made.
        """
        with self._making:
            if self._own is None:
                self._own = self._open()
        made = self._own / str(ULID())
        made.mkdir(mode=0o700)
        return made

    def close(self) -> None:
        """Remove all of this process's directories."""
        with self._making:
            if self._own is not None:
                shutil.rmtree(self._own, ignore_errors=True)
                os.close(self._held)
                self._own = None

    def _open(self) -> Path:
        self._root.mkdir(parents=True, mode=0o700, exist_ok=True)
        shared = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # So that nobody removes a directory that is made and not held yet.
            fcntl.flock(shared, fcntl.LOCK_EX)
            for left in self._root.iterdir():
                _remove_left(left)
            own = self._root / str(ULID())
            own.mkdir(mode=0o700)
            self._held = os.open(own, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._held, fcntl.LOCK_EX)
        finally:
            os.close(shared)
        return own


def _remove_left(directory: Path) -> None:
    """Remove the directory of a process that is no more."""
    try:
        held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        shutil.rmtree(directory, ignore_errors=True)
    finally:
        os.close(held)

"""Files that people name: read up to a limit, and only where reading can't hang."""

import errno
import os
import stat
from pathlib import Path


def read_file(path: Path, *, limit: int) -> bytes:
    """What a file holds, but not more than ``limit`` + 1 bytes: one more than the limit says that there is more.

    Raises:
        OSError: it can't be read, or is not a regular file: a directory, a pipe, a device.
    """
    # A pipe without a writer would block already when it is opened.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit + 1)
    finally:
        os.close(descriptor)


def can_be_written(path: Path) -> bool:
    """Whether this user may write the file or directory, and make files beside it, or may make what isn't there yet."""
    if os.path.exists(path):  # noqa: PTH110 - no error where a parent is another user's
        return os.access(path, os.W_OK) and os.access(path.parent, os.X_OK | (0 if path.is_dir() else os.W_OK))
    there = next((parent for parent in path.absolute().parents if os.path.exists(parent)), None)  # noqa: PTH110 - the same
    return there is not None and there.is_dir() and os.access(there, os.W_OK | os.X_OK)

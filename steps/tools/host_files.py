"""Files of this machine that a flow's own tool steps may import: those below its directories, links followed."""

from collections.abc import Sequence
from glob import glob
from pathlib import Path, PurePosixPath
from typing import Final

from steps.tools.contract import InvalidArgumentsError, NotFoundError, NotGrantedError, TooLargeError

MAX_FILE: Final = 100_000_000
"""Bytes of one file."""

MAX_FOUND: Final = 1000
"""Files that a pattern may name."""


def read(name: str, directories: Sequence[Path]) -> tuple[Path, bytes]:
    """A file below one of the directories, by a name that counts from the first of them, and its content.

    Raises:
        NotGrantedError: there are no directories, or the file isn't below them.
        NotFoundError: there is no such file, or it can't be read.
        TooLargeError: it has more than ``MAX_FILE`` bytes.
    """
    path = (_first(directories) / name).resolve()
    if not any(path.is_relative_to(directory.resolve()) for directory in directories):
        raise NotGrantedError(
            f"{name!r} is outside of the directories that this flow may read", fix=f"put it below {directories[0]}"
        )
    try:
        if not path.is_file():
            raise NotFoundError(f"there is no file {path}", fix="check the path; it counts from the flow's directory")
        check_size(path.stat().st_size)
        return path, path.read_bytes()
    except OSError as error:
        raise NotFoundError(f"{path} can't be read: {error.strerror}", fix="check its permissions") from None


def find(pattern: str, directories: Sequence[Path]) -> list[str]:
    """The files that a pattern names, sorted, from the first directory; hidden ones where it begins a name with a dot.

    Raises:
        NotGrantedError: there are no directories.
        InvalidArgumentsError: the pattern leaves the directory.
        TooLargeError: it names more than ``MAX_FOUND`` files.
    """
    root = _first(directories)
    if PurePosixPath(pattern).is_absolute() or ".." in PurePosixPath(pattern).parts:
        raise InvalidArgumentsError(
            f"{pattern!r} leaves the flow's directory", fix="write it from there: `incoming/*.csv`"
        )
    # Unlike that of a Path, this glob leaves hidden files out, as shells do.
    names = glob(pattern, root_dir=root, recursive=True)  # noqa: PTH207
    found = sorted(name for name in names if (root / name).is_file())
    if len(found) > MAX_FOUND:
        raise TooLargeError(f"{pattern!r} names {len(found)} files, more than {MAX_FOUND}", fix="name fewer at a time")
    return found


def check_size(size: int) -> None:
    """Refuse what is too large for a file.

    Raises:
        TooLargeError: it is.
    """
    if size > MAX_FILE:
        raise TooLargeError(f"a file may have {MAX_FILE} bytes, not {size}", fix="split it")


def _first(directories: Sequence[Path]) -> Path:
    if not directories:
        raise NotGrantedError(
            "files of this machine can't be imported from here",
            fix="import the file in a tool step of the flow, or pass its content",
        )
    return directories[0]

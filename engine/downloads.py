"""Files that people take out of Stepbox: written below one directory, whatever their names and whatever lies there."""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Final

from ulid import ULID

from flows.errors import InvalidCallError, StepboxError

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMED: Final = 5


class DownloadBlockedError(InvalidCallError):
    """Something lies where files are to be written; none of them has been."""

    code = "download_blocked"


class DownloadFailedError(StepboxError):
    """A file can't be written."""

    code = "download_failed"


def save(files: Mapping[str, Path], directory: Path, *, overwrite: bool) -> Sequence[Path]:
    """Copy files, by their paths below ``directory``, which is made; gives where each is.

    Each is there as a whole or not at all. Links within the directory are not followed, and with ``overwrite`` replaced
    where a file is to be. Nothing is written where a file is in the way.

    Raises:
        DownloadBlockedError: a file, a link or a directory is in the way.
        DownloadFailedError: the directory can't be written.
    """
    for path in files:
        if _unsafe(path):
            raise DownloadFailedError(f"{path!r} is no path within a directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as problem:
        raise _failed(directory, problem) from problem
    try:
        blocked = [path for path in files if not overwrite and _exists(root, path)]
        if blocked:
            more = f" and {len(blocked) - _NAMED:,} more" if len(blocked) > _NAMED else ""
            raise DownloadBlockedError(
                f"these are in the way: {', '.join(str(directory / path) for path in blocked[:_NAMED])}{more}",
                fix="take another directory by --to, or replace them by --overwrite",
            )
        for path, content in files.items():
            _write(root, path, content, directory, overwrite=overwrite)
    finally:
        os.close(root)
    return [directory / path for path in files]


def _unsafe(path: str) -> bool:
    return "\0" in path or any(name in {"", ".", ".."} for name in path.split("/"))


def _exists(root: int, path: str) -> bool:
    """Whether something is where the file is to be; a link counts, wherever it leads."""
    with suppress(OSError), _folder(root, PurePosixPath(path).parent, make=False) as folder:
        os.stat(PurePosixPath(path).name, dir_fd=folder, follow_symlinks=False)
        return True
    return False


def _write(root: int, path: str, content: Path, directory: Path, *, overwrite: bool) -> None:
    name = PurePosixPath(path).name
    part = f".{ULID()}.part"
    try:
        with _folder(root, PurePosixPath(path).parent, make=True) as folder:
            target = os.open(
                part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=folder
            )
            try:
                with content.open("rb") as source, os.fdopen(target, "wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
                if overwrite:
                    os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
                    return
                # Unlike renaming, this fails where something has come to be there meanwhile.
                os.link(part, name, src_dir_fd=folder, dst_dir_fd=folder)
                os.unlink(part, dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(part, dir_fd=folder)
                raise
    except OSError as problem:
        raise _failed(directory / path, problem) from problem


@contextmanager
def _folder(root: int, path: PurePosixPath, *, make: bool) -> Iterator[int]:
    """The directory of a path below the root, through directories only."""
    here = os.dup(root)
    try:
        for name in path.parts:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=here)
            below = os.open(name, _FOLDER, dir_fd=here)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


def _failed(place: Path, problem: OSError) -> StepboxError:
    if problem.errno in {errno.ELOOP, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}:
        return DownloadBlockedError(
            f"{place} can't be written, because a link, a file or a directory is in the way",
            fix="take another directory by --to",
        )
    reason = problem.strerror or str(problem)
    return DownloadFailedError(f"{place} can't be written: {reason}", fix="take another directory by --to")

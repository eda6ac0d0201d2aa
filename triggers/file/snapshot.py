"""What is in a directory at one moment, and what differs between two of them. Pure but for :func:`scan`."""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from flows.values import Json


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one state of a file from another: ``size`` in bytes, ``modified`` in nanoseconds since 1970."""

    size: int
    modified: int
    inode: int


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The files by their path below the directory, with ``/``. What is below ``unreadable`` paths isn't known."""

    files: Mapping[str, Stamp] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Directories that can't be read, with the reason; the path of the directory itself is empty."""

    def document(self) -> Json:
        """The files as JSON, to be kept."""
        return {path: [one.size, one.modified, one.inode] for path, one in self.files.items()}

    @classmethod
    def read(cls, document: Mapping[str, Json]) -> Self:
        """The snapshot of what :meth:`document` gave."""
        return cls(files={path: Stamp(*numbers) for path, numbers in document.items()})


@dataclass(frozen=True, kw_only=True)
class Change:
    """One difference. ``stamp`` is the file as it is now, None where it is gone; ``before`` as it was."""

    path: str
    kind: Literal["added", "modified", "deleted"]
    stamp: Stamp | None
    before: Stamp | None


def differences(known: Snapshot, found: Snapshot) -> Iterator[Change]:
    """What has changed, the oldest file first. A file in a directory that can't be read is not taken for deleted."""
    present = [path for path, stamp in found.files.items() if known.files.get(path) != stamp]
    for path in sorted(present, key=lambda each: (found.files[each].modified, each)):
        before = known.files.get(path)
        yield Change(path=path, kind="modified" if before else "added", stamp=found.files[path], before=before)
    hidden = tuple(f"{path}/" if path else "" for path in found.unreadable)
    for path in sorted(known.files.keys() - found.files.keys()):
        if not path.startswith(hidden):
            yield Change(path=path, kind="deleted", stamp=None, before=known.files[path])


class Glob:
    """Which paths below the directory are meant: ``*`` and ``?`` within a name, ``**`` for any directories.

    Names that begin with a dot are meant only by patterns with a name that does, so that what is being written under
    such a name, as rsync and editors do, is left alone.
    """

    def __init__(self, pattern: str) -> None:
        """Read a pattern."""
        import re  # noqa: PLC0415 - only file triggers need it

        from fsspec.utils import glob_translate  # noqa: PLC0415 - the same

        parts = pattern.split("/")
        self._expression = re.compile(glob_translate(pattern))
        self._within = re.compile(glob_translate("/".join([*parts[:-1], "**" if parts[-1] == "**" else "*"])))
        self._depth = None if "**" in parts else len(parts)
        self._dots = any(part.startswith(".") for part in parts)

    def matches(self, path: str) -> bool:
        """Whether a file is meant."""
        return self._expression.match(path) is not None

    def enters(self, path: str) -> bool:
        """Whether files below a directory may be meant."""
        return self._depth is None or path.count("/") + 1 < self._depth

    def reaches(self, directory: str) -> bool:
        """Whether a file of some name in a directory may be meant."""
        names = directory.split("/")
        if not all(self.sees(name) for name in names):
            return False
        return self._within.match("/".join([*names, "x"])) is not None

    def sees(self, name: str) -> bool:
        """Whether a name may be meant."""
        return self._dots or not name.startswith(".")


def scan(directory: Path, glob: Glob) -> Snapshot:
    """The files of a directory that a pattern means.

    A symlink to a file counts as that file; one to a directory isn't entered, so that no loop is and nothing outside. A
    directory that isn't there is one that can't be read.
    """
    files: dict[str, Stamp] = {}
    unreadable: dict[str, str] = {}
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(directory / below) as entries:
                for entry in entries:
                    path = f"{below}/{entry.name}" if below else entry.name
                    if not glob.sees(entry.name):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        if glob.enters(path):
                            waiting.append(path)
                    elif glob.matches(path) and (found := _stamp(entry)) is not None:
                        files[path] = found
        except FileNotFoundError as error:
            # One below may have gone meanwhile; the directory itself isn't there yet, or not any more.
            if not below:
                unreadable[below] = error.strerror or str(error)
        except OSError as error:
            unreadable[below] = error.strerror or str(error)
    return Snapshot(files=files, unreadable=unreadable)


def _stamp(entry: "os.DirEntry[str]") -> Stamp | None:
    """The state of a file; None where it is none, or has gone."""
    try:
        status = entry.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ino)

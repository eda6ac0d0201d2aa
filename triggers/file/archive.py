"""Moving files that were told of into an archive: atomically, and never over another file."""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from flows.values import Json
from triggers.file.snapshot import Stamp
from triggers.file.source import key_of

_MOST: Final = 10_000
"""Files of one name in an archive."""

State = Literal["there", "moved", "changed", "gone"]


def place_for(archive: Path, name: str) -> Path:
    """A place in the archive that nothing has yet: of the file's own name, or with a number, as ``report-2.csv``.

    Raises:
        FileExistsError: there are too many of that name.
    """
    for place in _places(archive, name):
        if not os.path.lexists(place):
            return place
    raise FileExistsError(errno.EEXIST, "the archive has too many files of that name", name)


def state_of(key: str | None, data: Mapping[str, Json]) -> State:
    """How a file that an event tells of stands, whose ``path`` says where it is to be, or is.

    ``there``: where it came; ``moved``: in its place; ``changed``: another state of it is where it came; ``gone``.
    """
    original, place = Path(data["original"]), Path(data["path"])
    came, moved = _status(original), _status(place)
    if came is not None:
        stamp = Stamp(came.st_size, came.st_mtime_ns, came.st_ino)
        return "there" if key_of(original, data["change"], stamp) == key else "changed"
    return "gone" if moved is None else "moved"


def move(original: Path, place: Path) -> None:
    """Move a file to a place that nothing has.

    Where this was cut off between its two parts, the file is at both; doing it again completes it.

    Raises:
        FileExistsError: another file has the place.
        OSError: it can't be moved, as to another file system.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place.parent)) from None
    try:
        os.link(original, place, follow_symlinks=False)
    except FileExistsError:
        if not os.path.samestat(os.lstat(original), os.lstat(place)):
            raise
    with suppress(FileNotFoundError):
        original.unlink()


def _places(archive: Path, name: str) -> Iterator[Path]:
    yield archive / name
    own = Path(name)
    for number in range(2, _MOST):
        yield archive / f"{own.stem}-{number}{own.suffix}"


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None

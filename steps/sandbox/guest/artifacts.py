"""Files across the boundary: those that a step finds when it starts, and those that it leaves for others.

Runs in the supervisor, and only where there are some. Nothing here is trusted by the host (steps/sandbox/artifacts.py).
"""

# ruff: noqa: PTH103, PTH118, PTH120, SIM105 - pathlib and contextlib would slow each start

from __future__ import annotations

import errno
import os
import stat

from steps.sandbox.guest import framing, kernel
from steps.sandbox.guest.json_text import dumps

# Importing `typing` alone would take longer than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
CHUNK = 256 * 1024
MAX_TOLD = 20
"""Files that are named because they are left out; of others only the number is told."""
MAX_TOLD_PATH = 4096
_LEFT_OUT = {
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFBLK: "device",
    stat.S_IFCHR: "device",
}


class Incoming:
    """Puts the files that the host sends into a directory in which nobody else works yet."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._file = -1

    def hear(self, header: dict[str, Any], payload: bytes) -> None:
        """Take a frame: ``folder``, ``file``, or the next ``content`` of that file.

        Raises:
            OSError: there is no room.
        """
        if header["kind"] == "content":
            framing.write_all(self._file, payload)
            return
        self.close()
        path = os.path.join(self._directory, payload.decode())
        if header["kind"] == "folder":
            os.makedirs(path, exist_ok=True)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)

    def close(self) -> None:
        """The last file is complete."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def take_files(
    line: int, frame: tuple[dict[str, Any], bytes] | None, directory: str
) -> tuple[dict[str, Any], bytes] | None:
    """Put files into a directory as long as they come, ``frame`` being the first; gives what follows them.

    Raises:
        OSError: there is no room.
    """
    incoming = Incoming(directory)
    while frame is not None and frame[0]["kind"] in ("folder", "file", "content"):
        incoming.hear(*frame)
        frame = framing.read_frame(line)
    incoming.close()
    return frame


class Left:
    """Writes the files that JavaScript leaves, which has no file system of its own, into a directory that only it has.

    A file comes in pieces, each with the ``id`` of the call and its ``path``; the ``first`` and the ``last`` say so.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._file = -1
        self._wrong: dict[str, str] | None = None

    def hear(self, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes] | None:
        """Take a piece; gives the answer after the last.

        Raises:
            framing.BrokenFrameError: it is none.
        """
        number, path = header.get("id"), header.get("path")
        if not isinstance(number, int) or not isinstance(path, str):
            raise framing.BrokenFrameError
        if header.get("first") is True:
            self._wrong = None
            self._close()
            self._attempt(lambda: self._begin(path))
        if self._wrong is None:
            self._attempt(lambda: framing.write_all(self._file, payload))
        if header.get("last") is not True:
            return None
        self._close()
        told = dumps(self._wrong).encode(errors="replace")
        return {"kind": "tool_result", "id": number, "ok": self._wrong is None}, told

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            code = "disk_full" if error.errno == errno.ENOSPC else "artifact_not_written"
            self._wrong = {"code": code, "message": f"the artifact can't be written: {os.strerror(error.errno or 0)}"}
        except ValueError:
            self._wrong = {"code": "artifact_not_written", "message": "that is no name of an artifact"}

    def _begin(self, path: str) -> None:
        if "\0" in path or any(name in ("", ".", "..") for name in path.split("/")):
            raise ValueError
        place = os.path.join(self._directory, path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        self._file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def end_everything() -> None:
    """Kill all other processes, and return once there is none: what is read from now on nobody changes.

    Only the first process of a sandbox may do this, whose descendants are all that there is.
    """
    if os.getpid() != 1:
        raise RuntimeError("only the first process of a sandbox may end everything else")
    while True:
        try:
            os.kill(-1, kernel.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


class Passed(Exception):  # noqa: N818 - it is no error, but the end of the walk
    """A limit has been passed; nothing further is looked at."""


class Collector:
    """Finds the regular files below a directory, and sends them to the host over its ``line``.

    ``limits`` are ``bytes`` of all together, ``files``, ``depth`` in directories and ``path`` in bytes. The host holds
    to them itself; here they save the way.
    """

    def __init__(self, limits: dict[str, int], line: int) -> None:
        self._limits = limits
        self._line = line
        self._frames: list[bytes] = []
        self._waiting = 0
        self._found: list[tuple[bytes, int]] = []
        self._bytes = 0
        self._left_out = 0

    def collect(self, directory: str) -> None:
        """Tell the host of every file, then send the content of each in that order."""
        try:
            self._collect(directory)
        except Passed:
            pass
        self._flush()

    def _collect(self, directory: str) -> None:
        try:
            root = os.open(directory, FOLDER)
        except OSError as error:
            if error.errno != errno.ENOENT:
                self._leave_out(b"", "unreadable" if error.errno == errno.EACCES else "no_directory")
            self._send({"kind": "collected", "omitted": self._left_out})
            return
        self._walk(root, b"", 0)
        for path, size in self._found:
            self._send({"kind": "artifact", "size": size}, path)
        for number, (path, size) in enumerate(self._found):
            self._send_content(root, number, path, size)
        self._send({"kind": "collected", "omitted": self._left_out})

    def _walk(self, folder: int, prefix: bytes, depth: int) -> None:
        for name in sorted(map(os.fsencode, os.listdir(folder))):
            path = prefix + name
            try:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except OSError:
                self._leave_out(path, "unreadable")
                continue
            kind = stat.S_IFMT(found.st_mode)
            if kind in _LEFT_OUT:
                self._leave_out(path, _LEFT_OUT[kind])
            elif not _is_text(name):
                self._leave_out(path, "name")
            elif kind == stat.S_IFDIR:
                self._descend(folder, name, path, depth)
            else:
                self._find(folder, name, path, found.st_size)

    def _descend(self, folder: int, name: bytes, path: bytes, depth: int) -> None:
        if depth == self._limits["depth"]:
            self._pass("depth", path)
        try:
            below = os.open(name, FOLDER, dir_fd=folder)
        except OSError:
            self._leave_out(path, "unreadable")
            return
        try:
            self._walk(below, path + b"/", depth + 1)
        finally:
            os.close(below)

    def _find(self, folder: int, name: bytes, path: bytes, size: int) -> None:
        if not os.access(name, os.R_OK, dir_fd=folder):
            self._leave_out(path, "unreadable")
            return
        self._bytes += size
        if len(path) > self._limits["path"]:
            self._pass("path", path)
        if len(self._found) == self._limits["files"]:
            self._pass("files", path)
        if self._bytes > self._limits["bytes"]:
            self._pass("bytes", path, size)
        self._found.append((path, size))

    def _leave_out(self, path: bytes, why: str) -> None:
        self._left_out += 1
        if self._left_out <= MAX_TOLD:
            self._send({"kind": "omitted", "why": why}, path[:MAX_TOLD_PATH])

    def _pass(self, limit: str, path: bytes, size: int = 0) -> None:
        self._send({"kind": "beyond", "limit": limit, "size": size}, path[:MAX_TOLD_PATH])
        raise Passed

    def _send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        """Send a frame, small ones together: each write costs more than what is in them."""
        self._frames.append(framing.encode(header, payload))
        self._waiting += len(self._frames[-1])
        if self._waiting >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        framing.write_all(self._line, b"".join(self._frames))
        self._frames.clear()
        self._waiting = 0

    def _send_content(self, root: int, number: int, path: bytes, size: int) -> None:
        """Send what the file had when it was found; where that can't be read any more, the host sees it missing."""
        try:
            file = _open(root, path)
        except OSError:
            file = -1
        while file >= 0 and size and (data := os.read(file, min(CHUNK, size))):
            size -= len(data)
            self._send({"kind": "content", "artifact": number}, data)
        if file >= 0:
            os.close(file)
        self._send({"kind": "complete", "artifact": number})


def _open(root: int, path: bytes) -> int:
    """Open a regular file below the root, through directories only."""
    *folders, name = path.split(b"/")
    here = os.dup(root)
    try:
        for folder in folders:
            below = os.open(folder, FOLDER, dir_fd=here)
            os.close(here)
            here = below
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
    finally:
        os.close(here)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "no regular file")
    return file


def _is_text(name: bytes) -> bool:
    """Whether it is UTF-8 without control characters."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return False
    return not any(letter < " " or "\x7f" <= letter <= "\x9f" for letter in text)

"""Files across the boundary, as the host sees them: those that a step gets, and those that it leaves as artifacts.

Both are files on this machine: what comes is read from where it lies, what goes is written into a directory of the
engine's, under names of the engine's, and its digest is made here. Whatever the guest says of a file is hostile: its
path, its size, that there is more of it, that it is complete. What is more than a limit is dropped as soon as it is
known; what no honest guest says is a :class:`ChannelError`.
"""

import asyncio
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Protocol

from flows.contracts import CollectedFile, StepError, WorkFile
from flows.values import StepStatus
from steps.sandbox import channel
from steps.sandbox.limits import MAX_ARTIFACT_DEPTH, MAX_ARTIFACT_PATH, MAX_ARTIFACTS, Limits

MAX_TOLD: Final = 20
"""Files that are named because they are left out."""
MAX_WORK_FILES: Final = 16_000
"""Files and directories that a work directory has room for, a few less (see the runners' WORK_INODES)."""
PAGE: Final = 4096
PATIENCE: Final = 30.0
"""Seconds that a sandbox may take to tell of its artifacts, or to take its files, whatever their size."""
SLOWEST: Final = 10_000_000
"""Bytes that go through the channel in a second, at the least."""
BATCH: Final = 1 << 20
"""Bytes that go to or come from the disk at a time, in a thread."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_LEFT_OUT = {
    "symlink": "it is a symbolic link; write a copy of the file",
    "fifo": "it is a FIFO, not a file",
    "socket": "it is a socket, not a file",
    "device": "it is a device, not a file",
    "name": "its name is not UTF-8, or has control characters",
    "unreadable": "it can't be read, for its permissions",
    "no_directory": "it is no directory any more",
}


class Line(Protocol):
    """The way to the guest."""

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None: ...
    async def drain(self) -> None:
        """Returns once there is room for more."""


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What came of the files that a step left. ``notes`` are for its log; ``error`` says why none of them is kept."""

    files: tuple[CollectedFile, ...] = ()
    notes: tuple[str, ...] = ()
    error: tuple[StepStatus, StepError] | None = None


def patience(size: int) -> float:
    """Seconds that so many bytes may take through the channel."""
    return PATIENCE + size / SLOWEST


def misfit(files: Sequence[WorkFile], limits: Limits) -> StepError | None:
    """Why a step's files don't fit into its sandbox; None: they do. Files in memory take whole pages."""
    size = sum(-(-file.size // PAGE) * PAGE for file in files)
    if size > limits.disk:
        return StepError(
            code="files_too_large",
            message=f"the files of the step are {_mb(size)}, and its disk has {_mb(limits.disk)}",
            fix="raise limits.disk, or bring fewer files",
        )
    if size > limits.memory:
        return StepError(
            code="files_too_large",
            message=f"the files of the step are {_mb(size)}, and its memory, which they count to, is "
            f"{_mb(limits.memory)}",
            fix="raise limits.memory, or bring fewer files",
        )
    entries = len(files) + len({folder for file in files for folder in _folders(file.path)})
    if entries > MAX_WORK_FILES:
        return StepError(
            code="too_many_files",
            message=f"the files of the step and their directories are {entries:,}, and there is room for "
            f"{MAX_WORK_FILES:,}",
            fix="bring fewer files, or pack them into one",
        )
    return None


async def bring(files: Iterable[WorkFile], line: Line) -> None:
    """Put files into the work directory of a sandbox that has no job yet. Where it is gone, nothing happens.

    Raises:
        TimeoutError: it doesn't take them.
        OSError: a file can't be read.
    """
    files = tuple(files)
    async with asyncio.timeout(patience(sum(file.size for file in files))):
        for folder in sorted({file.path.partition("/")[0] for file in files if "/" in file.path}):
            line.send({"kind": "folder"}, folder.encode())
        for file in files:
            line.send({"kind": "file"}, file.path.encode())
            with file.content.open("rb") as content:
                left = file.size
                while left and (data := await asyncio.to_thread(content.read, min(BATCH, left))):
                    left -= len(data)
                    for start in range(0, len(data), channel.MAX_CONTENT):
                        line.send({"kind": "content"}, data[start : start + channel.MAX_CONTENT])
                        await line.drain()
            if left:
                raise OSError(f"{file.content} is shorter than it was")


async def collect(reader: asyncio.StreamReader, limits: Limits, make_directory: Callable[[], Path]) -> Collected:
    """Take the files that a step left, from the guest's first word of them to its last.

    ``make_directory`` is called once there is a file to be written. What goes wrong is told by the ``error``.
    """
    collection = _Collection(limits, make_directory)
    try:
        async with asyncio.timeout(patience(limits.artifacts)):
            while await collection.take(await channel.read_frame(reader, max_result=0)):
                pass
    except TimeoutError:
        return collection.without(_failed(f"its artifacts took longer than {patience(limits.artifacts):g} s"))
    except channel.ChannelError as problem:
        return collection.without(_failed(f"the sandbox broke the protocol: {problem}", code="channel_violation"))
    except _PassedError as passed:
        return collection.without((StepStatus.LIMIT_EXCEEDED, passed.error))
    except OSError as problem:
        reason = problem.strerror or str(problem)
        return collection.without(
            _failed(f"its artifacts can't be written on Stepbox's machine: {reason}", fix="make room for them there")
        )
    finally:
        collection.close()
    return collection.collected()


class _PassedError(Exception):
    def __init__(self, code: str, message: str, fix: str) -> None:
        super().__init__(message)
        self.error = StepError(code=code, message=message, fix=fix)


@dataclass(kw_only=True)
class _File:
    """A file on its way; ``got`` counts its bytes."""

    path: str
    size: int
    got: int = 0
    content: Path | None = None
    digest: Any = field(default_factory=sha256)


class _Collection:
    """One attempt's files, from frame to frame."""

    def __init__(self, limits: Limits, make_directory: Callable[[], Path]) -> None:
        self._limits = limits
        self._make_directory = make_directory
        self._directory: Path | None = None
        self._files: list[_File] = []
        self._folders: set[str] = set()
        self._paths: set[str] = set()
        self._bytes = 0
        self._complete = 0
        self._begun = False
        self._notes: list[str] = []
        self._open = -1
        self._waiting = bytearray()

    async def take(self, frame: channel.Frame | None) -> bool:
        """Take a frame; False after the last."""
        match frame:
            case channel.Announced() if not self._begun:
                self._announce(frame)
            case channel.Omitted() if not self._begun and len(self._notes) < MAX_TOLD:
                self._leave_out(frame)
            case channel.Beyond() if not self._begun:
                self._pass(frame.limit, frame.path, frame.size)
            case channel.Content() if frame.artifact == self._complete < len(self._files):
                await self._write(self._files[frame.artifact], frame.data)
            case channel.Complete() if frame.artifact == self._complete < len(self._files):
                await self._finish(self._files[frame.artifact])
            case channel.Collected() if self._complete == len(self._files):
                if (more := frame.omitted - len(self._notes)) > 0:
                    self._notes.append(f"and {more:,} more are left out of the artifacts")
                return False
            case None:
                raise channel.ChannelError("it ended before it had told of all artifacts")
            case _:
                raise channel.ChannelError("a frame out of turn")
        return True

    def collected(self) -> Collected:
        files = []
        for file in self._files:
            if file.got == file.size and file.content is not None:
                digest = file.digest.hexdigest()
                files.append(CollectedFile(path=file.path, size=file.size, sha256=digest, content=file.content))
            else:
                shown = _shown(file.path.encode())
                self._notes.append(f"{shown} is left out of the artifacts: it changed while it was read")
        return Collected(files=tuple(sorted(files, key=lambda file: file.path)), notes=tuple(self._notes))

    def without(self, error: tuple[StepStatus, StepError]) -> Collected:
        """No file is kept."""
        return Collected(notes=tuple(self._notes), error=error)

    def close(self) -> None:
        if self._open >= 0:
            os.close(self._open)
            self._open = -1

    def _announce(self, frame: channel.Announced) -> None:
        path = self._checked(frame.path)
        if len(self._files) == MAX_ARTIFACTS:
            self._pass("files", frame.path, frame.size)
        self._bytes += frame.size
        if self._bytes > self._limits.artifacts:
            self._pass("bytes", frame.path, frame.size)
        self._files.append(_File(path=path, size=frame.size))

    def _checked(self, told: bytes) -> str:
        """The path as text: relative, without anything that means more than a name, and no other file's."""
        try:
            path = told.decode()
        except UnicodeDecodeError:
            raise channel.ChannelError("the path of an artifact is not UTF-8") from None
        names = path.split("/")
        if _CONTROL.search(path) or any(name in {"", ".", ".."} for name in names):
            raise channel.ChannelError("the path of an artifact that is none")
        if len(names) > MAX_ARTIFACT_DEPTH + 1:
            self._pass("depth", told, 0)
        if len(told) > MAX_ARTIFACT_PATH:
            self._pass("path", told, 0)
        folders = _folders(path)
        if path in self._paths or path in self._folders or not self._paths.isdisjoint(folders):
            raise channel.ChannelError("two artifacts of one path")
        self._paths.add(path)
        self._folders.update(folders)
        return path

    def _leave_out(self, frame: channel.Omitted) -> None:
        why = _LEFT_OUT.get(frame.why)
        if why is None:
            raise channel.ChannelError("an artifact that is left out for no known reason")
        self._notes.append(f"{_shown(frame.path)} is left out of the artifacts: {why}")

    def _pass(self, limit: str, path: bytes, size: int) -> None:
        shown = _shown(path)
        match limit:
            case "bytes":
                most = _mb(self._limits.artifacts)
                message = f"{shown} ({_mb(size)}) makes the artifacts larger than {most}"
                raise _PassedError("artifacts_too_large", message, "raise limits.artifacts, or write less")
            case "files":
                message = f"{shown} is one more than the {MAX_ARTIFACTS:,} artifacts that a step may leave"
                raise _PassedError("too_many_artifacts", message, "pack them into one file, such as an archive")
            case "depth":
                message = f"{shown} lies in more than {MAX_ARTIFACT_DEPTH} directories"
                raise _PassedError("artifact_too_deep", message, "write artifacts into fewer directories")
            case "path":
                message = f"the path of {shown} is longer than {MAX_ARTIFACT_PATH:,} bytes"
                raise _PassedError("artifact_path_too_long", message, "give it a shorter name")
            case _:
                raise channel.ChannelError("an unknown limit")

    async def _write(self, file: _File, data: bytes) -> None:
        self._begun = True
        file.got += len(data)
        if file.got > file.size:
            raise channel.ChannelError("more bytes of an artifact than it has")
        self._waiting += data
        if len(self._waiting) >= BATCH:
            await self._flush(file)

    async def _finish(self, file: _File) -> None:
        self._begun = True
        if file.got == file.size:
            await self._flush(file)
        self._waiting.clear()
        self.close()
        self._complete += 1

    async def _flush(self, file: _File) -> None:
        data, self._waiting = self._waiting, bytearray()
        # Of small files going to a thread would take longer than writing them.
        if len(data) < channel.MAX_CONTENT:
            self._put(file, data)
        else:
            await asyncio.to_thread(self._put, file, data)

    def _put(self, file: _File, data: bytearray) -> None:
        if file.content is None:
            if self._directory is None:
                self._directory = self._make_directory()
            file.content = self._directory / str(self._complete)
            self._open = os.open(file.content, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        file.digest.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._open, view) :]


def _failed(what: str, *, code: str = "artifacts_lost", fix: str | None = None) -> tuple[StepStatus, StepError]:
    message = what if code == "channel_violation" else f"the code ended, and {what}"
    return StepStatus.FAILED, StepError(code=code, message=message, fix=fix)


def _folders(path: str) -> list[str]:
    """The directories that a path goes through: ``a`` and ``a/b`` of ``a/b/c``."""
    names = path.split("/")
    return ["/".join(names[:count]) for count in range(1, len(names))]


def _shown(path: bytes) -> str:
    """A path as it may be shown, whatever is in it."""
    text = f"artifacts/{path.decode(errors='backslashreplace')}".removesuffix("/")
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)[:400]


def _mb(size: int) -> str:
    """A size for people, never rounded to what it isn't: ``64 MB``, ``1.000001 MB``."""
    return f"{size / 1_000_000:,.6f}".rstrip("0").rstrip(".") + " MB"

"""The contents of artifacts, kept beside the database by their SHA-256: in a directory, or wherever fsspec reaches.

The same content is kept once. A reader checks what it gets, so that a content which was damaged, or written by half, is
an error and not an answer; keeping it again repairs it.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from ulid import ULID

from engine.store.spool import Spool
from flows.contracts import Artifact, CollectedFile
from flows.errors import StepboxError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Result = TypeVar("Result")

PATIENCE: Final = 30.0
"""Seconds that the place of contents may take for anything, whatever its size."""
SLOWEST: Final = 1_000_000
"""Bytes that it takes or gives in a second, at the least."""
SPOOL: Final = ".spool"
"""Within a directory of contents: what is on its way there, so that it need only be renamed."""
_UNKNOWN_TYPE: Final = "application/octet-stream"
_TYPES: Final[Mapping[str, str]] = {
    ".gz": "application/gzip",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".ndjson": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
    ".sarif": "application/sarif+json",
    ".tgz": "application/gzip",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}


class ArtifactsUnavailableError(StepboxError):
    """The place of artifacts can't be reached, or takes or gives nothing, or not in time."""

    code = "artifacts_unavailable"


class ArtifactDamagedError(StepboxError):
    """What is kept of an artifact is not what was put there, or is gone."""

    code = "artifact_damaged"


class ArtifactContents:
    """Contents under one root: a directory, or an fsspec URL. ``spool`` is for what is on its way to or from a URL.

    The work is done in threads of its own, which hold up neither the store's nor the end of the process.
    """

    def __init__(self, root: str, spool: Path | None = None) -> None:
        self._directory = None if _is_url(root) else Path(root.removeprefix("file://"))
        self._url = root
        self.spool = Spool(self._directory / SPOOL if self._directory else spool or Path(SPOOL))

    async def keep(self, files: Sequence[CollectedFile]) -> tuple[Artifact, ...]:
        """Keep files of the spool, which are no longer there then.

        Raises:
            ArtifactsUnavailableError: they can't be kept, or not in time.
        """
        put = self._put_here if self._directory is not None else self._put_there
        await self._in_time(lambda: put(files), sum(file.size for file in files), "does not take the artifacts")
        return tuple(
            Artifact(
                id=str(ULID()), path=file.path, size=file.size, sha256=file.sha256, media_type=media_type(file.path)
            )
            for file in files
        )

    async def fetch(self, artifacts: Sequence[Artifact], directory: Callable[[], Path]) -> tuple[Path, ...]:
        """Files on this machine with the contents, checked; in ``directory`` where they come from elsewhere.

        Raises:
            ArtifactsUnavailableError: they can't be had, or not in time.
            ArtifactDamagedError: a content is not what was kept.
        """
        size = sum(one.size for one in artifacts)
        get = self._get_here if self._directory is not None else lambda them: self._get_there(them, directory())
        return await self._in_time(lambda: get(artifacts), size, "does not give the artifacts")

    async def old(self, before: datetime, count: int) -> AsyncIterator[list[str]]:
        """The digests of contents last kept ``before``, ``count`` at once; none of contents at a URL."""
        if self._directory is None:
            return
        folders = await asyncio.to_thread(_folders, self._directory)
        digests: list[str] = []
        for folder in folders:
            digests += await asyncio.to_thread(_old_files, folder, before)
            while len(digests) >= count:
                yield digests[:count]
                digests = digests[count:]
        if digests:
            yield digests

    async def remove(self, digests: Sequence[str], before: datetime) -> int:
        """Remove contents, but for those that were kept once more since ``before``; how many."""

        def remove() -> int:
            removed = 0
            for digest in digests:
                content = self._here(digest)
                if _is_old(content, before):
                    content.unlink(missing_ok=True)
                    removed += 1
            return removed

        return await asyncio.to_thread(remove)

    def release(self, files: Sequence[Path]) -> None:
        """Remove what :meth:`fetch` has brought here, where that isn't what is kept itself."""
        if self._directory is None:
            for file in files:
                file.unlink(missing_ok=True)
                with suppress(OSError):
                    file.parent.rmdir()

    async def probe(self) -> None:
        """Look whether the place can be reached at all; of a directory that is known.

        Raises:
            ArtifactsUnavailableError: it can't.
        """
        if self._directory is None:
            await self._in_time(lambda: self._place[0].exists(self._place[1]), 0, "can't be reached")

    async def _in_time(self, work: Callable[[], Result], size: int, otherwise: str) -> Result:
        patience = PATIENCE + size / SLOWEST
        place = "the place of artifacts"
        fix = "see that what STEPBOX_ARTIFACTS_URL names can be reached and written"
        if self._directory is not None:
            fix = f"see that {self._directory} can be written and has room"
        try:
            return await apart(work, patience)
        except TimeoutError:
            raise ArtifactsUnavailableError(f"{place} {otherwise} within {patience:g} s", fix=fix) from None
        except StepboxError:
            raise
        except ImportError as problem:
            message = f"{place} {otherwise}: {problem}"
            raise ArtifactsUnavailableError(message, fix="install that into Stepbox's environment") from problem
        except Exception as problem:
            # Each file system has errors of its own.
            reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
            message = f"{place} {otherwise}: {type(problem).__name__}: {reason[:500]}"
            raise ArtifactsUnavailableError(message, fix=fix) from problem

    def _put_here(self, files: Sequence[CollectedFile]) -> None:
        folders = set()
        for file in files:
            content = self._here(file.sha256)
            content.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _sync(file.content)
            file.content.replace(content)
            folders.add(content.parent)
        for folder in folders:
            _sync(folder)

    def _get_here(self, artifacts: Sequence[Artifact]) -> tuple[Path, ...]:
        found = []
        for one in artifacts:
            found.append(content := self._here(one.sha256))
            _check(one, content)
        return tuple(found)

    def _put_there(self, files: Sequence[CollectedFile]) -> None:
        place, root = self._place
        contents = {_name(root, file.sha256): file for file in files}
        # One of another size was cut off while it was written, where the place doesn't write all or nothing.
        missing = [name for name, file in contents.items() if _size(place, name) != file.size]
        for folder in {name.rpartition("/")[0] for name in missing}:
            place.makedirs(folder, exist_ok=True)
        if missing:
            place.put([str(contents[name].content) for name in missing], missing)

    def _get_there(self, artifacts: Sequence[Artifact], directory: Path) -> tuple[Path, ...]:
        place, root = self._place
        contents = {one.sha256: directory / one.sha256 for one in artifacts}
        with suppress(FileNotFoundError):
            place.get([_name(root, digest) for digest in contents], [str(content) for content in contents.values()])
        for one in artifacts:
            _check(one, contents[one.sha256])
        return tuple(contents[one.sha256] for one in artifacts)

    @cached_property
    def _place(self) -> tuple["AbstractFileSystem", str]:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - slow, and only for other places than directories

        place, root = url_to_fs(self._url)
        return place, root.rstrip("/")

    def _here(self, digest: str) -> Path:
        assert self._directory is not None
        return self._directory / digest[:2] / digest


def _folders(directory: Path) -> list[Path]:
    return sorted(directory.glob("[0-9a-f][0-9a-f]"))


def _old_files(folder: Path, before: datetime) -> list[str]:
    return [content.name for content in sorted(folder.iterdir()) if _is_old(content, before)]


def _is_old(content: Path, before: datetime) -> bool:
    try:
        return content.stat().st_mtime < before.timestamp()
    except FileNotFoundError:
        return False


def media_type(path: str) -> str:
    """What a file is by its name; its content is not looked at."""
    name = path.rpartition("/")[2].lower()
    for ending, known in _TYPES.items():
        if name.endswith(ending) and name != ending:
            return known
    import mimetypes  # noqa: PLC0415 - few runs leave files

    # The system's own tables differ from machine to machine.
    guessed, encoding = mimetypes.MimeTypes(filenames=()).guess_type(name, strict=True)
    return _UNKNOWN_TYPE if guessed is None or encoding is not None else guessed


async def apart(work: Callable[[], Result], seconds: float) -> Result:
    """Do blocking work in a thread that may go on for ever: it is left behind where it does.

    Raises:
        TimeoutError: it took longer.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, problem: BaseException | None) -> None:
        if done.done():
            return
        if problem is not None:
            done.set_exception(problem)
        else:
            done.set_result(result)  # type: ignore[arg-type] # it is one where there is no problem

    def run() -> None:
        result, problem = None, None
        try:
            result = work()
        except BaseException as raised:  # noqa: BLE001 - it belongs to who waits
            problem = raised
        # The loop may be closed by now.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, problem)

    threading.Thread(target=run, name="stepbox-artifacts", daemon=True).start()
    async with asyncio.timeout(seconds):
        return await done


def _is_url(root: str) -> bool:
    return "://" in root and not root.startswith("file://")


def _name(root: str, digest: str) -> str:
    return f"{root}/{digest[:2]}/{digest}"


def _size(place: "AbstractFileSystem", name: str) -> int | None:
    try:
        size: int = place.size(name)
    except FileNotFoundError:
        return None
    return size


def _check(artifact: Artifact, content: Path) -> None:
    try:
        with content.open("rb") as file:
            whole = os.fstat(file.fileno()).st_size == artifact.size
            damaged = not whole or file_digest(file, "sha256").hexdigest() != artifact.sha256
    except FileNotFoundError:
        damaged = True
    if damaged:
        raise ArtifactDamagedError(
            f"what is kept of the artifact {artifact.path!r} is gone or damaged",
            fix="run the step that makes it once more",
        )


def _sync(path: Path) -> None:
    """Have the disk keep a file, or the names in a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

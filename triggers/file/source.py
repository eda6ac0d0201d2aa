"""The files of a directory as events.

What has changed is always found by looking: the system's notices say only when to look. So nothing is lost where
notices are (a full queue, a network file system, a restart), and no file is told of before it has settled.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from flows.events import Arrival, Event
from flows.values import Json
from triggers.file.config import FileTrigger
from triggers.file.snapshot import Change, Glob, Snapshot, Stamp, differences, scan

LOOK: Final = 5.0
"""Seconds between two looks where no notice comes."""
_REST: Final = 5
"""How many times longer than a look took the next one waits at least: a sixth of a processor at the most."""
_SHORTEST: Final = 0.05


class FileSource:
    """Tells of files that appear, change or go, each once it has stayed the same for the trigger's ``settle``.

    ``known`` is the state that was kept, from :attr:`known` of an earlier source: what has changed since then is told
    of. Without one, the files that are there already are not. A file is told of again, with the same key, until it is
    acknowledged; :attr:`known` holds what was.
    """

    def __init__(self, trigger: FileTrigger, *, known: Snapshot | None, look: float = LOOK) -> None:
        """Watch nothing yet."""
        pattern = trigger.file
        self._directory = pattern.directory
        self._glob = Glob(pattern.glob)
        self._changes = frozenset(pattern.changes)
        self._settle = pattern.settle
        self._known = None if known is None else dict(known.files)
        self._look = look
        self._waiting: dict[str, tuple[Change, float]] = {}
        self._offered: dict[str, Stamp | None] = {}
        self._stirred = asyncio.Event()
        self._trouble: str | None = None

    @property
    def known(self) -> Snapshot:
        """The files as they were acknowledged."""
        return Snapshot(files=dict(self._known or {}))

    @property
    def has_looked(self) -> bool:
        """Whether :attr:`known` says what is there, rather than nothing yet."""
        return self._known is not None

    @property
    def trouble(self) -> str | None:
        return self._trouble

    async def arrivals(self) -> AsyncIterator[Arrival]:
        """The changes as they settle."""
        watching = asyncio.create_task(self._watch())
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._stirred.clear()
                began = loop.time()
                found = await asyncio.to_thread(scan, self._directory, self._glob)
                self._note_trouble(found)
                for change in self._settled(found, loop.time()):
                    yield self._arrival(change)
                took = loop.time() - began
                await asyncio.sleep(max(_SHORTEST, took * _REST))
                # Python 3.11's `wait_for` loses a cancellation that comes together with the news.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause(loop.time())):
                        await self._stirred.wait()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    def _settled(self, found: Snapshot, now: float) -> Iterator[Change]:
        if self._known is None:
            if "" in found.unreadable:
                return
            self._known = dict(found.files)
        waiting: dict[str, tuple[Change, float]] = {}
        ready: list[Change] = []
        for change in differences(Snapshot(files=self._known), found):
            if change.path in self._offered and self._offered[change.path] == change.stamp:
                continue
            before, since = self._waiting.get(change.path, (None, now))
            if before is None or before.stamp != change.stamp:
                since = now
            if change.stamp is not None and now - since < self._settle:
                waiting[change.path] = (change, since)
            elif change.kind in self._changes:
                ready.append(change)
            else:
                self._accept(change)
        self._waiting = waiting
        yield from ready

    def _pause(self, now: float) -> float:
        """Seconds until the next look, unless something stirs."""
        return max(0.0, min([self._look, *(since + self._settle - now for _, since in self._waiting.values())]))

    def _arrival(self, change: Change) -> Arrival:
        self._offered[change.path] = change.stamp

        async def acknowledge() -> None:
            if self._offered.get(change.path, change.before) == change.stamp:
                self._offered.pop(change.path, None)
            self._accept(change)

        path = self._directory / change.path
        legible = str(path).encode(errors="backslashreplace").decode()
        unfit = None if legible == str(path) else "the name of the file is not UTF-8"
        moment = datetime.now(UTC) if change.stamp is None else _moment(change.stamp)
        data: dict[str, Json] = {
            "path": legible,
            "original": legible,
            "name": legible.rpartition("/")[2],
            "change": change.kind,
            "size": None if change.stamp is None else change.stamp.size,
            "modified_at": None if change.stamp is None else moment.isoformat(),
        }
        event = Event(kind="file", key=_key(path, change), occurred_at=moment, data=data)
        return Arrival(event=event, acknowledge=acknowledge, unfit=unfit)

    def _accept(self, change: Change) -> None:
        assert self._known is not None
        if change.stamp is None:
            self._known.pop(change.path, None)
        else:
            self._known[change.path] = change.stamp

    def _note_trouble(self, found: Snapshot) -> None:
        unreadable = [f"{self._directory / path}: {reason}" for path, reason in found.unreadable.items()]
        self._trouble = "; ".join(unreadable[:3]) or None

    async def _watch(self) -> None:
        """Stir whenever the system says that something has changed; wait where the directory isn't there."""
        from watchfiles import awatch  # noqa: PLC0415 - only file triggers need it

        while True:
            stop = asyncio.Event()
            notices = awatch(
                self._directory,
                watch_filter=None,
                debounce=200,
                step=50,
                recursive=True,
                stop_event=stop,
                rust_timeout=int(self._look * 1000),
                yield_on_timeout=True,
                ignore_permission_denied=True,
            )
            identity = _identity(self._directory)
            try:
                async for changes in notices:
                    if changes:
                        self._stirred.set()
                    if _identity(self._directory) != identity:
                        break
            except (OSError, RuntimeError):
                # Not there, or the system has no more watches to give: then looking has to do.
                await asyncio.sleep(self._look)
            finally:
                stop.set()
                await notices.aclose()


def _identity(directory: Path) -> tuple[int, int] | None:
    """Which directory is at the path, since a watch stays with one that was moved or removed."""
    try:
        status = directory.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _moment(stamp: Stamp) -> datetime:
    try:
        return datetime.fromtimestamp(stamp.modified / 1e9, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.now(UTC)


def _key(path: Path, change: Change) -> str:
    stamp = change.stamp or change.before
    assert stamp is not None
    return key_of(path, change.kind, stamp)


def key_of(path: Path, kind: str, stamp: Stamp) -> str:
    """The key of the event that tells of a file in this state."""
    state = f"{kind}\n{stamp.size}\n{stamp.modified}\n{stamp.inode}\n".encode() + str(path).encode(
        errors="surrogateescape"
    )
    return f"sha256:{hashlib.sha256(state).hexdigest()}"

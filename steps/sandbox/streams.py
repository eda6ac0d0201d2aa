"""Connections of the code that arrive over the channel: numbered streams of bytes, each with a window.

Neither side sends more of a stream than the other has room for, so one that nobody reads from fills no memory and holds
up nothing else on the channel. Whatever the guest sends is hostile: a stream that wasn't opened, or more bytes than
there was room for, is a :class:`ChannelError`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from steps.sandbox.channel import ChannelError, Close, Data, Open, Shut, StreamFrame, Window
from steps.sandbox.guest.proxy import MAX_STREAMS, WINDOW

CHUNK: Final = 16 * 1024
"""Bytes of a frame to the guest at most, so that a tool's answer is not long behind it."""


class StreamClosedError(ConnectionError):
    """The code has closed its connection."""


class Line(Protocol):
    """The way to the guest."""

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None: ...
    async def drain(self) -> None:
        """Returns once there is room for more."""


class Stream:
    """One connection of the code, as the host sees it. One task may read and one may write."""

    def __init__(self, number: int, line: Line) -> None:
        self.number = number
        self._line = line
        self._incoming = bytearray()
        self._ended = False
        self._closed = False
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._room_here = WINDOW
        self._room_there = WINDOW
        self._taken = 0

    async def read(self, most: int = CHUNK) -> bytes:
        """The next bytes; none once the code has ended its side.

        Raises:
            StreamClosedError: the code has closed the connection.
        """
        while not self._incoming and not self._ended:
            self._check_open()
            self._readable.clear()
            await self._readable.wait()
        self._check_open()
        data = bytes(self._incoming[:most])
        del self._incoming[:most]
        self._taken += len(data)
        if self._taken >= WINDOW // 2:
            self._room_here += self._taken
            self._send("window", bytes=self._taken)
            self._taken = 0
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes, as fast as the code takes them.

        Raises:
            StreamClosedError: the code has closed the connection.
        """
        rest = memoryview(data)
        while rest:
            self._check_open()
            if not self._room_there:
                self._writable.clear()
                await self._writable.wait()
                continue
            piece = rest[: min(CHUNK, self._room_there)]
            self._room_there -= len(piece)
            self._send("data", bytes(piece))
            rest = rest[len(piece) :]
            await self._line.drain()

    def close(self, *, reset: bool = False) -> None:
        """End the connection: after what was written, or at once and visibly broken off with ``reset``."""
        if not self._closed:
            self._closed = True
            self._send("close", reset=reset)

    def hear(self, frame: Data | Window | Shut | Close) -> None:
        """Take a frame of the guest.

        Raises:
            ChannelError: it is more than there was room for.
        """
        match frame:
            case Data():
                self._room_here -= len(frame.data)
                if self._room_here < 0 or self._ended:
                    raise ChannelError("more bytes of a stream than there was room for")
                self._incoming += frame.data
            case Window():
                self._room_there += frame.bytes
                if self._room_there > WINDOW:
                    raise ChannelError("more room for a stream than its window has")
            case Shut():
                self._ended = True
            case Close():
                self._closed = True
        self._readable.set()
        self._writable.set()

    def _check_open(self) -> None:
        if self._closed:
            raise StreamClosedError("the code closed the connection")

    def _send(self, kind: str, payload: bytes = b"", **fields: int | bool) -> None:
        self._line.send({"kind": kind, "stream": self.number, **fields}, payload)


class Streams:
    """The streams of one job; ``serve`` handles each. Its errors go to ``broken``."""

    def __init__(
        self, line: Line, serve: Callable[[Stream], Awaitable[None]], broken: Callable[[BaseException], None]
    ) -> None:
        self._line = line
        self._serve = serve
        self._broken = broken
        self._last = 0
        self._open: dict[int, tuple[Stream, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def hear(self, frame: StreamFrame) -> None:
        """Take a frame of the guest.

        Raises:
            ChannelError: no honest guest sends it.
        """
        if isinstance(frame, Open):
            self._begin(frame.stream)
            return
        if not 0 < frame.stream <= self._last:
            raise ChannelError("a frame for a stream that was not opened")
        # What was sent before the guest knew of the stream's end is for nobody.
        stream, task = self._open.get(frame.stream, (None, None))
        if stream is None or task is None:
            return
        stream.hear(frame)
        if isinstance(frame, Close):
            del self._open[frame.stream]
            task.cancel()

    async def close(self) -> None:
        """End all streams, and return once nobody handles one any more."""
        for task in self._tasks:
            # Not twice: a second time would break off what it does at its end.
            if not task.cancelling():
                task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self, number: int) -> None:
        if number != self._last + 1:
            raise ChannelError("a stream out of turn")
        if len(self._open) >= MAX_STREAMS:
            raise ChannelError("more streams than there may be at once")
        self._last = number
        stream = Stream(number, self._line)
        task = asyncio.create_task(self._handle(stream))
        self._open[number] = stream, task
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def _handle(self, stream: Stream) -> None:
        try:
            await self._serve(stream)
        except StreamClosedError:
            pass
        finally:
            stream.close(reset=True)
            self._open.pop(stream.number, None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._broken(error)

"""The connections to a Docker Engine that stay open: containers' attached streams, and the Engine's events.

Everything else goes through the docker SDK (engine.py). These don't, since its streams are blocking: each would hold a
thread for as long as its container lives.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, nullcontext, suppress
from typing import Any, Literal
from urllib.parse import quote

import h11

from steps.sandbox.docker.endpoint import Endpoint

CHUNK = 64 * 1024
READ_AHEAD = 1 << 20
"""Bytes of a container's output that are kept for a reader that is slower than the container."""
KEPT_STDERR = 64 * 1024
HEADER = 8
"""Bytes before each piece of output: which stream, three zeros, and the length as 32 bits, big-endian."""
STDOUT, STDERR = 1, 2
MAX_ERROR = 64 * 1024
PATIENCE = 60.0
"""Seconds that an Engine has to begin its answer."""


class StreamError(Exception):
    """The Engine didn't give the stream; the message is its own."""


class Attachment:
    """A container's stdin, stdout and stderr. ``reader`` gives its stdout, ``writer`` takes its stdin."""

    def __init__(self, engine: asyncio.StreamReader, writer: asyncio.StreamWriter, rest: bytes) -> None:
        self._engine = engine
        self._rest = rest
        self._brake = _Brake()
        self.writer = writer
        self.reader = asyncio.StreamReader(limit=READ_AHEAD)
        self.reader.set_transport(self._brake)
        self.stderr = bytearray()
        """The end of what came on stderr."""
        self.closed = asyncio.Event()
        """Set once nothing more comes: the container has ended, the Engine is gone, or :meth:`close` was called."""
        self._pumping = asyncio.create_task(self._pump())

    def hang_up(self) -> None:
        """Let the reader see the end of the stream now, whatever the container still has to say."""
        self._pumping.cancel()
        self._end()

    async def close(self) -> None:
        """Close the connection, which closes the container's stdin too."""
        self.hang_up()
        with suppress(asyncio.CancelledError):
            await self._pumping
        if self.writer.transport.get_write_buffer_size():
            # What the container doesn't read would hold the connection open for as long as it lives.
            self.writer.transport.abort()
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    async def _pump(self) -> None:
        """Cut the stream into what was written to stdout and to stderr."""
        try:
            while True:
                head = await self._read(HEADER)
                left = int.from_bytes(head[4:], "big")
                while left:
                    await self._brake.released.wait()
                    piece = await self._read_some(min(left, CHUNK))
                    left -= len(piece)
                    self._take(head[0], piece)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        finally:
            self._end()

    def _end(self) -> None:
        self.reader.feed_eof()
        self.closed.set()

    def _take(self, stream: int, piece: bytes) -> None:
        if stream == STDOUT:
            self.reader.feed_data(piece)
        elif stream == STDERR:
            self.stderr += piece
            del self.stderr[:-KEPT_STDERR]

    async def _read(self, count: int) -> bytes:
        rest, self._rest = self._rest[:count], self._rest[count:]
        return rest + await self._engine.readexactly(count - len(rest)) if len(rest) < count else rest

    async def _read_some(self, count: int) -> bytes:
        if self._rest:
            return await self._read(min(count, len(self._rest)))
        piece = await self._engine.read(count)
        if not piece:
            raise asyncio.IncompleteReadError(b"", count)
        return piece


class _Brake(asyncio.ReadTransport):
    """What a StreamReader pauses when nobody reads from it."""

    def __init__(self) -> None:
        super().__init__()
        self.released = asyncio.Event()
        self.released.set()

    def pause_reading(self) -> None:
        self.released.clear()

    def resume_reading(self) -> None:
        self.released.set()


class Printout:
    """What a container prints, in pieces; it waits for a reader that is slower, and nothing is lost."""

    def __init__(self, engine: asyncio.StreamReader, writer: asyncio.StreamWriter, rest: bytes) -> None:
        self._engine = engine
        self._rest = rest
        self._writer = writer

    async def pieces(self) -> AsyncGenerator[tuple[Literal["stdout", "stderr"], bytes]]:
        """Ends with the container, or with the Engine."""
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await self._read(HEADER)
                left = int.from_bytes(head[4:], "big")
                while left:
                    piece = await self._read(min(left, CHUNK))
                    left -= len(piece)
                    yield "stderr" if head[0] == STDERR else "stdout", piece

    async def close(self) -> None:
        """Read no more; the Engine drops what the container prints from now on."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def _read(self, count: int) -> bytes:
        rest, self._rest = self._rest[:count], self._rest[count:]
        return rest + await self._engine.readexactly(count - len(rest)) if len(rest) < count else rest


async def attach(endpoint: Endpoint, version: str, container: str) -> Attachment:
    """Attach to a container, which need not have been started.

    Raises:
        StreamError: the Engine refuses.
        OSError: the Engine can't be reached.
    """
    return Attachment(*await _streams(endpoint, f"/v{version}/containers/{container}/attach", stdin=True))


async def printout(endpoint: Endpoint, version: str, container: str) -> Printout:
    """Attach to what a container prints, which need not have been started; as :func:`attach`."""
    return Printout(*await _streams(endpoint, f"/v{version}/containers/{container}/attach", stdin=False))


async def _streams(
    endpoint: Endpoint, place: str, *, stdin: bool
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """A connection that the Engine has turned into a container's streams, and what already came of them."""
    target = f"{place}?stream=1&stdin={int(stdin)}&stdout=1&stderr=1"
    reader, writer = await endpoint.dial()
    try:
        async with _patience():
            connection = await _request(writer, "POST", target, ("Connection", "Upgrade"), ("Upgrade", "tcp"))
            answer = await _event(connection, reader)
        if not isinstance(answer, h11.InformationalResponse) or answer.status_code != 101:  # noqa: PLR2004 - of HTTP
            raise StreamError(await _error(connection, reader, answer))  # noqa: TRY301 - what follows closes
    except BaseException:
        writer.close()
        raise
    return reader, writer, connection.trailing_data[0]


async def events(endpoint: Endpoint, version: str, filters: dict[str, list[str]]) -> AsyncGenerator[dict[str, Any]]:
    """What happens in the Engine from now on; the first item, which is empty, says that from now on nothing is missed.

    Ends where the Engine goes away.

    Raises:
        StreamError: the Engine refuses.
        OSError: the Engine can't be reached.
    """
    target = f"/v{version}/events?filters={quote(json.dumps(filters))}"
    async with aclosing(told(endpoint, "GET", target)) as items:
        async for item in items:
            yield item


async def told(
    endpoint: Endpoint, method: Literal["GET", "POST"], target: str, *headers: tuple[str, str], body: bytes = b""
) -> AsyncGenerator[dict[str, Any]]:
    """What the Engine tells, object by object, after an empty one once it has begun to answer; as :func:`events`."""
    reader, writer = await endpoint.dial()
    try:
        # A registry may take its time before the Engine begins to tell of it.
        async with _patience() if method == "GET" else nullcontext():
            connection = await _request(writer, method, target, *headers, body=body)
            answer = await _event(connection, reader)
        if not isinstance(answer, h11.Response) or answer.status_code != 200:  # noqa: PLR2004 - of HTTP
            raise StreamError(await _error(connection, reader, answer))
        yield {}
        async for line in _lines(connection, reader):
            yield json.loads(line)
    finally:
        writer.close()


async def _lines(connection: h11.Connection, reader: asyncio.StreamReader) -> AsyncGenerator[bytes]:
    """The lines of a body, until it ends or the connection does."""
    text = b""
    with suppress(StreamError, OSError):
        while isinstance(data := await _event(connection, reader), h11.Data):
            text += bytes(data.data)
            *lines, text = text.split(b"\n")
            for line in filter(None, lines):
                yield line


async def ask(endpoint: Endpoint, target: str, *, patience: float) -> tuple[int, bytes]:
    """One GET without the SDK, whose import costs more than the answer: gives status and body.

    Raises:
        StreamError: what answers is no Docker Engine.
        OSError: the Engine can't be reached, or takes longer than ``patience`` seconds.
    """
    async with asyncio.timeout(patience):
        reader, writer = await endpoint.dial()
        try:
            connection = await _request(writer, "GET", target)
            answer = await _event(connection, reader)
            if not isinstance(answer, h11.Response):
                raise StreamError("not an answer")
            return answer.status_code, await _body(connection, reader, limit=1 << 20)
        finally:
            writer.close()


async def _request(
    writer: asyncio.StreamWriter,
    method: Literal["GET", "POST"],
    target: str,
    *headers: tuple[str, str],
    body: bytes = b"",
) -> h11.Connection:
    connection = h11.Connection(our_role=h11.CLIENT)
    all_headers = [("Host", "docker"), ("User-Agent", "stepbox"), ("Content-Length", str(len(body))), *headers]
    request = h11.Request(method=method, target=target, headers=all_headers)
    for event in (request, h11.Data(data=body), h11.EndOfMessage()):
        writer.write(connection.send(event) or b"")
    await writer.drain()
    return connection


@asynccontextmanager
async def _patience() -> AsyncGenerator[None]:
    """Bounds the wait for an Engine that takes connections and doesn't answer."""
    try:
        async with asyncio.timeout(PATIENCE):
            yield
    except TimeoutError:
        raise TimeoutError(f"no answer within {PATIENCE:g} s") from None


async def _event(connection: h11.Connection, reader: asyncio.StreamReader) -> Any:
    try:
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(await reader.read(CHUNK))
    except h11.RemoteProtocolError as error:
        raise StreamError(f"the connection ended early, or is not Docker's: {error}") from None
    return event


async def _body(connection: h11.Connection, reader: asyncio.StreamReader, limit: int) -> bytes:
    text = b""
    while isinstance(data := await _event(connection, reader), h11.Data) and len(text) < limit:
        text += bytes(data.data)
    return text


async def _error(connection: h11.Connection, reader: asyncio.StreamReader, answer: Any) -> str:
    """What the Engine says about a request that it refuses."""
    if not isinstance(answer, h11.Response):
        return "the Engine closed the connection"
    text = await _body(connection, reader, MAX_ERROR)
    try:
        told = json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        told = text.decode(errors="replace").strip()
    return f"{told} (status {answer.status_code})"

"""Moves bytes between the code and a server that it may reach, counting them."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import h11

from steps.sandbox.proxy_request import BadRequestError, Plain, end_to_end
from steps.sandbox.streams import CHUNK, Stream

MAX_REQUEST_HEAD: Final = 32 * 1024
MAX_RESPONSE_HEAD: Final = 64 * 1024
REFUSAL: Final = "Stepbox-Refusal"
"""The header by which the proxy's own answers differ from a server's: why a request wasn't made, as a code."""


class TransferExceededError(Exception):
    """The job has moved as many bytes over the network as it may."""


class Budget:
    """The bytes that a job may still move over the network, both ways together."""

    def __init__(self, limit: int) -> None:
        self.left = limit

    def spend(self, count: int) -> None:
        """Count bytes.

        Raises:
            TransferExceededError: that many are not left.
        """
        self.left -= count
        if self.left < 0:
            raise TransferExceededError


class Server:
    """A connection to a server, whose bytes are counted against a budget. Use it inside :meth:`watched`."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: Budget, *, idle: float
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._budget = budget
        self._idle = idle
        self._deadline: asyncio.Timeout | None = None
        self.sent = 0
        self.received = 0

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Raises TimeoutError once nothing has been read or written inside for ``idle`` seconds."""
        async with asyncio.timeout(self._idle) as self._deadline:
            yield

    async def read(self) -> bytes:
        data = await self._reader.read(CHUNK)
        self.received += len(data)
        self._moved(len(data))
        return data

    async def write(self, data: bytes) -> None:
        self._moved(len(data))
        self.sent += len(data)
        self._writer.write(data)
        await self._writer.drain()

    def end(self) -> None:
        """Tell the server that no more comes."""
        if self._writer.can_write_eof():
            self._writer.write_eof()

    def close(self) -> None:
        self._writer.transport.abort()

    def _moved(self, count: int) -> None:
        self._budget.spend(count)
        assert self._deadline is not None
        self._deadline.reschedule(asyncio.get_running_loop().time() + self._idle)


class Client:
    """The code's end of a stream, as HTTP: one request, one answer."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_REQUEST_HEAD)
        self._head_only = False

    async def request(self) -> h11.Request | None:
        """The head of the request; None where the code ended without one.

        Raises:
            BadRequestError: it isn't HTTP.
        """
        try:
            event = await self._next()
        except h11.RemoteProtocolError as error:
            fix = "send HTTP/1.1 requests, with a head of 32 KiB at most"
            raise BadRequestError(f"the request isn't HTTP: {error}", fix=fix) from None
        if not isinstance(event, h11.Request):
            return None
        self._head_only = event.method == b"HEAD"
        return event

    async def body(self) -> AsyncIterator[bytes]:
        """The body of the request, in pieces.

        Raises:
            h11.RemoteProtocolError: it isn't what its head says.
        """
        if self._http.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
        while isinstance(event := await self._next(), h11.Data):
            yield bytes(event.data)

    async def begin_tunnel(self) -> bytes:
        """Answer a CONNECT; gives the bytes that the code sent without waiting for the answer."""
        await self._send(h11.Response(status_code=200, headers=[], reason=b"Connection established"))
        return bytes(self._http.trailing_data[0])

    async def refuse(self, status: int, code: str, text: str) -> None:
        """Answer that the request isn't made, in words that clients show."""
        content = f"{text}\n".encode()
        headers = [("Content-Type", "text/plain; charset=utf-8"), (REFUSAL, code)]
        await self.answer(status, content, headers, reason=text)

    async def answer(self, status: int, content: bytes, headers: list[tuple[str, str]], *, reason: str = "") -> None:
        """Answer with a whole response."""
        length = [("Content-Length", str(len(content))), ("Connection", "close")]
        told = bytes(byte if 32 <= byte < 127 else 63 for byte in reason.encode())  # noqa: PLR2004 - printable, or a ?
        await self._send(h11.Response(status_code=status, headers=[*headers, *length], reason=told))
        if not self._head_only:
            await self._send(h11.Data(data=content))
        await self._send(h11.EndOfMessage())

    async def pass_on(self, event: h11.Response | h11.Data | h11.EndOfMessage) -> None:
        """Answer with a part of the server's response."""
        await self._send(event)

    @property
    def answered(self) -> bool:
        """Whether an answer has begun."""
        return self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}

    async def _next(self) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._stream.read())
        return event

    async def _send(self, event: Any) -> None:
        await self._stream.write(self._http.send(event) or b"")


async def tunnel(stream: Stream, server: Server, first: bytes) -> None:
    """Pass bytes both ways, ``first`` before all others, until the server has ended."""

    async def up() -> None:
        await server.write(first)
        while data := await stream.read():
            await server.write(data)
        server.end()

    async def down() -> None:
        while data := await server.read():
            await stream.write(data)

    await _beside(down(), up())


async def exchange(client: Client, server: Server, asked: Plain) -> None:
    """Send one request, and give the code the server's answer to it.

    Raises:
        h11.RemoteProtocolError: one of the two doesn't speak HTTP.
    """
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_RESPONSE_HEAD)

    async def up() -> None:
        await server.write(http.send(asked.request) or b"")
        async for data in client.body():
            await server.write(http.send(h11.Data(data=data)) or b"")
        await server.write(http.send(h11.EndOfMessage()) or b"")

    async def down() -> None:
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await server.read())
            elif isinstance(event, h11.Response):
                await client.pass_on(_response(event))
            elif isinstance(event, h11.Data):
                await client.pass_on(event)
            elif isinstance(event, h11.EndOfMessage):
                await client.pass_on(h11.EndOfMessage())
                return
            elif not isinstance(event, h11.InformationalResponse):
                raise h11.RemoteProtocolError("the server ended without an answer")

    await _beside(down(), up())


def _response(told: h11.Response) -> h11.Response:
    length = [(name, value) for name, value in told.headers if name == b"transfer-encoding"]
    length = length or [(name, value) for name, value in told.headers if name == b"content-length"]
    passed = [(name, value) for name, value in end_to_end(told) if name.lower() != REFUSAL.lower().encode()]
    headers = [*passed, *length, (b"Connection", b"close")]
    return h11.Response(status_code=told.status_code, headers=headers, reason=bytes(told.reason))


async def _beside(work: Coroutine[Any, Any, None], side: Coroutine[Any, Any, None]) -> None:
    """Do both; the end of ``work``, and an error of either, ends the other."""
    main, other = asyncio.ensure_future(work), asyncio.ensure_future(side)
    try:
        await asyncio.wait({main, other}, return_when=asyncio.FIRST_COMPLETED)
        if not main.done():
            other.result()
        await main
    finally:
        for task in (main, other):
            task.cancel()
        await asyncio.gather(main, other, return_exceptions=True)

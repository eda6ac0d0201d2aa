"""A TCP server between a client and a service, which can be taken away and come back."""

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit


class Between:
    """Passes on what is sent to ``port``, in both directions, while it is up."""

    def __init__(self, url: str) -> None:
        self._there = urlsplit(url)
        self._connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """The service's URL, by way of here."""
        user = f"{self._there.username}@" if self._there.username else ""
        return self._there._replace(netloc=f"{user}127.0.0.1:{self.port}").geturl()

    async def up(self) -> None:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Break off every connection, and take no new one."""
        assert self._server is not None
        self._server.close()
        for writer in self._connections:
            writer.transport.abort()
        self._connections.clear()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self._there.hostname, self._there.port)
        both = {writer, there_writer}
        self._connections |= both
        with suppress(asyncio.CancelledError):
            await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))
        self._connections -= both


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()

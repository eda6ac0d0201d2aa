"""An honest guest without a sandbox: a proxy on loopback whose connections are streams of a job's real egress."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from flows.contracts import StepError
from steps.addresses import Endpoint
from steps.allowlist import Allowlist
from steps.sandbox.channel import Close, Data, Open, Shut, Window
from steps.sandbox.egress import Egress
from steps.sandbox.guest.proxy import WINDOW
from steps.sandbox.limits import Limits
from steps.sandbox.protocol import Network, Timeouts
from tests.servers import Journal, Names


class Guest:
    """The channel's other end."""

    def __init__(self) -> None:
        self.lines: dict[int, Line] = {}
        self.last = 0
        self.most_waiting = 0
        """Bytes that the host had sent ahead of what the code had taken, at most."""

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        line = self.lines.get(header["stream"])
        if line is not None:
            line.hear(header, payload)
            self.most_waiting = max(self.most_waiting, line.waiting)

    async def drain(self) -> None:
        await asyncio.sleep(0)


class Line:
    """One connection, as guest/proxy.py handles it."""

    def __init__(
        self, guest: Guest, egress: Egress, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._egress = egress
        self._reader = reader
        self._writer = writer
        guest.last += 1
        self.number = guest.last
        guest.lines[self.number] = self
        self.waiting = 0
        self._credit = WINDOW
        self._more = asyncio.Event()
        self._taken = 0
        self._closed = asyncio.Event()
        self._outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
        egress.hear(Open(stream=self.number))

    def hear(self, header: dict[str, Any], payload: bytes) -> None:
        match header["kind"]:
            case "data":
                self.waiting += len(payload)
                self._outgoing.put_nowait(payload)
            case "window":
                self._credit += header["bytes"]
                self._more.set()
            case "close" if header["reset"]:
                connection = self._writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._writer.transport.abort()
                self._closed.set()
            case "close":
                self._outgoing.put_nowait(None)

    async def serve(self) -> None:
        up, down = asyncio.ensure_future(self._up()), asyncio.ensure_future(self._down())
        try:
            await self._closed.wait()
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            self._writer.close()

    async def _up(self) -> None:
        try:
            while True:
                while not self._credit:
                    self._more.clear()
                    await self._more.wait()
                data = await self._reader.read(min(self._credit, 32 * 1024))
                if not data:
                    self._egress.hear(Shut(stream=self.number))
                    return
                self._credit -= len(data)
                self._egress.hear(Data(stream=self.number, data=data))
        except ConnectionError:
            self._egress.hear(Close(stream=self.number))
            self._closed.set()

    async def _down(self) -> None:
        with suppress(ConnectionError):
            while (data := await self._outgoing.get()) is not None:
                self._writer.write(data)
                await self._writer.drain()
                self.waiting -= len(data)
                self._taken += len(data)
                if self._taken >= WINDOW // 2:
                    self._egress.hear(Window(stream=self.number, bytes=self._taken))
                    self._taken = 0
            self._writer.write_eof()
        self._closed.set()


@dataclass
class Job(Journal):
    """A job with a network, and what the host does and says about it."""

    names: Names = field(default_factory=lambda: Names({}))
    notes: list[str] = field(default_factory=list)
    exceeded: list[StepError] = field(default_factory=list)
    broken: list[BaseException] = field(default_factory=list)
    port: int = 0
    """Of the proxy, on loopback."""
    guest: Guest = field(default_factory=Guest)
    egress: Egress = field(init=False)

    async def note(self, line: str) -> None:
        self.notes.append(line)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def ask(self, data: bytes) -> bytes:
        """What the proxy answers to raw bytes, to its end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
        return answer


PATIENT = Timeouts()
QUICK = Timeouts(head=0.5, look_up=0.5, connect=0.5, idle=0.5)
"""Where a test waits for one of them."""


@asynccontextmanager
async def job_with_network(
    *allow: str,
    names: Names | None = None,
    internal: tuple[str, ...] = (),
    timeouts: Timeouts = PATIENT,
    **limits: int,
) -> AsyncIterator[Job]:
    """A job whose code reaches its proxy at ``port``."""
    job = Job(names=names or Names({}))
    network = Network(
        allow=Allowlist(allow),
        internal=frozenset(Endpoint.parse(text) for text in internal),
        resolver=job.names,
        timeouts=timeouts,
    )
    guest = job.guest
    egress = job.egress = Egress(
        network,
        replace(Limits(), **limits),
        job,
        line=guest,
        note=job.note,
        exceed=job.exceeded.append,
        broken=job.broken.append,
    )

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Line(guest, egress, reader, writer).serve()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    job.port = server.sockets[0].getsockname()[1]
    try:
        yield job
    finally:
        server.close()
        await egress.close()
        for line in guest.lines.values():
            line._closed.set()
        await asyncio.sleep(0)
    assert job.broken == []

"""The Engine's streams, from an Engine that a test plays."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from steps.sandbox.docker import stream
from steps.sandbox.docker.endpoint import Endpoint

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


def piece(number: int, data: bytes) -> bytes:
    return bytes([number, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@asynccontextmanager
async def engine(folder: Path, serve: Serve) -> AsyncIterator[Endpoint]:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(connected, folder / "socket")
    async with server:
        yield Endpoint(url=f"unix://{folder}/socket")


async def test_output_is_cut_into_its_streams_however_it_is_sent(tmp_path: Path) -> None:
    sent = piece(1, b"one") + piece(2, b"error") + piece(1, b"") + piece(1, b"two")

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = UPGRADED + sent
        for start in range(0, len(data), 7):
            writer.write(data[start : start + 7])
            await writer.drain()
            await asyncio.sleep(0)

    async with engine(tmp_path, serve) as endpoint:
        line = await stream.attach(endpoint, "1.41", "abc")
        assert await line.reader.read() == b"onetwo"
        assert bytes(line.stderr) == b"error"
        await line.closed.wait()
        await line.close()


async def test_output_right_behind_the_upgrade_is_not_lost(tmp_path: Path) -> None:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(UPGRADED + piece(1, b"at once"))

    async with engine(tmp_path, serve) as endpoint:
        line = await stream.attach(endpoint, "1.41", "abc")
        assert await line.reader.read() == b"at once"
        await line.close()


async def test_container_that_reads_nothing_does_not_hold_the_end_up(tmp_path: Path) -> None:
    over = asyncio.Event()

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(UPGRADED)
        await over.wait()

    async with engine(tmp_path, serve) as endpoint:
        line = await stream.attach(endpoint, "1.41", "abc")
        line.writer.write(bytes(20_000_000))
        async with asyncio.timeout(20):
            await line.close()
        over.set()


async def test_slow_reader_holds_a_fast_container_back(tmp_path: Path) -> None:
    written = 0

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(UPGRADED)
        for _number in range(1000):
            writer.write(piece(1, bytes(stream.CHUNK)))
            await writer.drain()
            written += stream.CHUNK

    async with engine(tmp_path, serve) as endpoint:
        line = await stream.attach(endpoint, "1.41", "abc")
        before = -1
        while written != before:
            before = written
            await asyncio.sleep(0.1)
        assert 0 < written < 16 * stream.READ_AHEAD
        assert len(await line.reader.readexactly(100 * stream.CHUNK)) == 100 * stream.CHUNK
        await line.close()


async def test_flood_of_stderr_keeps_its_end_only(tmp_path: Path) -> None:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(UPGRADED)
        for _number in range(50):
            writer.write(piece(2, b"x" * 10_000))
            await writer.drain()
        writer.write(piece(2, b"the end"))

    async with engine(tmp_path, serve) as endpoint:
        line = await stream.attach(endpoint, "1.41", "abc")
        await line.closed.wait()
        assert len(line.stderr) == stream.KEPT_STDERR
        assert line.stderr.endswith(b"the end")
        await line.close()


async def test_hung_up_line_ends_for_its_reader_at_once(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(UPGRADED)
        await reader.read()

    async with engine(tmp_path, serve) as endpoint:
        line = await stream.attach(endpoint, "1.41", "abc")
        line.hang_up()
        assert await line.reader.read() == b""
        await line.close()
        await line.close()


async def test_refusal_has_the_engines_words(tmp_path: Path) -> None:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = json.dumps({"message": "No such container: abc"}).encode()
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async with engine(tmp_path, serve) as endpoint:
        with pytest.raises(stream.StreamError, match=r"No such container: abc \(status 404\)"):
            await stream.attach(endpoint, "1.41", "abc")


async def test_engine_that_hangs_up_during_the_handshake_is_an_error(tmp_path: Path) -> None:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pass

    async with engine(tmp_path, serve) as endpoint:
        with pytest.raises(stream.StreamError):
            await stream.attach(endpoint, "1.41", "abc")
        with pytest.raises(stream.StreamError):
            await stream.ask(endpoint, "/version", patience=5)


async def test_events_come_as_they_happen_until_the_engine_goes(tmp_path: Path) -> None:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in (b'{"Action": "oo', b'm"}\n{"Action": "die"}\n', b"\n"):
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
            await writer.drain()
            await asyncio.sleep(0.01)

    async with engine(tmp_path, serve) as endpoint, aclosing(stream.events(endpoint, "1.41", {})) as events:
        assert [event async for event in events] == [{}, {"Action": "oom"}, {"Action": "die"}]

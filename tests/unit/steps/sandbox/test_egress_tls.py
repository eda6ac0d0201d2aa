"""What goes through a tunnel: TLS for the very host that the tunnel is to."""

import asyncio
import contextlib
import ssl
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.sandbox.client_hello import MAX_HELLO, UNRECOGNIZED_NAME, HiddenNameError, NotTlsError, server_name
from tests.proxies import QUICK, Job, job_with_network
from tests.sandbox.conftest import until
from tests.servers import Authority, local, site

HOST = "api.example.com"
NO_SNI = "\0no SNI"


def hello(name: str | None, *, extra: bytes = b"") -> bytes:
    """What a real client sends first; ``extra`` are bytes of extensions added to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = name is not None
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    record = bytearray(outgoing.read())
    if extra:
        body = record[9:]
        at = 2 + 32
        at += 1 + body[at]
        at += 2 + int.from_bytes(body[at : at + 2], "big")
        at += 1 + body[at]
        body[at : at + 2] = (int.from_bytes(body[at : at + 2], "big") + len(extra)).to_bytes(2, "big")
        body += extra
        record = bytearray(records(b"\x01" + len(body).to_bytes(3, "big") + bytes(body)))
    return bytes(record)


def records(message: bytes, size: int = 16_000) -> bytes:
    """A handshake message in records of at most ``size`` bytes."""
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def extension(kind: int, body: bytes) -> bytes:
    return kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body


def sni(*names: bytes, kind: int = 0) -> bytes:
    entries = b"".join(bytes([kind]) + len(name).to_bytes(2, "big") + name for name in names)
    return extension(0, len(entries).to_bytes(2, "big") + entries)


def test_the_name_in_a_real_hello_is_read_however_it_is_cut() -> None:
    whole = hello(HOST)
    assert server_name(whole) == HOST
    assert [server_name(whole[:count]) for count in range(len(whole))] == [None] * len(whole)
    for size in (1, 3, 100):
        assert server_name(records(whole[5:], size)) == HOST
    assert server_name(whole + b"more") == HOST


@pytest.mark.parametrize(
    ("name", "extra", "told"),
    [
        (None, b"", "no SNI"),
        (None, sni(b"a.example", b"b.example"), "exactly one"),
        (None, sni(HOST.encode(), kind=1), "exactly one"),
        (None, extension(0, b"\x00\x00"), "cut off"),
        (None, extension(0, sni(HOST.encode())[4:] + b"\0"), "exactly one"),
        (HOST, sni(b"evil.com"), "twice"),
        (HOST, extension(0xFE0D, b"\0" * 40), "encrypted ClientHello"),
        (HOST, extension(0xFD00, b""), "encrypted ClientHello"),
    ],
)
def test_a_hello_that_does_not_say_one_name_plainly_is_refused(name: str | None, extra: bytes, told: str) -> None:
    with pytest.raises((HiddenNameError, NotTlsError), match=told):
        server_name(hello(name, extra=extra))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"\x80\x2e\x01\x00\x02",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x17\x03\x03\x00\x10",
        b"\x16\x02\x00\x00\x10",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\x00",
        b"\x16\x03\x01\x00\x09\x01\x00\x00\x05\x03\x03\x00\x00\x00",
        b"\x16\x03\x01\x00\x06\x01\x00\x10\x00\x03\x03\x17\x03\x03\x00\x01\x00",
        records(b"\x01" + (MAX_HELLO + 1).to_bytes(3, "big") + bytes(MAX_HELLO)),
    ],
)
def test_what_is_no_beginning_of_tls_is_refused(data: bytes) -> None:
    with pytest.raises(NotTlsError):
        server_name(data)


@given(st.binary(max_size=300))
def test_nothing_breaks_the_reader(data: bytes) -> None:
    for begun in (
        data,
        b"\x16\x03\x01" + data,
        records(b"\x01" + len(data).to_bytes(3, "big") + data) if data else b"",
    ):
        with contextlib.suppress(NotTlsError, HiddenNameError):
            assert server_name(begun) != HOST


@given(st.integers(0, 600), st.binary(min_size=1, max_size=4))
def test_a_damaged_hello_names_the_same_host_or_none(at: int, damage: bytes) -> None:
    whole = hello(HOST)
    changed = whole[:at] + damage + whole[at + len(damage) :]
    with contextlib.suppress(NotTlsError, HiddenNameError):
        server_name(changed)


async def tunnel(job: Job, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", job.port)
    writer.write(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    return reader, writer


async def test_tls_for_the_host_of_the_tunnel_reaches_the_server(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with site(authority.context(HOST)) as server:
        entry = f"{HOST}:{server.port}"
        async with job_with_network(entry, names=local(HOST), internal=(entry,)) as job:
            server.answer("/x", b"hello")
            async with httpx.AsyncClient(proxy=job.url, verify=authority.client(), trust_env=False) as client:
                answers = [await client.get(f"https://{entry}/x") for _twice in range(2)]
    assert [answer.text for answer in answers] == ["hello", "hello"]
    assert (job.egress.requests, server.connections, len(server.heads)) == (1, 1, 2)
    ((sent, received, reason),) = job.ends.values()
    assert sent > 300
    assert received > 800
    assert reason is None
    assert job.notes == []


@pytest.mark.parametrize("name", [HOST.upper(), f"{HOST}."])
async def test_the_same_name_in_another_form_is_the_same(tmp_path: Path, name: str) -> None:
    authority = Authority(tmp_path)
    async with site(authority.context(HOST)) as server:
        entry = f"{HOST}:{server.port}"
        async with job_with_network(entry, names=local(HOST), internal=(entry,)) as job:
            reader, writer = await tunnel(job, name, server.port)
            context = authority.client()
            context.check_hostname = False
            await writer.start_tls(context, server_hostname=name)
            writer.write(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 404")
            writer.close()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (hello("evil.com"), "the TLS connection in the tunnel is for 'evil.com'"),
        (hello("www.api.example.com"), "the TLS connection in the tunnel is for 'www.api.example.com'"),
        (hello("example.com"), "the TLS connection in the tunnel is for 'example.com'"),
        (hello(None, extra=sni(HOST.encode() + b"\0.evil.com")), "for 'api.example.com\\x00.evil.com'"),
        (hello(None, extra=sni("аpi.example.com".encode())), "xd0"),
        (hello(None), "no SNI"),
        (hello(HOST, extra=extension(0xFE0D, b"\0" * 40)), "encrypted ClientHello"),
        (hello(HOST, extra=sni(b"evil.com")), "says a thing twice"),
        (b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "no TLS"),
        (b"CONNECT evil.com:443 HTTP/1.1\r\nHost: evil.com\r\n\r\n", "no TLS"),
        (b"SSH-2.0-x\r\n", "no TLS"),
    ],
)
async def test_what_is_not_tls_for_the_host_of_the_tunnel_never_reaches_the_server(data: bytes, told: str) -> None:
    received = bytearray()

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.read())
        writer.close()

    server = await asyncio.start_server(keep, "127.0.0.1", 0)
    entry = f"{HOST}:{server.sockets[0].getsockname()[1]}"
    async with job_with_network(entry, names=local(HOST), internal=(entry,)) as job:
        reader, writer = await tunnel(job, HOST, int(entry.partition(":")[2]))
        writer.write(data)
        try:
            async with asyncio.timeout(10):
                answer = await reader.read()
        except ConnectionResetError:
            answer = b""
        writer.close()
    server.close()
    assert answer == (UNRECOGNIZED_NAME if data[:1] == b"\x16" and "twice" not in told else b"")
    assert bytes(received) == b""
    assert [(one.allowed, one.host, one.address) for one in job.decisions] == [(False, HOST, "127.0.0.1")]
    assert told in (job.decisions[0].reason or "")
    assert [told in note for note in job.notes] == [True]


async def test_a_client_that_sends_at_once_is_heard() -> None:
    """The first bytes of TLS in the same packet as the CONNECT."""
    received = asyncio.get_running_loop().create_future()

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.set_result(await reader.readexactly(len(hello(HOST))))
        writer.close()

    server = await asyncio.start_server(keep, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    entry = f"{HOST}:{port}"
    first = hello(HOST)
    async with job_with_network(entry, names=local(HOST), internal=(entry,)) as job:
        await job.ask(f"CONNECT {entry} HTTP/1.1\r\nHost: {entry}\r\n\r\n".encode() + first)
    server.close()
    assert await received == first


async def test_a_tunnel_in_which_nothing_comes_is_closed() -> None:
    async with site() as server:
        entry = f"{HOST}:{server.port}"
        async with job_with_network(entry, names=local(HOST), internal=(entry,), timeouts=QUICK) as job:
            reader, writer = await tunnel(job, HOST, server.port)
            writer.write(hello(HOST)[:50])
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 10)
            writer.close()
    assert job.refused == ["no TLS in the tunnel: nothing more came"]


async def test_a_tunnel_that_ends_before_it_begins_is_recorded() -> None:
    async with site() as server:
        entry = f"{HOST}:{server.port}"
        async with job_with_network(entry, names=local(HOST), internal=(entry,)) as job:
            _reader, writer = await tunnel(job, HOST, server.port)
            writer.close()
            await writer.wait_closed()
            await until(lambda: job.decisions)
    assert job.refused == ["no TLS in the tunnel: it ended before it began"]

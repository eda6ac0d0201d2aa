"""Plain requests: written anew for the server, one on a connection, with one meaning."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest

from tests.proxies import QUICK, Job, job_with_network
from tests.servers import Site, listening, local, site

HOST = "api.example.com"


class Place:
    """A server under an allowed name, and a job that may reach it."""

    def __init__(self, server: Site, job: Job) -> None:
        self.server = server
        self.job = job
        self.authority = f"{HOST}:{server.port}"

    async def ask(self, method: str = "GET", path: str = "/x", *lines: str, body: bytes = b"", host: str = "") -> bytes:
        head = [f"{method} http://{self.authority}{path} HTTP/1.1", f"Host: {host or self.authority}", *lines, "", ""]
        return await self.job.ask("\r\n".join(head).encode() + body)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(site())
        entry = f"{HOST}:{server.port}"
        job = await stack.enter_async_context(job_with_network(entry, names=local(HOST), internal=(entry,)))
        server.answer("/x", b"hello")
        yield Place(server, job)


async def test_a_request_reaches_the_server_in_origin_form(place: Place) -> None:
    answer = await place.ask("GET", "/x?q=%2e\\&r=//@evil.com:1", "Accept: text/plain", "X-Own: a, b")
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert place.server.heads == [
        (
            f"GET /x?q=%2e\\&r=//@evil.com:1 HTTP/1.1\r\nHost: {place.authority}\r\nAccept: text/plain\r\nX-Own: a, b\r\n"
            "Connection: close\r\n\r\n"
        )
    ]


@pytest.mark.parametrize(("path", "sent"), [("", "/"), ("?a=b", "/?a=b"), ("/", "/"), ("/../x", "/../x")])
async def test_the_path_is_kept(place: Place, path: str, sent: str) -> None:
    await place.ask("GET", path)
    assert place.server.heads[0].startswith(f"GET {sent} HTTP/1.1\r\n")


async def test_what_is_for_the_proxy_alone_stays_there(place: Place) -> None:
    await place.ask(
        *("GET", "/x", "Proxy-Authorization: Basic c2VjcmV0", "Proxy-Connection: keep-alive, X-Own", "proxy-foo: 1"),
        *("Connection: keep-alive, X-Hop, Content-Length", "Keep-Alive: 5", "X-Hop: 1", "TE: trailers", "Trailer: X"),
        *("Upgrade: websocket", "HTTP2-Settings: AAMAAABk", "X-Own: 1", "X-Kept: 1", "Authorization: Bearer kept"),
    )
    assert place.server.heads == [
        (
            f"GET /x HTTP/1.1\r\nHost: {place.authority}\r\nX-Kept: 1\r\nAuthorization: Bearer kept\r\n"
            "Connection: close\r\n\r\n"
        )
    ]


@pytest.mark.parametrize(
    "host",
    [
        "evil.com",
        "evil.com:80",
        "api.example.com",
        "api.example.com:1",
        "api.example.com@evil.com",
        "127.0.0.1",
        "",
        "*",
    ],
)
async def test_another_host_in_the_header_is_refused(place: Place, host: str) -> None:
    head = f"GET http://{place.authority}/x HTTP/1.1\r\nHost: {host}\r\n\r\n"
    answer = await place.job.ask(head.encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert (place.server.connections, len(place.job.refused)) == (0, 1)


@pytest.mark.parametrize(
    "lines",
    [
        ["Host: evil.com"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: +5"],
        ["Content-Length: 5x"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding : chunked"],
        ["X: a\0b"],
        ["X\0: a"],
        [" X: folded before any header"],
        ["no colon"],
        ["X: " + "a" * 80_000],
    ],
)
async def test_a_request_that_could_mean_two_things_is_refused(place: Place, lines: list[str]) -> None:
    head = [f"POST http://{place.authority}/x HTTP/1.1", f"Host: {place.authority}", *lines, "", ""]
    if lines[0].startswith(" "):
        head[1], head[2] = head[2], head[1]
    answer = await place.job.ask("\r\n".join(head).encode() + b"5\r\nhello\r\n0\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 ", b"HTTP/1.1 501 "))
    assert place.server.heads == []


@pytest.mark.parametrize(
    "target",
    [
        "http://{}@evil.com/",
        "http://evil.com\\@{}/",
        "http://{}\\@evil.com/",
        "http://user@{}/",
        "http://{}#@evil.com/",
        "http:/{}/",
        "http:{}",
        "//{}/",
        "{}/",
        "*",
        "ftp://{}/",
        "https://{}/",
        "http://http://{}/",
        "http://[{}]/",
        "http:///{}",
        "http://%61pi.example.com/",
    ],
)
async def test_a_url_that_programs_read_differently_is_refused(place: Place, target: str) -> None:
    head = f"GET {target.format(place.authority)} HTTP/1.1\r\nHost: {place.authority}\r\n\r\n"
    answer = await place.job.ask(head.encode())
    assert answer.startswith(b"HTTP/1.1 4")
    assert place.server.connections == 0


async def test_a_second_request_on_the_connection_goes_nowhere(place: Place) -> None:
    """To another host, or the same: pipelined, or after the answer."""
    first = f"GET http://{place.authority}/x HTTP/1.1\r\nHost: {place.authority}\r\n\r\n"
    second = "GET http://evil.com/y HTTP/1.1\r\nHost: evil.com\r\n\r\n"
    answer = await place.job.ask((first + second + first).encode())
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.endswith(b"Connection: close\r\n\r\nhello")
    assert [head.split(" ")[1] for head in place.server.heads] == ["/x"]
    assert (place.job.egress.requests, place.job.names.asked) == (1, [HOST])


async def test_what_follows_the_body_goes_nowhere(place: Place) -> None:
    await place.ask("POST", "/x", "Content-Length: 3", body=b"abcGET /y HTTP/1.1\r\nHost: evil.com\r\n\r\n")
    assert (place.server.bodies, len(place.server.heads)) == ([b"abc"], 1)


@pytest.mark.parametrize(
    ("lines", "body", "sent"),
    [
        (["Content-Length: 5"], b"hello", b"hello"),
        (["Transfer-Encoding: chunked"], b"3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\nTrailer: x\r\n\r\n", b"hello"),
        (["Content-Length: 300000"], b"x" * 300_000, b"x" * 300_000),
        (["Content-Length: 5", "Expect: 100-continue"], b"hello", b"hello"),
        ([], b"", b""),
    ],
)
async def test_a_body_reaches_the_server(place: Place, lines: list[str], body: bytes, sent: bytes) -> None:
    answer = await place.ask("POST", "/x", *lines, body=body)
    assert answer.endswith(b"hello")
    assert place.server.bodies == [sent]


async def test_an_answer_to_head_has_no_body(place: Place) -> None:
    place.server.answers["/x"] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    answer = await place.ask("HEAD")
    assert b"content-length: 5\r\n" in answer.lower()
    assert answer.endswith(b"\r\n\r\n")


async def test_a_refusal_of_head_has_no_body() -> None:
    async with job_with_network(HOST) as job:
        answer = await job.ask(b"HEAD http://evil.com/ HTTP/1.1\r\nHost: evil.com\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hello"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nKeep-Alive: 9\r\nConnection: keep-alive, X\r\nX: 1\r\n"
         b"Proxy-Authenticate: Basic\r\nStepbox-Refusal: no\r\n\r\nhello"), b"hello"),
    ],
)  # fmt: skip
async def test_any_answer_of_a_server_is_passed_on(raw: bytes, told: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    async with listening(answer) as port:
        entry = f"{HOST}:{port}"
        async with (
            job_with_network(entry, names=local(HOST), internal=(entry,)) as job,
            httpx.AsyncClient(proxy=job.url, trust_env=False) as client,
        ):
            response = await client.get(f"http://{entry}/x")
    assert response.content == told
    own = {"keep-alive", "x", "proxy-authenticate", "stepbox-refusal"}
    assert own.isdisjoint(response.headers)
    assert response.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", b"502"),
        (b"SSH-2.0-OpenSSH\r\n", b"502"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", b"200"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", b"502"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"200"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", b"502"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", b"502"),
    ],
)
async def test_an_answer_that_is_none_is_told_or_broken_off(raw: bytes, status: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    async with listening(answer) as port:
        entry = f"{HOST}:{port}"
        async with job_with_network(entry, names=local(HOST), internal=(entry,)) as job:
            reader, writer = await asyncio.open_connection("127.0.0.1", job.port)
            writer.write(f"GET http://{entry}/ HTTP/1.1\r\nHost: {entry}\r\n\r\n".encode())
            assert (await reader.readline()).split()[1] == status
            if status == b"200":
                with pytest.raises(ConnectionResetError):
                    await to_the_end(reader)
            writer.close()
    ((_sent, _received, reason),) = job.ends.values()
    assert (reason or "").startswith("the connection broke off: ")


async def to_the_end(reader: asyncio.StreamReader) -> None:
    while await reader.read(1000):
        pass


async def test_a_redirect_is_a_request_of_its_own() -> None:
    async with site() as inside, site() as outside:
        entries = (f"{HOST}:{inside.port}", f"other.example.com:{inside.port}")
        inside.answer("/in", b"", f"Location: http://{entries[1]}/there", status="302 Found")
        inside.answer("/there", b"arrived")
        inside.answer("/out", b"", f"Location: http://evil.com:{outside.port}/", status="302 Found")
        inside.answer("/local", b"", f"Location: http://127.0.0.1:{outside.port}/", status="307 Temporary Redirect")
        names = local(HOST, "other.example.com", "evil.com")
        async with (
            job_with_network(*entries, names=names, internal=entries) as job,
            httpx.AsyncClient(proxy=job.url, trust_env=False, follow_redirects=True) as client,
        ):
            assert (await client.get(f"http://{entries[0]}/in")).text == "arrived"
            for path in ("/out", "/local"):
                refused = await client.get(f"http://{entries[0]}{path}")
                assert refused.status_code == 403
    assert outside.connections == 0
    assert [one.host for one in job.decisions if not one.allowed] == ["evil.com", "127.0.0.1"]
    assert job.egress.requests == 6


async def test_a_server_that_falls_silent_is_left(place: Place) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.read()
        writer.close()

    async with listening(silent) as port:
        entry = f"{HOST}:{port}"
        async with job_with_network(entry, names=local(HOST), internal=(entry,), timeouts=QUICK) as job:
            answer = await job.ask(f"GET http://{entry}/ HTTP/1.1\r\nHost: {entry}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"nothing moved for 0.5 s" in answer

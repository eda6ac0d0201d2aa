import asyncio
import base64
import gzip
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from jsonschema import Draft202012Validator

from steps.addresses import Address, AddressError, Endpoint, UnresolvedError
from steps.tools.catalogue import BUILT_IN, ToolCatalogue
from steps.tools.contract import EgressDeniedError, InvalidArgumentsError, TooLargeError, ToolContext, ToolError
from steps.tools.http_request import ConnectionFailedError, HttpStatusError, TimedOutError

CATALOGUE = ToolCatalogue([])
LOOPBACK = ipaddress.ip_address("127.0.0.1")


@dataclass(kw_only=True)
class Server:
    """A real server on loopback that answers each path with given bytes, and remembers what it was sent."""

    port: int = 0
    answers: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)

    def answer(self, path: str, body: bytes = b"", *headers: str, status: str = "200 OK") -> None:
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        self.answers[path] = "\r\n".join(head).encode() + body

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(
                (int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length:")), 0
            )
            self.requests.append(head + (await reader.readexactly(length)).decode())
            path = head.split(" ")[1]
            if path != "/hang":
                writer.write(self.answers[path])
                await writer.drain()
            else:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server()
    listener = await asyncio.start_server(server.serve, host, 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with listening() as server:
        yield server


@dataclass
class Names:
    """A resolver that answers from a list, one answer after another, the last one for ever."""

    answers: dict[str, list[list[str]]]
    asked: list[str] = field(default_factory=list)

    async def __call__(self, host: str, _port: int) -> tuple[Address, ...]:
        self.asked.append(host)
        queue = self.answers.get(host)
        if not queue:
            raise UnresolvedError(f"{host} is unknown")
        return tuple(map(ipaddress.ip_address, queue.pop(0) if len(queue) > 1 else queue[0]))


def reaching(context: ToolContext, *internal: str, names: dict[str, list[list[str]]] | None = None) -> ToolContext:
    """The same call where the administrator listed ``internal`` and names resolve so."""
    services = replace(
        context.services,
        internal=frozenset(map(Endpoint.parse, internal)),
        resolver=Names(names or {}),
    )
    return replace(context, services=services)


async def request(context: ToolContext, url: str, **arguments: Any) -> Any:
    result = await CATALOGUE.call("http.request", {"url": url, **arguments}, context)
    Draft202012Validator(BUILT_IN["http.request"].spec.result).validate(result)
    json.dumps(result, allow_nan=False)
    return result


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com",
        "/path",
        "ftp://example.com",
        "file:///etc/passwd",
        "gopher://example.com",
        "http://",
        "http:///x",
        "https://user:password@example.com",
        "https://user@example.com",
        "http://[::1",
        "http://example.com:99999",
        "http://exa mple.com",
    ],
)
async def test_what_is_no_url_is_refused(context: ToolContext, url: str) -> None:
    with pytest.raises((InvalidArgumentsError, AddressError)):
        await request(reaching(context), url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "０.0.0.0",
        "127.0.0.1.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1%25lo]",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "10.0.0.1",
        "100.64.0.1",
        "localhost",
        "LOCALHOST.",
        "mixed.example",
    ],
)
async def test_an_internal_address_is_refused_however_it_is_written(
    context: ToolContext, server: Server, host: str
) -> None:
    names = {"localhost": [["127.0.0.1"]], "mixed.example": [["8.8.8.8", "127.0.0.1"]]}
    for inside in (
        reaching(context, names=names),
        reaching(context, "other:80", f"127.0.0.1:{server.port + 1}", names=names),
    ):
        with pytest.raises((AddressError, InvalidArgumentsError)):
            await request(inside, f"http://{host}:{server.port}/")
    assert server.requests == []


async def test_a_listed_host_is_reached_at_its_port(context: ToolContext, server: Server) -> None:
    server.answer("/a?x=1", b'{"ok": true}', "Content-Type: application/json; charset=utf-8")
    inside = reaching(context, f"api.internal:{server.port}", names={"api.internal": [["127.0.0.1"]]})
    answer = await request(inside, f"http://API.internal:{server.port}/a?x=1#part")
    assert answer["status"] == 200
    assert answer["json"] == {"ok": True}
    assert answer["headers"]["content-type"].startswith("application/json")
    assert f"Host: api.internal:{server.port}\r\n".lower() in server.requests[0].lower()


async def test_a_name_that_resolves_anew_is_connected_to_at_the_checked_address(
    context: ToolContext, server: Server
) -> None:
    server.answer("/", b"checked")
    names = Names({"rebinding.example": [["127.0.0.1"], ["127.0.0.2"]]})
    inside = reaching(context, f"rebinding.example:{server.port}")
    inside = replace(inside, services=replace(inside.services, resolver=names))
    async with listening("127.0.0.2") as other:
        assert (await request(inside, f"http://rebinding.example:{server.port}/"))["body"] == "checked"
        assert other.requests == []
    assert names.asked == ["rebinding.example"]


async def test_a_redirect_is_checked_like_the_first_request(context: ToolContext, server: Server) -> None:
    server.answer("/", b"", "Location: http://169.254.169.254/latest", status="302 Found")
    server.answer("/scheme", b"", "Location: file:///etc/passwd", status="302 Found")
    server.answer("/rebound", b"", "Location: /secret", status="302 Found")
    server.answer("/secret", b"secret")
    names = {"a.internal": [["127.0.0.1"]]}
    inside = reaching(context, f"a.internal:{server.port}", names=names)
    base = f"http://a.internal:{server.port}"
    with pytest.raises(AddressError, match=r"169\.254\.169\.254"):
        await request(inside, f"{base}/")
    with pytest.raises(InvalidArgumentsError, match="file:"):
        await request(inside, f"{base}/scheme")
    assert (await request(inside, f"{base}/", follow_redirects=False))["status"] == 302
    answer = await request(inside, f"{base}/rebound")
    assert (answer["url"], answer["body"]) == (f"{base}/secret", "secret")


async def test_a_redirect_for_ever_ends(context: ToolContext, server: Server) -> None:
    server.answer("/", b"", "Location: /", status="302 Found")
    with pytest.raises(ToolError, match="more than 5"):
        await request(reaching(context, f"127.0.0.1:{server.port}"), f"http://127.0.0.1:{server.port}/")
    assert len(server.requests) == 6


async def test_a_redirect_to_another_origin_carries_no_credentials(context: ToolContext, server: Server) -> None:
    async with listening() as other:
        server.answer("/", b"", f"Location: http://127.0.0.1:{other.port}/", status="307 Temporary Redirect")
        other.answer("/")
        inside = reaching(context, f"127.0.0.1:{server.port}", f"127.0.0.1:{other.port}")
        headers = {"Authorization": "Bearer x", "Cookie": "x=1", "X-Api-Key": "x", "Accept": "text/plain"}
        await request(inside, f"http://127.0.0.1:{server.port}/", method="POST", body="b", headers=headers)
        first, second = server.requests[0].lower(), other.requests[0].lower()
    for name in ("authorization", "cookie", "x-api-key", "idempotency-key"):
        assert f"\r\n{name}:" in first
        assert f"\r\n{name}:" not in second
    assert "\r\naccept: text/plain" in second
    assert second.startswith("post")
    assert second.endswith("\r\n\r\nb")


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [("303 See Other", "PUT", "GET"), ("302 Found", "POST", "GET"), ("308 Permanent Redirect", "PUT", "PUT")],
)
async def test_a_redirect_changes_the_method_as_browsers_do(
    context: ToolContext, server: Server, status: str, method: str, then: str
) -> None:
    server.answer("/", b"", "Location: /next", status=status)
    server.answer("/next", b"done")
    inside = reaching(context, f"127.0.0.1:{server.port}")
    await request(inside, f"http://127.0.0.1:{server.port}/", method=method, json={"a": 1})
    assert server.requests[1].startswith(f"{then} /next")
    assert server.requests[1].endswith('{"a": 1}') == (then == method)


@pytest.mark.parametrize("path", ["/large", "/endless", "/bomb"])
async def test_a_large_body_is_cut_off(context: ToolContext, server: Server, path: str) -> None:
    server.answer("/large", b"x" * 1_000_001)
    server.answers["/endless"] = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5_000_000
    server.answer("/bomb", gzip.compress(b"\0" * 100_000_000, 9), "Content-Encoding: gzip")
    with pytest.raises(TooLargeError, match="1000000"):
        await request(reaching(context, f"127.0.0.1:{server.port}"), f"http://127.0.0.1:{server.port}{path}")


async def test_a_body_of_just_the_limit_is_whole(context: ToolContext, server: Server) -> None:
    server.answer("/", b"x" * 1_000_000)
    server.answer("/gzip", gzip.compress(b"x" * 1_000_000), "Content-Encoding: gzip")
    inside = reaching(context, f"127.0.0.1:{server.port}")
    for path in ("/", "/gzip"):
        assert len((await request(inside, f"http://127.0.0.1:{server.port}{path}"))["body"]) == 1_000_000


@pytest.mark.parametrize(
    ("body", "headers", "decoded"),
    [
        (b"Gr\xfc\xdfe", ["Content-Type: text/plain; charset=latin-1"], {"body": "Grüße", "encoding": "text"}),
        ("Grüße".encode(), [], {"body": "Grüße", "encoding": "text"}),
        (b"\xff\0", ["Content-Type: image/png"], {"body": base64.b64encode(b"\xff\0").decode(), "encoding": "base64"}),
        (b"x", ["Content-Type: text/plain; charset=nonsense"], {"body": "x", "encoding": "text"}),
        (b"{", ["Content-Type: application/json"], {"body": "{", "encoding": "text"}),
        (b"NaN", ["Content-Type: application/json"], {"body": "NaN", "encoding": "text"}),
        (b"[1]", ["Content-Type: application/problem+json"], {"json": [1]}),
        (b"null", ["Content-Type: application/json"], {"json": None}),
        (b"", [], {"body": "", "encoding": "text"}),
    ],
)
async def test_a_body_is_json_text_or_base64(
    context: ToolContext, server: Server, body: bytes, headers: list[str], decoded: dict[str, Any]
) -> None:
    server.answer("/", body, *headers)
    answer = await request(reaching(context, f"127.0.0.1:{server.port}"), f"http://127.0.0.1:{server.port}/")
    assert {name: answer[name] for name in decoded} == decoded


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"nonsense\r\n\r\n", "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "broke off"),
        (b"", "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx", "compressed by br"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", "gzip"),
    ],
)
async def test_a_broken_answer_is_a_typed_error(
    context: ToolContext, server: Server, answer: bytes, message: str
) -> None:
    server.answers["/"] = answer
    with pytest.raises(ToolError, match=message):
        await request(reaching(context, f"127.0.0.1:{server.port}"), f"http://127.0.0.1:{server.port}/")


async def test_a_server_that_hangs_or_is_not_there_is_a_typed_error(context: ToolContext, server: Server) -> None:
    inside = reaching(context, f"127.0.0.1:{server.port}", "127.0.0.1:1")
    with pytest.raises(TimedOutError, match=r"0\.2 s"):
        await request(inside, f"http://127.0.0.1:{server.port}/hang", timeout=0.2)
    with pytest.raises(ConnectionFailedError):
        await request(inside, "http://127.0.0.1:1/")
    with pytest.raises(UnresolvedError):
        await request(inside, "http://unknown.example/")


async def test_the_next_address_is_tried_where_one_refuses(context: ToolContext, server: Server) -> None:
    server.answer("/", b"here")
    names = {"two.internal": [["127.0.0.9", "127.0.0.1"]]}
    inside = reaching(context, f"two.internal:{server.port}", names=names)
    assert (await request(inside, f"http://two.internal:{server.port}/"))["body"] == "here"


async def test_a_failing_status_counts_only_where_asked(context: ToolContext, server: Server) -> None:
    server.answer("/", b"no luck", status="503 Service Unavailable")
    inside = reaching(context, f"127.0.0.1:{server.port}")
    assert (await request(inside, f"http://127.0.0.1:{server.port}/"))["status"] == 503
    with pytest.raises(HttpStatusError, match="503: no luck"):
        await request(inside, f"http://127.0.0.1:{server.port}/", fail_on_error=True)
    with pytest.raises(HttpStatusError, match="503: no luck"):
        await request(inside, f"http://127.0.0.1:{server.port}/", fail_on_status=[429, 503])
    assert (await request(inside, f"http://127.0.0.1:{server.port}/", fail_on_status=[429, 502]))["status"] == 503
    with pytest.raises(HttpStatusError, match="503: no luck"):
        await request(inside, f"http://127.0.0.1:{server.port}/", fail_on_error=True, fail_on_status=[429])


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "other"},
        {"content-length": "1"},
        {"Transfer-Encoding": "chunked"},
        {"Connection": "close"},
        {"X": "a\r\nHost: b"},
        {"X": "a\nb"},
        {"X\r\nY": "a"},
        {"X": "ü"},
        {"": "a"},
        {"X:": "a"},
    ],
)
async def test_a_header_cannot_smuggle(context: ToolContext, server: Server, headers: dict[str, str]) -> None:
    inside = reaching(context, f"127.0.0.1:{server.port}")
    with pytest.raises(InvalidArgumentsError, match="headers"):
        await request(inside, f"http://127.0.0.1:{server.port}/", headers=headers)
    assert server.requests == []


async def test_a_request_is_sent_as_asked(context: ToolContext, server: Server) -> None:
    server.answer("/p?a=1&q=x+y&n=2&l=1&l=2")
    inside = reaching(context, f"127.0.0.1:{server.port}")
    url = f"http://127.0.0.1:{server.port}/p?a=1"
    query = {"q": "x y", "n": 2, "l": [1, 2]}
    await request(inside, url, method="POST", query=query, json={"ü": [1]}, headers={"X-One": "1"})
    head, _, body = server.requests[0].partition("\r\n\r\n")
    assert json.loads(body) == {"ü": [1]}
    lines = head.lower().split("\r\n")
    assert "content-type: application/json" in lines
    assert "x-one: 1" in lines
    assert "idempotency-key: key-1" in lines
    await request(inside, url, method="POST", query=query, body="x", headers={"Idempotency-Key": "mine"})
    assert "idempotency-key: mine" in server.requests[1].lower()
    await request(inside, url, query=query)
    assert "idempotency-key" not in server.requests[2].lower()


async def test_nothing_comes_from_the_environment_and_no_cookie_is_kept(
    context: ToolContext, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password s3cret")
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    server.answer("/", b"", "Set-Cookie: a=1")
    inside = reaching(context, f"127.0.0.1:{server.port}")
    for _ in range(2):
        await request(inside, f"http://127.0.0.1:{server.port}/")
    assert len(server.requests) == 2
    for sent in server.requests:
        assert "cookie" not in sent.lower()
        assert "authorization" not in sent.lower()


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A certificate authority of the test's own."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    file: Path

    @classmethod
    def make(cls, directory: Path) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate("test authority", key, "test authority", key, authority=True)
        file = directory / "ca.pem"
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return cls(certificate=certificate, key=key, file=file)

    def server_tls(self, name: str, seen: list[str | None]) -> ssl.SSLContext:
        """What a server called ``name`` needs; it remembers the names that clients ask for."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(name, key, "test authority", self.key, authority=False)
        file = self.file.with_name(f"{name}.pem")
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(file)
        tls.sni_callback = lambda _socket, asked, _context: seen.append(asked)
        return tls


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey, *, authority: bool
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if authority:
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(usage, critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    else:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    return builder.sign(signer, hashes.SHA256())


async def test_tls_verifies_the_name_and_not_the_address(context: ToolContext, tmp_path: Path) -> None:
    authority, seen = Authority.make(tmp_path), list[str | None]()
    async with listening(tls=authority.server_tls("good.internal", seen)) as server:
        server.answer("/", b"hello")
        server.answer("/down", b"", f"Location: http://good.internal:{server.port}/", status="302 Found")
        names = {"good.internal": [["127.0.0.1"]], "evil.internal": [["127.0.0.1"]]}
        inside = reaching(context, *(f"{name}:{server.port}" for name in (*names, "127.0.0.1")), names=names)
        trusting = replace(inside, services=replace(inside.services, ca_file=authority.file))
        assert (await request(trusting, f"https://good.internal:{server.port}/"))["body"] == "hello"
        assert seen == ["good.internal"]
        with pytest.raises(EgressDeniedError, match="without encryption"):
            await request(trusting, f"https://good.internal:{server.port}/down")
        for host in ("evil.internal", "127.0.0.1"):
            with pytest.raises(ConnectionFailedError, match="CERTIFICATE_VERIFY_FAILED"):
                await request(trusting, f"https://{host}:{server.port}/")
        with pytest.raises(ConnectionFailedError, match="CERTIFICATE_VERIFY_FAILED"):
            await request(inside, f"https://good.internal:{server.port}/")

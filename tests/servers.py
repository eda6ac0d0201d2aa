"""Servers on loopback for tests of the network: with TLS, under names that only the test's own resolver knows."""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from flows.contracts import EgressDecision
from steps.addresses import Address, UnresolvedError

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Names:
    """A resolver that knows the names of one test; a list of answers is given one after another, its last for ever."""

    answers: dict[str, list[list[str]]]
    asked: list[str] = field(default_factory=list)

    async def __call__(self, host: str, _port: int) -> tuple[Address, ...]:
        self.asked.append(host)
        queue = self.answers.get(host)
        if not queue:
            raise UnresolvedError(f"{host!r} can't be resolved: unknown", fix="check the host name")
        answer = queue.pop(0) if len(queue) > 1 else queue[0]
        return tuple(ipaddress.ip_address(text) for text in answer)


def local(*names: str) -> Names:
    """Names of servers on loopback."""
    return Names({name: [["127.0.0.1"]] for name in names})


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self._certificate = self._sign(self._name, self._key.public_key(), ca=True)
        self.file = directory / "authority.pem"
        self.file.write_bytes(self.pem)

    @property
    def pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def context(self, *names: str) -> ssl.SSLContext:
        """What a server of these names answers with."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = self._sign(subject, key.public_key(), names=names)
        file = self._directory / f"{names[0]}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(file)
        return context

    def client(self) -> ssl.SSLContext:
        """What a client trusts who trusts this authority only."""
        return ssl.create_default_context(cafile=str(self.file))

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, names: tuple[str, ...] = (), ca: bool = False
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        issuer = self._key.public_key()
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=ca,
            crl_sign=ca,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=None,  # type: ignore[arg-type] # as RFC 5280 wants it without key_agreement
            decipher_only=None,  # type: ignore[arg-type]
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
        )
        if names:
            alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self._key, hashes.SHA256())


@dataclass
class Journal:
    """Keeps what was decided on requests over the network, and what became of those that were let through."""

    decisions: list[EgressDecision] = field(default_factory=list)
    ends: dict[str, tuple[int, int, str | None]] = field(default_factory=dict)

    async def record_egress(self, decision: EgressDecision) -> str:
        self.decisions.append(decision)
        return str(len(self.decisions) - 1)

    async def finish_egress(self, record: str, *, sent: int, received: int, reason: str | None = None) -> None:
        assert record not in self.ends
        assert self.decisions[int(record)].reason is None
        self.ends[record] = sent, received, reason

    @property
    def refused(self) -> list[str]:
        """Why requests were refused, in order."""
        return [one.reason or "" for one in self.decisions if not one.allowed]


@dataclass
class Site:
    """A running HTTP server: what it was asked, and what it answers at which path."""

    port: int
    answers: dict[str, bytes] = field(default_factory=dict)
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0

    def answer(self, path: str, body: bytes, *headers: str, status: str = "200 OK") -> None:
        """``body`` to whoever asks for this path."""
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        self.answers[path] = "\r\n".join(head).encode() + body

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.heads.append(head)
                self.bodies.append(await _body(head, reader))
                path = head.split(" ")[1]
                writer.write(self.answers.get(path, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
                await writer.drain()
        writer.close()


async def _body(head: str, reader: asyncio.StreamReader) -> bytes:
    fields = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
    if fields.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(fields.get("content-length", "0")))
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return body


@asynccontextmanager
async def listening(
    handler: Handler, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """Serve connections; gives the port."""
    server = await asyncio.start_server(handler, address, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def site(tls: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> AsyncIterator[Site]:
    """An HTTP server, with TLS where a context is given."""
    running = Site(0)
    async with listening(running.serve, tls, address) as running.port:
        yield running

"""What code asks of its proxy: a tunnel to a host, or a plain request to pass on, read strictly from an h11 request.

Nothing of the code's own bytes goes out as they came: a plain request is written anew for the server.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import h11

from steps.addresses import MAX_PORT, AddressError, Endpoint, normal_host
from steps.sandbox.guest.proxy import ADDRESS, PORT

HTTP_PORT: Final = 80

_OWN_HOST: Final = f"{ADDRESS}:{PORT}".encode()
_AUTHORITY: Final = re.compile(rb"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,254})(?::(?P<port>[0-9]{1,5}))?")
_ABSOLUTE: Final = re.compile(rb"[Hh][Tt][Tt][Pp]://(?P<authority>[^/?#]*)(?P<path>/?[^#]*)")
_HOP_BY_HOP: Final = frozenset(
    {b"connection", b"content-length", b"expect", b"host", b"keep-alive", b"te", b"trailer", b"transfer-encoding"}
    | {b"upgrade", b"http2-settings"}
)
"""Of this connection only (RFC 9110, section 7.6.1), or written anew."""


class BadRequestError(Exception):
    """A request that means nothing to the proxy, or could mean two things. ``target`` is what it asked for."""

    def __init__(self, message: str, *, fix: str, target: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.target = target


@dataclass(frozen=True, kw_only=True)
class Tunnel:
    """``CONNECT host:port``."""

    endpoint: Endpoint


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A request without encryption; ``request`` is the head to send to the server."""

    endpoint: Endpoint
    request: h11.Request


@dataclass(frozen=True, kw_only=True)
class Inquiry:
    """``GET /`` of the proxy itself: what the step's network is."""


def understand(request: h11.Request) -> Tunnel | Plain | Inquiry:
    """What a request asks for.

    Raises:
        BadRequestError: it isn't one for a proxy, its host isn't written as a host, or it says two different things.
    """
    if request.method == b"CONNECT":
        return Tunnel(endpoint=_endpoint(request.target, request.target, None))
    if request.target.startswith(b"/"):
        return _inquiry(request)
    found = _ABSOLUTE.fullmatch(request.target)
    if found is None:
        raise BadRequestError(
            "the request is neither CONNECT HOST:PORT nor one with an http:// URL",
            fix="use the proxy as HTTP_PROXY and HTTPS_PROXY say",
            target=_shown(request.target),
        )
    endpoint = _endpoint(found["authority"], request.target, HTTP_PORT)
    for name, value in request.headers:
        if name == b"host" and _endpoint(value, value, HTTP_PORT) != endpoint:
            raise BadRequestError(
                f"the URL is of {endpoint} and the Host header of {_shown(value)}",
                fix="send the URL's own host as Host",
                target=str(endpoint),
            )
    path = found["path"] if found["path"].startswith(b"/") else b"/" + found["path"]
    head = h11.Request(method=request.method, target=path, headers=[*_headers(request, endpoint)])
    return Plain(endpoint=endpoint, request=head)


def end_to_end(message: h11.Request | h11.Response) -> Iterator[tuple[bytes, bytes]]:
    """The headers that are not only for this connection, as they were written."""
    named = {
        token.strip().lower()
        for name, value in message.headers
        if name in {b"connection", b"proxy-connection"}
        for token in value.split(b",")
    }
    for name, value in message.headers.raw_items():
        lower = name.lower()
        if lower not in _HOP_BY_HOP and lower not in named and not lower.startswith(b"proxy-"):
            yield name, value


def _headers(request: h11.Request, endpoint: Endpoint) -> Iterator[tuple[bytes, bytes]]:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    yield b"Host", (host if endpoint.port == HTTP_PORT else f"{host}:{endpoint.port}").encode()
    yield from end_to_end(request)
    framing = [(name, value) for name, value in request.headers if name in {b"content-length", b"transfer-encoding"}]
    if len(framing) > 1:
        fix = "send either Content-Length or Transfer-Encoding"
        raise BadRequestError("the length of the body is said twice", fix=fix, target=str(endpoint))
    yield from framing
    yield b"Connection", b"close"


def _endpoint(authority: bytes, target: bytes, default_port: int | None) -> Endpoint:
    """``host:port``, with the host in its one normal form."""
    fix = "write the host's name alone, with an optional :port"
    found = _AUTHORITY.fullmatch(authority)
    port = None if found is None else found["port"] or default_port
    if found is None or port is None or not 0 < int(port) <= MAX_PORT:
        raise BadRequestError(f"{_shown(authority)!r} is no host", fix=fix, target=_shown(target))
    try:
        return Endpoint(normal_host(found["host"].decode("ascii")), int(port))
    except AddressError as error:
        raise BadRequestError(error.message, fix=error.fix or fix, target=_shown(target)) from None


def _inquiry(request: h11.Request) -> Inquiry:
    host = dict(request.headers).get(b"host", b"")
    if request.target == b"/" and request.method in {b"GET", b"HEAD"} and host == _OWN_HOST:
        return Inquiry()
    raise BadRequestError(
        "this is the proxy of the step's network, not a web server",
        fix="leave the URL's host to the proxy: an entry in /etc/hosts leads nowhere",
        target=_shown(host),
    )


def _shown(text: bytes) -> str:
    """Bytes of the code as a record and a message may show them."""
    return text[:200].decode("ascii", "backslashreplace")

"""The step's way to the network: a proxy on the sandbox's own loopback that only passes bytes on to the host and back.

Runs in the supervisor, and only where the step has a network. Each connection is a numbered stream over the channel;
what is asked in it, the host reads, and the host decides and connects. Nothing here is trusted by it.
"""

from __future__ import annotations

import _socket
import os
import select

# Importing `typing` alone would take longer than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Send = Callable[..., None]
    Watch = Callable[[int, Callable[[], None], int], None]
    Unwatch = Callable[[int], None]


ADDRESS, PORT = "127.0.0.1", 17853
URL = f"http://{ADDRESS}:{PORT}"
WINDOW = 128 * 1024
"""Bytes of a stream that either side may send ahead of what the other has taken."""
MAX_STREAMS = 32
"""Of one job at once; further connections wait."""
MAX_LINGERING = 32
BACKLOG = 128
CHUNK = 32 * 1024
RESET = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
"""For SO_LINGER: closing breaks the connection off, so that no client takes it for a whole answer."""

AUTHORITIES = "/dev/shm/authorities.pem"  # noqa: S108 - the sandbox's own
SHARED_AUTHORITIES = "/work/.stepbox/authorities.pem"
"""The same for code in another container, where the step has authorities of its own."""
SYSTEM_AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",
    "/opt/packages/certifi/cacert.pem",  # that of Python steps, where the system has none
)


def environment(authorities: bytes) -> dict[str, str]:
    """What makes clients use the proxy, and trust the authorities besides those of the system."""
    return {**proxy_variables(), **_trust(authorities)}


def proxy_variables() -> dict[str, str]:
    """What makes clients use the proxy."""
    variables = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), URL)
    # What the step serves to itself doesn't leave the sandbox. No address is ever allowed, so this hides nothing else.
    variables["NO_PROXY"] = f"{ADDRESS},::1"
    return {**variables, **{name.lower(): value for name, value in variables.items()}}


def _trust(authorities: bytes) -> dict[str, str]:
    bundle = _system_bundle()
    if authorities:
        keep_bundle(authorities, AUTHORITIES)
        bundle = AUTHORITIES
    return {} if bundle is None else bundle_variables(bundle)


def bundle_variables(bundle: str) -> dict[str, str]:
    """What makes clients read that file of authorities."""
    return dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"), bundle)


def keep_bundle(authorities: bytes, path: str) -> None:
    """Write the file of authorities that clients read: it replaces a client's own, so it needs to have all."""
    system = _system_bundle()
    with open(path, "wb") as file:  # noqa: PTH123 - pathlib would slow each start
        if system is not None:
            with open(system, "rb") as usual:  # noqa: PTH123
                file.write(usual.read())
        file.write(b"\n" + authorities)


def _system_bundle() -> str | None:
    return next((path for path in SYSTEM_AUTHORITIES if os.path.exists(path)), None)  # noqa: PTH110


class Stream:
    """One connection of the code. ``credit`` is how much more the host has room for."""

    def __init__(self, proxy: Proxy, number: int, line: Any) -> None:
        self._proxy = proxy
        self._number = number
        self._line = line
        self._fileno = line.fileno()
        self._outgoing = bytearray()
        self._credit = WINDOW
        self._taken = 0
        self._ended = False
        self._closing = False
        self._lingering = False
        self.look()

    def data(self, payload: bytes) -> None:
        self._outgoing += payload
        self._write()

    def window(self, count: int) -> None:
        self._credit += count
        self.look()

    def close(self, *, reset: bool) -> None:
        """End the connection for the host: at once, or when the client has taken what there is."""
        if reset:
            self._line.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, RESET)
            self.forget()
            return
        self._closing = True
        self._write()

    def forget(self) -> None:
        self._proxy.unwatch(self._fileno)
        self._line.close()
        self._proxy.gone(self._number)

    def look(self) -> None:
        """Wait for what can be done next."""
        events = 0
        if not self._ended and (self._lingering or (self._credit and not self._closing)):
            events |= select.POLLIN
        if self._outgoing:
            events |= select.POLLOUT
        if events:
            self._proxy.watch(self._fileno, self._ready, events)
        else:
            # Else a hang-up would be told again and again.
            self._proxy.unwatch(self._fileno)

    def _ready(self) -> None:
        if self._outgoing and not self._write():
            return
        if self._lingering or (self._credit and not self._ended and not self._closing):
            self._read()

    def _read(self) -> None:
        try:
            data = self._line.recv(CHUNK if self._lingering else min(CHUNK, self._credit))
        except BlockingIOError:
            return
        except OSError:
            self._broke()
            return
        if self._lingering:
            if not data:
                self.forget()
            return
        if data:
            self._credit -= len(data)
            self._proxy.send({"kind": "data", "stream": self._number}, data)
        else:
            self._ended = True
            self._proxy.send({"kind": "shut", "stream": self._number})
        self.look()

    def _write(self) -> bool:
        """Give the client what it takes; False where the connection is no more."""
        try:
            count = self._line.send(self._outgoing) if self._outgoing else 0
        except BlockingIOError:
            count = 0
        except OSError:
            self._broke()
            return False
        del self._outgoing[:count]
        self._taken += count
        if self._taken >= WINDOW // 2 and not self._closing:
            self._proxy.send({"kind": "window", "stream": self._number, "bytes": self._taken})
            self._taken = 0
        if self._closing and not self._outgoing:
            return self._linger()
        self.look()
        return True

    def _linger(self) -> bool:
        """End this side, and close once the client has: closing before would take from it what it hasn't read yet."""
        if self._ended:
            self.forget()
            return False
        try:
            self._line.shutdown(_socket.SHUT_WR)
        except OSError:
            self.forget()
            return False
        self._lingering = True
        self._proxy.lingers(self._number)
        self.look()
        return True

    def _broke(self) -> None:
        if not self._closing:
            self._proxy.send({"kind": "close", "stream": self._number})
        self.forget()


class Proxy:
    """Takes the code's connections. ``watch`` and ``unwatch`` are the poll loop's."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self._socket = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK)
        self._socket.bind((ADDRESS, PORT))
        self._socket.listen(BACKLOG)
        self._streams: dict[int, Stream] = {}
        self._lingering: dict[int, Stream] = {}
        self._last = 0

    def attach(self, watch: Watch, unwatch: Unwatch) -> None:
        self.watch = watch
        self.unwatch = unwatch
        self._listen()

    def close(self) -> None:
        """Give up the place in this process, a copy of the one that keeps it."""
        self._socket.close()

    def hear(self, header: dict[str, Any], payload: bytes) -> None:
        """Take a frame of the host for a stream; it may have ended meanwhile."""
        stream = self._streams.get(header["stream"])
        if stream is None:
            return
        if header["kind"] == "data":
            stream.data(payload)
        elif header["kind"] == "window":
            stream.window(header["bytes"])
        elif header["kind"] == "close":
            stream.close(reset=header["reset"])

    def gone(self, number: int) -> None:
        self._lingering.pop(number, None)
        if self._streams.pop(number, None) is not None:
            self._listen()

    def lingers(self, number: int) -> None:
        """A stream is over but for the client's own end: it takes no place any more."""
        self._lingering[number] = self._streams.pop(number)
        self._listen()
        if len(self._lingering) > MAX_LINGERING:
            next(iter(self._lingering.values())).forget()

    def _listen(self) -> None:
        self.watch(self._socket.fileno(), self._accept, select.POLLIN)

    def _accept(self) -> None:
        if len(self._streams) >= MAX_STREAMS:
            self.unwatch(self._socket.fileno())
            return
        try:
            # What `socket` itself uses; importing that would be slow.
            descriptor, _address = self._socket._accept()  # type: ignore[attr-defined] # noqa: SLF001
        except OSError:
            return
        os.set_blocking(descriptor, False)
        line = _socket.socket(fileno=descriptor)
        line.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self._last += 1
        self.send({"kind": "open", "stream": self._last})
        self._streams[self._last] = Stream(self, self._last, line)

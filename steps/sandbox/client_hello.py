"""The first message of a TLS connection, read for what it says in the clear: the name of the server.

The formats are those of RFC 8446 (records in section 5.1, ClientHello in 4.1.2), RFC 6066 (section 3, server_name) and
RFC 9849 (encrypted ClientHello).
"""

from typing import Final

MAX_HELLO: Final = 64 * 1024
"""Bytes, record headers included; post-quantum key shares make one of about 1,800."""
UNRECOGNIZED_NAME: Final = bytes.fromhex("15 0303 0002 02 70")
"""The fatal alert by which a client learns that its server name is not accepted (RFC 6066)."""

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_RECORD_HEAD: Final = 5
_MAX_RECORD: Final = 2**14
_MESSAGE_HEAD: Final = 4
_SERVER_NAME: Final = 0
_HOST_NAME: Final = 0
_ENCRYPTED_CLIENT_HELLO: Final = frozenset({0xFE0D, 0xFD00})


class NotTlsError(ValueError):
    """What came is not the beginning of a TLS connection."""


class HiddenNameError(ValueError):
    """The hello doesn't say the server's name, or may say another one where it is encrypted."""


class _TooShortError(Exception):
    """A field reaches beyond the end of what holds it."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise _TooShortError
        taken, self._at = self._data[self._at : end], end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """What follows a length of ``size`` bytes."""
        return self.take(self.number(size))


def server_name(data: bytes) -> str | None:
    """The name of the server in the hello that ``data`` begins with; None where more bytes are needed.

    Raises:
        NotTlsError: it isn't the beginning of a TLS connection.
        HiddenNameError: it names no server, more than one, or carries an encrypted hello.
    """
    hello = _hello(data)
    if hello is None:
        if len(data) > MAX_HELLO:
            raise NotTlsError("its first message doesn't end")
        return None
    try:
        return _name(_extensions(hello))
    except _TooShortError:
        raise NotTlsError("its first message is cut off") from None


def _hello(data: bytes) -> bytes | None:
    """The body of the ClientHello, out of one record or several; None where it isn't all there."""
    message, at = b"", 0
    while True:
        head = data[at : at + _RECORD_HEAD]
        length = int.from_bytes(head[3:], "big")
        if head[:1] not in {b"", bytes([_HANDSHAKE])} or head[1:2] not in {b"", b"\x03"}:
            raise NotTlsError("it doesn't begin with a handshake")
        if len(head) == _RECORD_HEAD and not 0 < length <= _MAX_RECORD:
            raise NotTlsError("a record has an impossible length")
        message += data[at + _RECORD_HEAD : at + _RECORD_HEAD + length]
        if message[:1] not in {b"", bytes([_CLIENT_HELLO])}:
            raise NotTlsError("it doesn't begin with a ClientHello")
        end = _MESSAGE_HEAD + int.from_bytes(message[1:_MESSAGE_HEAD], "big")
        if len(message) >= _MESSAGE_HEAD and end > MAX_HELLO:
            raise NotTlsError("its first message is too long")
        if len(message) >= max(end, _MESSAGE_HEAD + 1):
            return message[_MESSAGE_HEAD:end]
        at += _RECORD_HEAD + length
        if at >= len(data) or len(head) < _RECORD_HEAD:
            return None


def _extensions(hello: bytes) -> dict[int, bytes]:
    fields = _Reader(hello)
    fields.take(2 + 32)  # the version and the random bytes
    fields.vector(1)  # the session id
    fields.vector(2)  # the cipher suites
    fields.vector(1)  # the compression methods
    found: dict[int, bytes] = {}
    entries = _Reader(fields.vector(2) if fields else b"")
    while entries:
        kind, body = entries.number(2), entries.vector(2)
        if kind in found:
            raise NotTlsError("its first message says a thing twice")
        found[kind] = body
    if fields:
        raise NotTlsError("its first message goes on after its end")
    return found


def _name(extensions: dict[int, bytes]) -> str:
    if extensions.keys() & _ENCRYPTED_CLIENT_HELLO:
        raise HiddenNameError("the connection carries an encrypted ClientHello, which may be for another server")
    if _SERVER_NAME not in extensions:
        raise HiddenNameError("the connection doesn't name its server (no SNI)")
    body = _Reader(extensions[_SERVER_NAME])
    names = _Reader(body.vector(2))
    kind, name = names.number(1), names.vector(2)
    if names or body or kind != _HOST_NAME:
        raise HiddenNameError("the connection doesn't name exactly one server")
    return name.decode("ascii", "backslashreplace")

"""Length-prefixed frames, as the guest reads and writes them. Standard library only.

A frame is two big-endian 32-bit lengths, a JSON header of the first length and raw bytes of the second. The host has
its own decoder (steps/sandbox/channel.py), because it trusts nothing that comes from here.
"""

from __future__ import annotations

import os

from steps.sandbox.guest.json_text import dumps, loads

# Importing `typing` alone would take longer than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


TOOL_SOCKET = "\0stepbox"
"""Where the supervisor takes the calls of the command ``tool``: in the sandbox's own network namespace, no file."""
LENGTHS = 8
"""Bytes of the two lengths before a frame."""
MAX_HEADER = 64 * 1024
MAX_PAYLOAD = 64 * 1024 * 1024


class BrokenFrameError(Exception):
    """What came in is no frame."""


def encode(header: dict[str, Any], payload: bytes = b"") -> bytes:
    text = dumps(header).encode()
    return len(text).to_bytes(4, "big") + len(payload).to_bytes(4, "big") + text + payload


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class Decoder:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Yields the header and payload of each frame that is now complete."""
        self._buffer += data
        while len(self._buffer) >= LENGTHS:
            head = int.from_bytes(self._buffer[:4], "big")
            body = int.from_bytes(self._buffer[4:LENGTHS], "big")
            if head > MAX_HEADER or body > MAX_PAYLOAD:
                raise BrokenFrameError
            end = LENGTHS + head + body
            if len(self._buffer) < end:
                return
            try:
                header = loads(bytes(self._buffer[LENGTHS : LENGTHS + head]))
            except (ValueError, RecursionError) as error:
                raise BrokenFrameError from error
            if not isinstance(header, dict):
                raise BrokenFrameError
            payload = bytes(self._buffer[LENGTHS + head : end])
            del self._buffer[:end]
            yield header, payload


def read_frame(descriptor: int) -> tuple[dict[str, Any], bytes] | None:
    """Blocks for exactly one frame, and reads nothing behind it; None at the end of the stream."""
    lengths = _read_exactly(descriptor, LENGTHS)
    if lengths is None:
        return None
    head, body = int.from_bytes(lengths[:4], "big"), int.from_bytes(lengths[4:], "big")
    if head > MAX_HEADER or body > MAX_PAYLOAD:
        raise BrokenFrameError
    data = _read_exactly(descriptor, head + body)
    if data is None:
        return None
    return loads(data[:head]), data[head:]


def _read_exactly(descriptor: int, count: int) -> bytes | None:
    chunks = []
    while count:
        chunk = os.read(descriptor, min(count, 1 << 20))
        if not chunk:
            return None
        chunks.append(chunk)
        count -= len(chunk)
    return b"".join(chunks)

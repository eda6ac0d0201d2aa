"""Frames between the host and a sandbox, as the host reads and writes them.

A frame is two big-endian 32-bit lengths, a JSON header of the first length and raw bytes of the second. Whatever comes
from the guest is hostile: sizes are capped before anything is read, the header must be an object of a known kind with
fields of the right types, and anything else is a :class:`ChannelError`, after which the sandbox is destroyed.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

MAX_HEADER = 64 * 1024
MAX_PAYLOAD_TO_GUEST = 64 * 1024 * 1024
MAX_CHUNK = 64 * 1024
MAX_ERROR = 256 * 1024
MAX_CALL_ARGUMENTS = 8 * 1024 * 1024
MAX_ID = 2**31
MAX_NAME = 200
MAX_CONTENT = 256 * 1024
"""Bytes of a file in one frame."""
MAX_PATH = 4096
MAX_SIZE = 2**63


class ChannelError(Exception):
    """The guest sent something that is no frame of the protocol."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The guest waits for its job."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """The guest has its job; from now on, code may run."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Code that runs in another container may start: its inputs are there."""


@dataclass(frozen=True, kw_only=True)
class Log:
    """Raw output, cut anywhere."""

    stream: Literal["stdout", "stderr"]
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Call:
    """A tool call; ``arguments`` is JSON text that nobody has checked."""

    id: int
    tool: str
    arguments: bytes


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the code returned; JSON text that nobody has checked."""

    data: bytes


@dataclass(frozen=True, kw_only=True)
class Failure:
    """How the code failed, in its own words; JSON text that nobody has checked."""

    data: bytes


@dataclass(frozen=True, kw_only=True)
class Exit:
    """The user's process ended, with a wait status as ``waitpid`` gives it."""

    status: int
    artifacts: bool = False
    """Whether it left files, of which the guest is going to tell."""


@dataclass(frozen=True, kw_only=True)
class Announced:
    """A file that the step left. Files are numbered from 0; ``path`` is bytes that nobody has checked."""

    path: bytes
    size: int


@dataclass(frozen=True, kw_only=True)
class Omitted:
    """Something that the step left and that is no artifact; ``path`` is empty where it is the directory itself."""

    path: bytes
    why: str


@dataclass(frozen=True, kw_only=True)
class Beyond:
    """A file that passes a limit; the guest tells nothing more."""

    path: bytes
    limit: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Content:
    """The next bytes of an announced file."""

    artifact: int
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Complete:
    """An announced file has no more bytes."""

    artifact: int


@dataclass(frozen=True, kw_only=True)
class Collected:
    """The guest has told of everything; ``omitted`` counts what is no artifact."""

    omitted: int


@dataclass(frozen=True, kw_only=True)
class Open:
    """The code has connected to the proxy: a stream of bytes begins. Streams are numbered from 1."""

    stream: int


@dataclass(frozen=True, kw_only=True)
class Data:
    """Bytes that the code sent into a stream."""

    stream: int
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Window:
    """The code has taken this many bytes of a stream, so that as many more may be sent."""

    stream: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Shut:
    """The code will send no more into a stream."""

    stream: int


@dataclass(frozen=True, kw_only=True)
class Close:
    """The code has closed its connection."""

    stream: int


StreamFrame = Open | Data | Window | Shut | Close
ArtifactFrame = Announced | Omitted | Beyond | Content | Complete | Collected
Frame = Ready | Taken | Prepared | Log | Call | Result | Failure | Exit | StreamFrame | ArtifactFrame


def encode(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """A frame for the guest.

    Raises:
        ValueError: the payload is larger than a guest accepts.
    """
    if len(payload) > MAX_PAYLOAD_TO_GUEST:
        raise ValueError(f"{len(payload)} bytes are more than a sandbox takes at once ({MAX_PAYLOAD_TO_GUEST})")
    text = json.dumps(header).encode()
    return len(text).to_bytes(4, "big") + len(payload).to_bytes(4, "big") + text + payload


async def read_frame(reader: asyncio.StreamReader, *, max_result: int) -> Frame | None:
    """The next frame, or None where the stream ends between two frames.

    ``max_result`` caps the payload of a result, in bytes.

    Raises:
        ChannelError: what came is no frame, or one larger than its kind may be.
    """
    try:
        lengths = await reader.readexactly(8)
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise ChannelError("the stream ended within a frame") from None
    head, body = int.from_bytes(lengths[:4], "big"), int.from_bytes(lengths[4:], "big")
    if head > MAX_HEADER:
        raise ChannelError(f"a header of {head} bytes")
    try:
        header = _header(await reader.readexactly(head))
        cap = _cap(header, max_result)
        if body > cap:
            raise ChannelError(f"a payload of {body} bytes where {cap} are allowed")
        payload = await reader.readexactly(body)
    except asyncio.IncompleteReadError:
        raise ChannelError("the stream ended within a frame") from None
    return _frame(header, payload)


def _header(text: bytes) -> Mapping[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise ChannelError("a header that is not JSON") from None
    if not isinstance(header, dict):
        raise ChannelError("a header that is no object")
    return header


def _cap(header: Mapping[str, Any], max_result: int) -> int:
    caps = {
        "ready": 0,
        "taken": 0,
        "prepared": 0,
        "log": MAX_CHUNK,
        "call": MAX_CALL_ARGUMENTS,
        "result": max_result,
        "error": MAX_ERROR,
        "exit": 0,
        "open": 0,
        "data": MAX_CHUNK,
        "window": 0,
        "shut": 0,
        "close": 0,
        "artifact": MAX_PATH,
        "omitted": MAX_PATH,
        "beyond": MAX_PATH,
        "content": MAX_CONTENT,
        "complete": 0,
        "collected": 0,
    }
    kind = header.get("kind")
    if not isinstance(kind, str) or kind not in caps:
        raise ChannelError("a frame of an unknown kind")
    return caps[kind]


def _frame(header: Mapping[str, Any], payload: bytes) -> Frame:  # noqa: C901, PLR0911 - one return a kind
    match header:
        case {"kind": "ready"}:
            return Ready()
        case {"kind": "taken"}:
            return Taken()
        case {"kind": "prepared"}:
            return Prepared()
        case {"kind": "log", "stream": "stdout" | "stderr" as stream}:
            return Log(stream=stream, data=payload)
        case {"kind": "call", "id": int(number), "tool": str(tool)} if 0 <= number < MAX_ID and len(tool) <= MAX_NAME:
            return Call(id=number, tool=tool, arguments=payload)
        case {"kind": "result"}:
            return Result(data=payload)
        case {"kind": "error"}:
            return Failure(data=payload)
        case {"kind": "exit", "status": int(status)} if _is_an_end(status):
            return Exit(status=status, artifacts=header.get("artifacts") is True)
        case {"kind": "artifact" | "omitted" | "beyond" | "content" | "complete" | "collected"}:
            return _artifact_frame(header, payload)
        case {"stream": int(number)} if 0 < number < MAX_ID:
            return _stream_frame(header, number, payload)
        case _:
            raise ChannelError("a frame with a missing or wrong field")


def _stream_frame(header: Mapping[str, Any], number: int, payload: bytes) -> Frame:
    match header:
        case {"kind": "open"}:
            return Open(stream=number)
        case {"kind": "data"} if payload:
            return Data(stream=number, data=payload)
        case {"kind": "window", "bytes": int(count)} if 0 < count < MAX_ID:
            return Window(stream=number, bytes=count)
        case {"kind": "shut"}:
            return Shut(stream=number)
        case {"kind": "close"}:
            return Close(stream=number)
        case _:
            raise ChannelError("a frame with a missing or wrong field")


def _artifact_frame(header: Mapping[str, Any], payload: bytes) -> Frame:
    match header:
        case {"kind": "artifact", "size": int(size)} if payload and 0 <= size < MAX_SIZE:
            return Announced(path=payload, size=size)
        case {"kind": "omitted", "why": str(why)} if len(why) <= MAX_NAME:
            return Omitted(path=payload, why=why)
        case {"kind": "beyond", "limit": str(limit), "size": int(size)} if 0 <= size < MAX_SIZE:
            return Beyond(path=payload, limit=limit[:MAX_NAME], size=size)
        case {"kind": "content", "artifact": int(number)} if payload:
            return Content(artifact=number, data=payload)
        case {"kind": "complete", "artifact": int(number)}:
            return Complete(artifact=number)
        case {"kind": "collected", "omitted": int(omitted)} if 0 <= omitted < MAX_ID:
            return Collected(omitted=omitted)
        case _:
            raise ChannelError("a frame with a missing or wrong field")


def _is_an_end(wait_status: int) -> bool:
    return 0 <= wait_status < 2**16 and (os.WIFEXITED(wait_status) or os.WIFSIGNALED(wait_status))

"""The host's decoder against whatever a guest may send."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.sandbox import channel
from steps.sandbox.guest import framing


def reader(data: bytes) -> asyncio.StreamReader:
    stream = asyncio.StreamReader()
    stream.feed_data(data)
    stream.feed_eof()
    return stream


async def read(data: bytes, max_result: int = 1000) -> list[channel.Frame]:
    stream, frames = reader(data), []
    while (frame := await channel.read_frame(stream, max_result=max_result)) is not None:
        frames.append(frame)
    return frames


def raw(head: bytes, body: bytes = b"") -> bytes:
    return len(head).to_bytes(4, "big") + len(body).to_bytes(4, "big") + head + body


async def test_each_kind_is_read() -> None:
    sent: list[tuple[dict[str, Any], bytes]] = [
        ({"kind": "ready"}, b""),
        ({"kind": "taken"}, b""),
        ({"kind": "log", "stream": "stderr"}, b"\xff"),
        ({"kind": "call", "id": 1, "tool": "a.b"}, b"{}"),
        ({"kind": "result"}, b"1"),
        ({"kind": "error"}, b"{}"),
        ({"kind": "exit", "status": 256}, b""),
        ({"kind": "exit", "status": 0, "artifacts": True}, b""),
        ({"kind": "artifact", "size": 2**50}, b"\xff/x"),
        ({"kind": "omitted", "why": "fifo"}, b""),
        ({"kind": "beyond", "limit": "depth", "size": 0}, b"d"),
        ({"kind": "content", "artifact": 3}, b"x"),
        ({"kind": "complete", "artifact": 3}, b""),
        ({"kind": "collected", "omitted": 7}, b""),
    ]
    data = b"".join(framing.encode(header, body) for header, body in sent)
    assert await read(data) == [
        channel.Ready(),
        channel.Taken(),
        channel.Log(stream="stderr", data=b"\xff"),
        channel.Call(id=1, tool="a.b", arguments=b"{}"),
        channel.Result(data=b"1"),
        channel.Failure(data=b"{}"),
        channel.Exit(status=256),
        channel.Exit(status=0, artifacts=True),
        channel.Announced(path=b"\xff/x", size=2**50),
        channel.Omitted(path=b"", why="fifo"),
        channel.Beyond(path=b"d", limit="depth", size=0),
        channel.Content(artifact=3, data=b"x"),
        channel.Complete(artifact=3),
        channel.Collected(omitted=7),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        raw(b'{"kind": "ready"}')[:-1],
        raw(b'{"kind": "result"}', b"12")[:-1],
        b"\xff\xff\xff\xff\0\0\0\0",
        raw(b"{}"),
        raw(b"[]"),
        raw(b"nonsense"),
        raw(b"[" * 60_000),
        raw(b'{"kind": "ready"}', b"x"),
        raw(b'{"kind": "unheard-of"}'),
        raw(b'{"kind": ["log"]}'),
        raw(b'{"kind": "log", "stream": "stdin"}'),
        raw(b'{"kind": "log"}'),
        raw(b'{"kind": "call", "id": -1, "tool": "a"}'),
        raw(b'{"kind": "call", "id": 1.5, "tool": "a"}'),
        raw(b'{"kind": "call", "id": 1, "tool": 5}'),
        raw(json.dumps({"kind": "call", "id": 1, "tool": "a" * 201}).encode()),
        raw(b'{"kind": "exit", "status": "0"}'),
        raw(b'{"kind": "exit", "status": 65536}'),
        raw(b'{"kind": "exit", "status": 127}'),
        raw(b'{"kind": "exit", "status": 4991}'),
        raw(b'{"kind": "exit", "status": 65535}'),
        raw(b'{"kind": "result"}', b"x" * 1001),
        raw(b'{"kind": "artifact", "size": 1}'),
        raw(b'{"kind": "artifact", "size": -1}', b"x"),
        raw(b'{"kind": "artifact"}', b"x"),
        raw(b'{"kind": "artifact", "size": 1}', b"x" * 4097),
        raw(b'{"kind": "content", "artifact": 0}'),
        raw(b'{"kind": "content", "artifact": "0"}', b"x"),
        raw(b'{"kind": "content", "artifact": 0}', b"x" * 262_145),
        raw(b'{"kind": "complete", "artifact": 0}', b"x"),
        raw(b'{"kind": "omitted"}', b"x"),
        raw(b'{"kind": "beyond", "limit": "bytes"}', b"x"),
        raw(b'{"kind": "collected"}'),
    ],
)
async def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(channel.ChannelError):
        await read(data)


async def test_giant_payload_is_refused_before_it_is_read() -> None:
    stream = asyncio.StreamReader()
    head = b'{"kind": "result"}'
    stream.feed_data(len(head).to_bytes(4, "big") + (2**32 - 1).to_bytes(4, "big") + head)
    with pytest.raises(channel.ChannelError, match="a payload of 4294967295 bytes where 1000 are allowed"):
        await channel.read_frame(stream, max_result=1000)


@given(st.binary(max_size=300))
async def test_no_bytes_crash_the_decoder(data: bytes) -> None:
    with suppress(channel.ChannelError):
        await read(data)


HEADERS = st.dictionaries(
    st.sampled_from(["kind", "id", "tool", "stream", "status", "size", "artifact", "why", "limit", "omitted"]),
    st.one_of(
        st.sampled_from(["ready", "taken", "log", "call", "result", "error", "exit", "stdout", "stderr"]),
        st.sampled_from(["artifact", "omitted", "beyond", "content", "complete", "collected"]),
        st.integers(),
        st.none(),
        st.booleans(),
        st.floats(),
        st.text(max_size=5),
        st.lists(st.integers(), max_size=2),
    ),
)


@given(st.lists(st.tuples(HEADERS, st.binary(max_size=20)), max_size=5))
async def test_no_header_crashes_the_decoder(frames: list[tuple[dict[str, Any], bytes]]) -> None:
    data = b"".join(raw(json.dumps(header).encode(), body) for header, body in frames)
    try:
        read_frames = await read(data)
    except channel.ChannelError:
        return
    assert len(read_frames) == len(frames)


@given(
    st.lists(st.tuples(st.dictionaries(st.text(max_size=5), st.text(max_size=5)), st.binary(max_size=50))), st.data()
)
def test_guest_reads_what_the_host_writes_however_it_is_cut(
    frames: list[tuple[dict[str, str], bytes]], data: st.DataObject
) -> None:
    stream = b"".join(channel.encode(header, body) for header, body in frames)
    decoder = framing.Decoder()
    got: list[tuple[dict[str, Any], bytes]] = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        got += decoder.feed(stream[:cut])
        stream = stream[cut:]
    assert got == frames


def test_too_large_a_payload_for_a_guest_is_refused() -> None:
    with pytest.raises(ValueError, match="more than a sandbox takes at once"):
        channel.encode({}, bytes(channel.MAX_PAYLOAD_TO_GUEST + 1))

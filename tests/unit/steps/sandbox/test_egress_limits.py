"""How much code may do on the network, and that nothing it does takes more of the host than that."""

import asyncio
from typing import Any

import pytest

from flows.contracts import EgressDecision
from steps.sandbox.channel import ChannelError, Close, Data, Open, Shut, StreamFrame, Window
from steps.sandbox.guest.proxy import MAX_STREAMS, WINDOW
from steps.sandbox.streams import Stream, StreamClosedError, Streams
from tests.proxies import QUICK, job_with_network
from tests.sandbox.conftest import until
from tests.servers import Names, listening, local, site

HOST = "api.example.com"


def get(port: int) -> bytes:
    return f"GET http://{HOST}:{port}/x HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode()


async def test_the_fifty_first_request_passes_the_limit() -> None:
    async with site() as server:
        entry = f"{HOST}:{server.port}"
        server.answer("/x", b"hello")
        async with job_with_network(entry, names=local(HOST), internal=(entry,)) as job:
            for _number in range(50):
                assert (await job.ask(get(server.port))).endswith(b"hello")
            assert job.exceeded == []
            assert (await job.ask(get(server.port))).startswith(b"HTTP/1.1 429 ")
    assert server.connections == 50
    assert [(one.code, one.message) for one in job.exceeded] == [
        ("too_many_requests", "the code made more than 50 requests over the network")
    ]
    assert len(job.decisions) == 51
    assert job.refused == ["the code made more than 50 requests over the network"]


async def test_refused_requests_count_too() -> None:
    async with job_with_network(HOST, requests=2) as job:
        await job.ask(b"CONNECT evil.com:443 HTTP/1.0\r\n\r\n")
        await job.ask(b"nonsense\r\n\r\n")
        assert job.exceeded == []
        await job.ask(b"CONNECT evil.com:443 HTTP/1.0\r\n\r\n")
    assert [one.code for one in job.exceeded] == ["too_many_requests"]


async def test_no_request_at_all_is_a_limit_too() -> None:
    async with job_with_network(HOST, names=local(HOST), requests=0) as job:
        await job.ask(f"CONNECT {HOST}:443 HTTP/1.0\r\n\r\n".encode())
    assert (len(job.exceeded), job.names.asked) == (1, [])


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers 10 GB."""
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        while True:
            writer.write(bytes(64 * 1024))
            await writer.drain()
    except ConnectionError:
        writer.close()


async def test_a_response_of_10_gb_passes_the_limit() -> None:
    async with listening(endless) as port:
        entry = f"{HOST}:{port}"
        async with job_with_network(entry, names=local(HOST), internal=(entry,), transfer=3_000_000) as job:
            with pytest.raises(ConnectionResetError):
                await job.ask(get(port))
            await until(lambda: job.ends)
    assert [(one.code, one.fix) for one in job.exceeded] == [
        ("too_much_transfer", "raise limits.transfer, or use the network less")
    ]
    ((_sent, received, reason),) = job.ends.values()
    assert 2_900_000 < received < 3_100_000
    assert reason == "the step's limit of 3 MB is used up"


async def send_for_ever(writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(20):
        while True:
            writer.write(bytes(64 * 1024))
            await writer.drain()


async def test_a_request_of_10_gb_passes_the_limit() -> None:
    async def takes_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(64 * 1024):
                pass
        except ConnectionError:
            pass
        writer.close()

    async with listening(takes_all) as port:
        entry = f"{HOST}:{port}"
        async with job_with_network(entry, names=local(HOST), internal=(entry,), transfer=3_000_000) as job:
            _reader, writer = await asyncio.open_connection("127.0.0.1", job.port)
            head = f"POST http://{entry}/ HTTP/1.1\r\nHost: {entry}\r\nContent-Length: 10000000000\r\n\r\n"
            writer.write(head.encode())
            with pytest.raises(ConnectionError):
                await send_for_ever(writer)
            writer.close()
            await until(lambda: job.ends)
    assert [one.code for one in job.exceeded] == ["too_much_transfer"]
    ((sent, _received, _reason),) = job.ends.values()
    assert 2_900_000 < sent <= 3_000_000


async def test_the_bytes_of_all_requests_count_together() -> None:
    async with site() as server:
        entry = f"{HOST}:{server.port}"
        server.answer("/x", bytes(40_000))
        async with job_with_network(entry, names=local(HOST), internal=(entry,), transfer=100_000) as job:
            for _number in range(2):
                assert len(await job.ask(get(server.port))) > 40_000
            with pytest.raises(ConnectionResetError):
                await job.ask(get(server.port))
    assert [one.code for one in job.exceeded] == ["too_much_transfer"]


async def test_code_that_does_not_read_fills_no_memory() -> None:
    """Neither ours, nor that of the sandbox: the server waits."""
    sent = 0

    async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        try:
            while True:
                writer.write(bytes(64 * 1024))
                await writer.drain()
                sent += 64 * 1024
        except ConnectionError:
            writer.close()

    async with listening(counting) as port:
        entry = f"{HOST}:{port}"
        async with job_with_network(entry, names=local(HOST), internal=(entry,)) as job:
            reader, writer = await asyncio.open_connection("127.0.0.1", job.port, limit=1024)
            writer.write(get(port))
            before = -1
            while sent != before:
                before = sent
                await asyncio.sleep(0.3)
            assert job.guest.most_waiting <= WINDOW
            await reader.read(100)
            writer.transport.abort()
    assert sent < 40_000_000


async def test_a_head_that_trickles_is_not_waited_for() -> None:
    """Slowloris: it holds one of the job's own places, for as long as a head may take."""
    async with job_with_network(HOST, timeouts=QUICK) as job:
        reader, writer = await asyncio.open_connection("127.0.0.1", job.port)
        began = asyncio.get_running_loop().time()
        for byte in b"GET http://api.example.com/" + b"x" * 1000:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)
            if reader._buffer:  # type: ignore[attr-defined] # what has come
                break
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        assert asyncio.get_running_loop().time() - began < 10
        writer.close()
    assert job.decisions == []


async def test_a_tunnel_in_which_nothing_moves_is_closed() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with listening(silent) as port:
        entry = f"{HOST}:{port}"
        async with job_with_network(entry, names=local(HOST), internal=(entry,), timeouts=QUICK) as job:
            answer = await job.ask(get(port))
            assert answer.startswith(b"HTTP/1.1 502 ")
    assert [end[2] for end in job.ends.values()] == ["nothing moved for 0.5 s"]


async def test_the_end_of_the_job_ends_its_requests_and_their_records() -> None:
    async with listening(endless) as port:
        entry = f"{HOST}:{port}"
        async with job_with_network(entry, names=local(HOST), internal=(entry,)) as job:
            reader, writer = await asyncio.open_connection("127.0.0.1", job.port)
            writer.write(get(port))
            await reader.read(100)
            assert (len(job.decisions), len(job.ends)) == (1, 0)
            await job.egress.close()
            ((_sent, received, reason),) = job.ends.values()
            assert (received > 0, reason) == (True, None)
            writer.transport.abort()


async def test_code_that_goes_away_before_the_decision_is_recorded_nevertheless() -> None:
    async def hangs(host: str, _port: int) -> Any:
        names.asked.append(host)
        await asyncio.Event().wait()

    names = Names({})
    async with job_with_network(HOST, names=hangs) as job:  # type: ignore[arg-type] # a resolver of another kind
        job.names = names
        _reader, writer = await asyncio.open_connection("127.0.0.1", job.port)
        writer.write(f"CONNECT {HOST}:443 HTTP/1.0\r\n\r\n".encode())
        await until(lambda: names.asked)
        writer.transport.abort()
    assert job.decisions == [
        EgressDecision(host=HOST, port=443, allowed=False, reason="the code went away before it was decided")
    ]


class Nowhere:
    """A channel whose other end is hostile: nothing is heard of what is sent."""

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None: ...
    async def drain(self) -> None: ...


async def served(*frames: StreamFrame) -> None:
    async def serve(stream: Stream) -> None:
        await asyncio.Event().wait()

    streams = Streams(Nowhere(), serve, lambda _error: None)
    try:
        for frame in frames:
            streams.hear(frame)
    finally:
        await streams.close()


@pytest.mark.parametrize(
    "frames",
    [
        [Data(stream=1, data=b"x")],
        [Shut(stream=1)],
        [Open(stream=2)],
        [Open(stream=1), Open(stream=1)],
        [Open(stream=1), Open(stream=3)],
        [Open(stream=1), Window(stream=2, bytes=1)],
        [Open(stream=1), Window(stream=1, bytes=1)],
        [Open(stream=1), *[Data(stream=1, data=bytes(64 * 1024))] * 3],
        [Open(stream=1), Shut(stream=1), Data(stream=1, data=b"x")],
        [Open(stream=number) for number in range(1, MAX_STREAMS + 2)],
    ],
)
async def test_frames_that_no_honest_guest_sends_end_the_sandbox(frames: list[StreamFrame]) -> None:
    with pytest.raises(ChannelError):
        await served(*frames)


async def test_frames_that_crossed_the_end_of_their_stream_are_nothing() -> None:
    late: list[StreamFrame] = [
        Data(stream=1, data=b"x" * WINDOW),
        Window(stream=1, bytes=5),
        Shut(stream=1),
        Close(stream=1),
    ]
    await served(Open(stream=1), Close(stream=1), *late, *late)
    many: list[StreamFrame] = [
        frame for number in range(1, 500) for frame in (Open(stream=number), Close(stream=number))
    ]
    await served(*many)


async def test_a_stream_that_the_code_closed_can_not_be_used() -> None:
    stream = Stream(1, Nowhere())
    stream.hear(Data(stream=1, data=b"abc"))
    assert await stream.read(2) == b"ab"
    writing = asyncio.create_task(stream.write(bytes(WINDOW + 1)))
    await asyncio.sleep(0)
    stream.hear(Close(stream=1))
    for work in (writing, stream.read(), stream.write(b"x")):
        with pytest.raises(StreamClosedError):
            await work

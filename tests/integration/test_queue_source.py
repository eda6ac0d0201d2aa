"""The messages of a Redis stream as events, with a real Redis."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from redis import Redis

from flows.events import Arrival
from scripts.services import find_program, free_port
from tests.told import HANG, told
from triggers.queue.config import Queue, QueueTrigger
from triggers.queue.source import MAX_DELIVERIES, MAX_MESSAGE, QueueSource

VARIABLE = "STEPBOX_TEST_REDIS_URL"


@pytest.fixture
def url() -> str:
    found = os.environ.get(VARIABLE)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{VARIABLE} isn't set: run the tests through scripts/services.py")
        pytest.skip(f"{VARIABLE} isn't set: run the tests through scripts/services.py")
    return found


@pytest.fixture
def redis(url: str) -> Iterator["Redis"]:
    with Redis.from_url(url) as client:
        yield client


@pytest.fixture
def stream(redis: "Redis") -> Iterator[str]:
    name = f"test:{uuid4().hex}"
    yield name
    redis.delete(name)


def source(url: str, stream: str, *, consumer: str = "one", idle: float = 60.0, prefetch: int = 16) -> QueueSource:
    trigger = QueueTrigger(id="jobs", queue=Queue(stream=stream, url=url))
    return QueueSource(trigger, url=url, consumer=consumer, idle=idle, prefetch=prefetch)


def pending(redis: "Redis", stream: str) -> int:
    return int(redis.xpending(stream, "stepbox")["pending"])


def numbers(arrivals: list[Arrival]) -> list[str]:
    return [arrival.event.data["fields"]["n"] for arrival in arrivals]


def fill(redis: "Redis", stream: str, count: int) -> None:
    for number in range(count):
        redis.xadd(stream, {"n": number})


async def test_messages_come_in_order_from_the_oldest_on(url: str, redis: "Redis", stream: str) -> None:
    fill(redis, stream, 3)
    identity = redis.xadd(stream, {"n": "3", b"raw": b"\xff\x00", "text": "grün"})
    async with told(source(url, stream)) as events:
        found = await events.take(4)
    assert numbers(found) == ["0", "1", "2", "3"]
    last = found[-1].event
    assert isinstance(identity, bytes)
    assert last.data == {
        "id": identity.decode(),
        "stream": stream,
        "fields": {"n": "3", "raw": {"base64": "/wA="}, "text": "grün"},
    }
    assert (last.kind, last.key) == ("queue", f"{stream} {identity.decode()}")
    assert pending(redis, stream) == 0


async def test_messages_that_come_later_are_waited_for(url: str, redis: "Redis", stream: str) -> None:
    async with told(source(url, stream)) as events:
        waiting = asyncio.ensure_future(events.take(2))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(fill, redis, stream, 2)
        assert numbers(await waiting) == ["0", "1"]


async def test_what_is_not_acknowledged_stays_and_comes_again_after_a_restart(
    url: str, redis: "Redis", stream: str
) -> None:
    fill(redis, stream, 3)
    async with told(source(url, stream)) as events:
        first = await events.take(3, acknowledge=False)
        await first[1].acknowledge()
        assert await events.nothing()
    assert pending(redis, stream) == 2
    async with told(source(url, stream)) as events:
        again = await events.take(2)
        assert await events.nothing()
    assert [one.event.key for one in again] == [first[0].event.key, first[2].event.key]
    assert pending(redis, stream) == 0


async def test_what_a_dead_process_had_read_is_claimed(url: str, redis: "Redis", stream: str) -> None:
    fill(redis, stream, 3)
    redis.xgroup_create(stream, "stepbox", id="0")
    redis.xreadgroup("stepbox", "dead", {stream: ">"}, count=2)
    async with told(source(url, stream, consumer="alive", idle=1.0)) as events:
        assert sorted(numbers(await events.take(3))) == ["0", "1", "2"]
    assert pending(redis, stream) == 0


async def test_what_a_living_process_has_read_is_left_to_it(url: str, redis: "Redis", stream: str) -> None:
    fill(redis, stream, 4)
    async with (
        told(source(url, stream, consumer="one", prefetch=2)) as one,
        told(source(url, stream, consumer="two")) as two,
    ):
        mine = await one.take(2, acknowledge=False)
        others = await two.take(2, acknowledge=False)
        assert numbers(mine) == ["0", "1"]
        assert numbers(others) == ["2", "3"]
        assert await two.nothing()


async def test_no_more_than_a_few_wait_for_being_acknowledged(url: str, redis: "Redis", stream: str) -> None:
    fill(redis, stream, 5)
    async with told(source(url, stream, prefetch=2)) as events:
        found = await events.take(2, acknowledge=False)
        waiting = asyncio.ensure_future(events.take(3))
        await asyncio.sleep(0.4)
        assert pending(redis, stream) == 2
        for one in found:
            await one.acknowledge()
        assert numbers(await waiting) == ["2", "3", "4"]


async def test_a_message_that_is_never_kept_is_unfit_in_the_end(url: str, redis: "Redis", stream: str) -> None:
    fill(redis, stream, 1)
    for _ in range(MAX_DELIVERIES):
        async with told(source(url, stream)) as events:
            (arrival,) = await events.take(1, acknowledge=False)
            assert arrival.unfit is None
    async with told(source(url, stream)) as events:
        (arrival,) = await events.take(1)
    assert arrival.unfit == f"the message was delivered {MAX_DELIVERIES + 1} times and never kept"
    assert pending(redis, stream) == 0


async def test_a_message_that_is_too_large_is_unfit(url: str, redis: "Redis", stream: str) -> None:
    redis.xadd(stream, {"n": "x" * MAX_MESSAGE})
    async with told(source(url, stream)) as events:
        (arrival,) = await events.take(1)
    assert arrival.unfit == "the message has 1,000,001 bytes, more than 1,000,000"
    assert arrival.event.data["fields"] == {}


async def test_a_message_deleted_while_it_was_pending_is_forgotten(url: str, redis: "Redis", stream: str) -> None:
    fill(redis, stream, 2)
    async with told(source(url, stream)) as events:
        first, _ = await events.take(2, acknowledge=False)
    redis.xdel(stream, first.event.data["id"])
    async with told(source(url, stream)) as events:
        assert numbers(await events.take(1)) == ["1"]
        assert await events.nothing()
    assert pending(redis, stream) == 0


async def test_a_stream_that_is_deleted_is_made_again(url: str, redis: "Redis", stream: str) -> None:
    of = source(url, stream)
    fill(redis, stream, 1)
    async with told(of) as events:
        await events.take(1)
        redis.delete(stream)
        waiting = asyncio.ensure_future(events.take(1))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(redis.xadd, stream, {"n": "again"})
        assert numbers(await waiting) == ["again"]
    assert of.trouble is None


async def test_a_key_that_is_no_stream_is_a_trouble(url: str, redis: "Redis", stream: str) -> None:
    redis.set(stream, "text")
    of = source(url, stream)
    async with told(of) as events:
        assert await events.nothing()
    assert of.trouble is not None
    assert "WRONGTYPE" in of.trouble


class Server:
    """A Redis of the test's own, which may be killed and started again on the same port.

    ``keeps`` is whether it has the same data then.
    """

    def __init__(self, directory: Path, *, keeps: bool = True) -> None:
        self.keeps = keeps
        program = find_program("redis")
        assert program is not None
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(directory),
            "save": "",
            "appendonly": "yes" if keeps else "no",
            "appendfsync": "always",
        }
        self._command = [str(program), *(word for key, value in options.items() for word in (f"--{key}", value))]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + HANG
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(16).startswith(b"+PONG"):
                        return
            except OSError:
                pass
            time.sleep(0.05)
        raise TimeoutError

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path: Path, url: str) -> Iterator[Server]:
    own = Server(tmp_path)
    yield own
    own.kill()


async def test_a_redis_that_is_not_there_yet_is_waited_for(server: Server) -> None:
    of = source(server.url, "s")
    async with told(of) as events:
        waiting = asyncio.ensure_future(events.take(1))
        await asyncio.sleep(0.5)
        assert of.trouble is not None
        await asyncio.to_thread(server.start)
        with Redis.from_url(server.url) as client:
            await asyncio.to_thread(fill, client, "s", 1)
        assert numbers(await waiting) == ["0"]
        assert of.trouble is None


async def test_nothing_is_lost_or_repeated_when_redis_is_killed_and_comes_back(server: Server) -> None:
    await asyncio.to_thread(server.start)
    with Redis.from_url(server.url) as client:
        await asyncio.to_thread(fill, client, "s", 20)
    of = source(server.url, "s")
    async with told(of) as events:
        found = await events.take(5)
        held = await events.take(3, acknowledge=False)
        server.kill()
        # They are kept, and Redis can't be told.
        for one in held:
            await one.acknowledge()
        waiting = asyncio.ensure_future(events.take(12))
        await asyncio.sleep(1)
        await asyncio.to_thread(server.start)
        found += held + await waiting
        assert await events.nothing()
    assert numbers(found) == [str(number) for number in range(20)]
    with Redis.from_url(server.url) as client:
        assert pending(client, "s") == 0

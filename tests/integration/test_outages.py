"""What a service needs goes away under load, and comes back: nothing is lost, and nothing is done twice."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from engine.store import Store
from steps.tools.content import TaskQuery
from tests.acceptance.services import DEADLINE
from tests.databases import postgresql_url, sqlite_url
from tests.integration.crashes import Load, Services, loaded
from tests.integration.test_crashes import server
from tests.integration.test_queue_source import Server
from tests.proxied import Between

__all__ = ["postgresql_url", "server", "sqlite_url"]

OUTAGE = float(os.environ.get("STEPBOX_TEST_OUTAGE", "4"))
"""Seconds for which what a service needs is away, each time."""
HASTY = {"engine.store.database:_BUSY_TIMEOUT": 500}
"""A service that waits half a second, not half a minute, for another process to end its write."""
LOCK = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
time.sleep(float(sys.argv[2]))
connection.execute("ROLLBACK")
"""


def environment(tmp_path: Path, server: str, database_url: str) -> dict[str, str]:
    return {
        "STEPBOX_HOME": str(tmp_path / "home"),
        "STEPBOX_DATABASE_URL": database_url,
        "STEPBOX_INTERNAL": server,
    }


@pytest.mark.timeout(300 + 10 * OUTAGE)
async def test_the_database_goes_away_and_comes_back(postgresql_url: str, tmp_path: Path, server: str) -> None:
    between = Between(postgresql_url)
    await between.up()
    with Services(tmp_path, environment(tmp_path, server, between.url)) as service:
        async with loaded(postgresql_url, server, service):
            for seconds in (OUTAGE, 0.1, 1.0):
                await asyncio.sleep(1.5)
                await between.down()
                await asyncio.sleep(seconds)
                await between.up()
            await asyncio.sleep(1)
    await between.down()


@pytest.mark.timeout(300 + 10 * OUTAGE)
async def test_another_process_keeps_the_database_locked(sqlite_url: str, tmp_path: Path, server: str) -> None:
    with Services(tmp_path, environment(tmp_path, server, sqlite_url), constants=HASTY) as service:
        async with loaded(sqlite_url, server, service) as load:
            for seconds in (OUTAGE, 0.3, 1.5):
                await asyncio.sleep(1.5)
                locking = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", LOCK, str(tmp_path / "home/stepbox.db"), str(seconds)
                )
                assert await locking.wait() == 0
            await asyncio.sleep(1)
        assert load.refused["store_unavailable"] > 0


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[None]:
    """A file system of its own at a new directory, which takes so much."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(file: Path, *, but: int = 0) -> None:
    """Take all the room that is left on a disk, ``but`` so many bytes."""
    with file.open("ab", buffering=0) as output:
        piece = 1 << 20
        while piece:
            try:
                output.write(b"x" * piece)
            except OSError as problem:
                if problem.errno != errno.ENOSPC:
                    raise
                piece //= 2
        output.truncate(max(0, output.tell() - but))


root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, which only root may")


@root
@pytest.mark.timeout(300 + 10 * OUTAGE)
async def test_the_disk_is_full_and_has_room_again(sqlite_url: str, tmp_path: Path, server: str) -> None:
    filler = tmp_path / "home/filler"
    with small_disk(tmp_path / "home", 64), Services(tmp_path, environment(tmp_path, server, sqlite_url)) as service:
        async with loaded(sqlite_url, server, service) as load:
            for seconds in (OUTAGE, 1.0):
                await asyncio.sleep(1.5)
                await asyncio.to_thread(fill, filler)
                await asyncio.sleep(seconds)
                filler.unlink()
            await asyncio.sleep(1)
        assert load.refused["store_unavailable"] > 0
    assert "disk is full" in service.log.read_text()


LEAVES = """\
flow: leaves
steps:
  - id: leave
    shell: head -c 3000000 /dev/urandom > "$ARTIFACTS/large"; echo done
output: ${{ steps.leave.result }}
"""


@root
async def test_a_full_disk_takes_no_artifacts_and_says_so(sqlite_url: str, tmp_path: Path, server: str) -> None:
    filler = tmp_path / "home/filler"
    with small_disk(tmp_path / "home", 64), Services(tmp_path, environment(tmp_path, server, sqlite_url)) as service:
        service.start()
        async with Load(service.port) as load:
            await load.call("PUT", "/api/v1/flows/leaves", json={"text": LEAVES})
            await asyncio.to_thread(fill, filler, but=2_000_000)
            failed = (await load.call("POST", "/api/v1/flows/leaves/runs?wait=60", json={})).json()
            error = failed["steps"]["leave"]["error"]
            assert (failed["status"], error["code"]) == ("failed", "artifacts_lost"), failed
            assert "No space left" in error["message"]
            filler.unlink()
            succeeded = (await load.call("POST", "/api/v1/flows/leaves/runs?wait=60", json={})).json()
            assert (succeeded["status"], succeeded["output"]) == ("succeeded", "done")
        assert await asyncio.to_thread(service.end, signal.SIGTERM) == 0


QUEUED = """\
flow: queued
inputs: {n: {type: string}}
triggers:
  - id: orders
    queue: {stream: orders, group: stepbox, url: "URL"}
    with: {n: "${{ event.fields.n }}"}
steps:
  - {id: make, tool: workspace.create_task, with: {title: "made ${{ inputs.n }}", statusId: open}}
"""


class Producer:
    """Adds numbered messages to a stream without a pause; one that Redis has not acknowledged is followed by another."""

    def __init__(self, redis: Server) -> None:
        self._client = Redis.from_url(redis.url, socket_timeout=2)
        self.tried = 0
        self.acknowledged: set[str] = set()

    async def add(self, messages: int) -> None:
        """Add so many."""
        wanted = len(self.acknowledged) + messages
        while len(self.acknowledged) < wanted:
            number, self.tried = str(self.tried), self.tried + 1
            try:
                await asyncio.to_thread(self._client.xadd, "orders", {"n": number})
            except RedisError:
                await asyncio.sleep(0.1)
            else:
                self.acknowledged.add(number)
                await asyncio.sleep(0.01)

    def close(self) -> None:
        self._client.close()


@pytest.fixture(params=["kept", "lost"])
def redis(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A Redis whose data are kept, or lost, when it is started again."""
    own = Server(tmp_path, keeps=request.param == "kept")
    own.start()
    yield own
    own.kill()


async def test_redis_is_started_again_with_its_data_or_without(
    redis: Server, sqlite_url: str, tmp_path: Path, server: str
) -> None:
    producer = Producer(redis)
    with Services(tmp_path, environment(tmp_path, server, sqlite_url)) as service:
        service.start()
        async with Load(service.port) as load:
            await load.call("PUT", "/api/v1/flows/queued", json={"text": QUEUED.replace("URL", redis.url)})
            async with await Store.open(sqlite_url, files=tmp_path / "files") as store:
                await producer.add(30)
                if not redis.keeps:
                    # What Redis loses before anybody has read it is lost.
                    await made(store, producer.acknowledged)
                adding = asyncio.create_task(producer.add(30 if redis.keeps else 0))
                await asyncio.sleep(0.2)
                await asyncio.to_thread(redis.kill)
                await asyncio.sleep(OUTAGE / 4)
                await asyncio.to_thread(redis.start)
                await adding
                await producer.add(30)
                await made(store, producer.acknowledged)
                assert await asyncio.to_thread(service.end, signal.SIGTERM) == 0
                found = await made(store, producer.acknowledged)
    producer.close()
    assert set(found.values()) == {1}, found
    assert {title.removeprefix("made ") for title in found} <= set(map(str, range(producer.tried)))
    log = service.log.read_text()
    assert log.index("doesn't tell of all there is") < log.index("tells of all there is again")


async def made(store: Store, numbers: set[str]) -> Counter[str]:
    """The tasks that runs have made, how many of each title, once there is one for each number."""
    async with asyncio.timeout(DEADLINE):
        while True:
            tasks = await store.content.search_tasks("default", TaskQuery(statuses=[], limit=100_000, offset=0))
            found = Counter(task.title for task in tasks)
            if {f"made {number}" for number in numbers} <= set(found):
                return found
            await asyncio.sleep(0.1)

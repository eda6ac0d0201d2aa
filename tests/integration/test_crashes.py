"""The service is killed at random moments under a mixed load: nothing is lost, and nothing is done twice."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.store import Store
from tests.databases import database_url, postgresql_url, sqlite_url
from tests.integration.crashes import Load, Services, audit
from tests.integration.test_killed import Counting, counting
from tests.sandbox.test_leftovers import own_cgroups, temporary_files

__all__ = ["database_url", "postgresql_url", "sqlite_url"]

CRASHES = int(os.environ.get("STEPBOX_TEST_CRASHES", "20"))
"""How often the service is killed on each database."""
SEED = int(os.environ.get("STEPBOX_TEST_SEED", "0"))
LIFETIME = 1.5
"""Seconds after which a service is killed at the latest: from its start, or every other time from when it was ready."""


@pytest.fixture
def server() -> Iterator[str]:
    with counting() as address:
        yield address


@pytest.mark.timeout(180 + 15 * CRASHES)
async def test_nothing_is_lost_and_nothing_happens_twice(database_url: str, tmp_path: Path, server: str) -> None:
    environment = {"STEPBOX_HOME": str(tmp_path / "home"), "STEPBOX_DATABASE_URL": database_url}
    chance = random.Random(SEED)
    with Services(tmp_path, {**environment, "STEPBOX_INTERNAL": server}) as services:
        async with Load(services.port, patience=180 + 5 * CRASHES) as load:
            services.start()
            await load.apply(server)
            running = asyncio.create_task(load.run())
            for _ in range(CRASHES):
                if chance.random() < 1 / 2:
                    await load.call("GET", "/readyz")
                await asyncio.sleep(chance.uniform(0, LIFETIME))
                status = await asyncio.to_thread(services.end, signal.SIGKILL)
                assert status == -signal.SIGKILL, services.log.read_text()[-2000:]
                services.start()
            load.stop()
            await running
            async with await Store.open(database_url, files=tmp_path / "files") as store:
                await load.idle(store)
            assert await asyncio.to_thread(services.end, signal.SIGTERM) == 0
    async with await Store.open(database_url, files=tmp_path / "files") as store:
        await audit(store, load)
    assert Counting.done == dict.fromkeys(load.acknowledged, 1)
    assert [path for pid in services.pids for path in own_cgroups(pid)] == []
    assert temporary_files(tmp_path / "tmp") == []

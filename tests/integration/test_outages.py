"""What a service needs goes away under load, and comes back: nothing is lost, and nothing is done twice."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from engine.store import Store
from tests.databases import postgresql_url
from tests.integration.crashes import Load, Services, audit
from tests.integration.test_crashes import server
from tests.integration.test_killed import Counting
from tests.proxied import Between

__all__ = ["postgresql_url", "server"]

OUTAGE = float(os.environ.get("STEPBOX_TEST_OUTAGE", "4"))
"""Seconds for which the database is away, each time."""


@asynccontextmanager
async def loaded(services: Services, server: str, database_url: str) -> AsyncIterator[Load]:
    """A service under load, which is idle and has ended after the block; audited then."""
    with services:
        async with Load(services.port) as load:
            services.start()
            await load.apply(server)
            running = asyncio.create_task(load.run())
            yield load
            load.stop()
            await running
            async with await Store.open(database_url, files=services.log.parent / "files") as store:
                await load.idle(store)
                assert await asyncio.to_thread(services.end, signal.SIGTERM) == 0
                await audit(store, load)
    assert Counting.done == dict.fromkeys(load.acknowledged, 1)


async def test_the_database_goes_away_and_comes_back(postgresql_url: str, tmp_path: Path, server: str) -> None:
    between = Between(postgresql_url)
    await between.up()
    home = {"STEPBOX_HOME": str(tmp_path / "home"), "STEPBOX_DATABASE_URL": between.url}
    async with loaded(Services(tmp_path, {**home, "STEPBOX_INTERNAL": server}), server, postgresql_url):
        for seconds in (OUTAGE, 0.1, 1.0):
            await asyncio.sleep(1.5)
            await between.down()
            await asyncio.sleep(seconds)
            await between.up()
        await asyncio.sleep(1)
    await between.down()

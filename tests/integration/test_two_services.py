"""Two services on one PostgreSQL database share the work, and one goes on where the other is killed."""

import asyncio
import os
import re
import signal
from pathlib import Path

import pytest

from tests.databases import postgresql_url
from tests.integration.crashes import Load, Services, loaded
from tests.integration.test_crashes import server
from tests.sandbox.test_leftovers import own_cgroups

__all__ = ["postgresql_url", "server"]

CRASHES = int(os.environ.get("STEPBOX_TEST_CRASHES", "4"))
"""How often one of the two is killed."""


@pytest.mark.timeout(300 + 20 * CRASHES)
async def test_each_goes_on_where_the_other_is_killed(postgresql_url: str, tmp_path: Path, server: str) -> None:
    environment = {
        "STEPBOX_HOME": str(tmp_path / "home"),
        "STEPBOX_DATABASE_URL": postgresql_url,
        "STEPBOX_INTERNAL": server,
    }
    with Services(tmp_path / "one", environment) as one, Services(tmp_path / "two", environment) as two:
        async with loaded(postgresql_url, server, one, two) as load:
            await asyncio.sleep(2)
            both = [await ended(load, each) for each in (one, two)]
            for number in range(CRASHES):
                await asyncio.sleep(1)
                killed = (one, two)[number % 2]
                assert await asyncio.to_thread(killed.end, signal.SIGKILL) == -signal.SIGKILL
                await asyncio.sleep(1)
                killed.start()
        assert [path for each in (one, two) for pid in each.pids for path in own_cgroups(pid)] == []
    assert min(both) > 0, "one of them did nothing"


async def ended(load: Load, service: Services) -> int:
    """How many runs a service has brought to their end, once that is one at least."""
    count = 0
    async with asyncio.timeout(60):
        while not count:
            text = (await load.call("GET", "/metrics", of=service)).text
            count = sum(
                int(float(number)) for number in re.findall(r"^stepbox_runs_total\{.*\} (\S+)$", text, re.MULTILINE)
            )
            await asyncio.sleep(0.1)
    return count

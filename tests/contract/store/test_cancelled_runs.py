"""A cancelled run leaves a complete and true record on each database."""

from pathlib import Path

import pytest

from flows.values import RunStatus
from tests.unit.engine.conftest import open_engine
from tests.unit.engine.test_cancellation import Canceller, examine, prepared, watch_writes


@pytest.mark.parametrize("moments", [(1,), (2,), (6,), (11, 13), (17,), (23, 24), (31,), (37, 45)], ids=str)
async def test_a_run_cancelled_while_something_is_written_is_complete(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moments: tuple[int, ...]
) -> None:
    async with open_engine(tmp_path, url=database_url) as make:
        probed, journal = prepared(make)
        canceller = Canceller(moments)
        watch_writes(monkeypatch, probed.store, canceller)
        await canceller.run(probed)
        run = await examine(probed, journal, cancellations=canceller.made)
    assert run.status is RunStatus.CANCELLED

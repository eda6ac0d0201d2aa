from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.store import Store
from tests.databases import database_url, postgresql_url, sqlite_url

__all__ = ["database_url", "postgresql_url", "sqlite_url"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
async def store(database_url: str, files: Path) -> AsyncIterator[Store]:
    async with await Store.open(database_url, files=files) as opened:
        yield opened

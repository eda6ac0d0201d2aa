"""Databases of a test's own, of each kind."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

POSTGRES = "STEPBOX_TEST_POSTGRES_URL"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'home' / 'stepbox.db'}"


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    """A database of the test's own on the server that scripts/services.py starts."""
    server = os.environ.get(POSTGRES)
    if server is None:
        if os.environ.get("CI"):
            pytest.fail(f"{POSTGRES} isn't set: run the tests through scripts/services.py")
        pytest.skip(f"{POSTGRES} isn't set: run the tests through scripts/services.py")
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        yield f"{server.rpartition('/')[0]}/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database, on each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url

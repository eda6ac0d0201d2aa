"""What an installation needs besides isolation, looked at without changing anything."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.files import can_be_written
from engine.premises import checks, home, versions
from engine.settings import Settings
from engine.store import Store
from engine.store.condition import condition
from engine.store.errors import InvalidDatabaseUrlError, StoreNewerError, StoreUnavailableError
from engine.store.schema import HEAD

NOBODY = 12_345


def as_ordinary_user(ask: Callable[[], bool]) -> bool:
    """What ``ask`` gives in a process that has no privileges."""
    pid = os.fork()
    if pid == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            os._exit(0 if ask() else 1)
        finally:
            os._exit(2)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, 1)
    return status == 0


@pytest.mark.parametrize(
    ("path", "expected"), [("/etc", False), ("/etc/stepbox", False), ("/nowhere/at/all", False), ("/tmp/x/y", True)]
)
def test_whether_a_user_may_write(path: str, *, expected: bool) -> None:
    assert as_ordinary_user(lambda: can_be_written(Path(path))) is expected


def test_a_new_home_is_not_made(tmp_path: Path) -> None:
    check = home(tmp_path / "new")
    assert check.state == "ok"
    assert not (tmp_path / "new").exists()


def test_a_home_open_to_others_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    check = home(tmp_path)
    assert (check.state, check.fix) == ("warning", f"chmod 700 {tmp_path}")
    tmp_path.chmod(0o700)
    assert home(tmp_path).state == "ok"


def test_a_file_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        check = home(path)
        assert check.state == "failed"
        assert "STEPBOX_HOME" in (check.fix or "")


async def test_a_new_database_is_not_made(tmp_path: Path) -> None:
    assert "will be made" in await condition(f"sqlite:///{tmp_path}/below/stepbox.db")
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - in a coroutine


async def test_an_existing_database_is_read(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/stepbox.db"
    await (await Store.open(url)).close()
    assert f"is at revision {HEAD}" in await condition(url)


async def test_an_empty_database_gets_no_tables(tmp_path: Path) -> None:
    path = tmp_path / "stepbox.db"
    sqlite3.connect(path).close()
    path.touch()
    assert "is empty" in await condition(f"sqlite:///{path}")
    tables = sqlite3.connect(path)
    assert tables.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    tables.close()


async def test_a_newer_database_is_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/stepbox.db"
    await (await Store.open(url)).close()
    database = sqlite3.connect(tmp_path / "stepbox.db")
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.commit()
    database.close()
    with pytest.raises(StoreNewerError):
        await condition(url)


async def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "stepbox.db").write_text("this is text, and long enough to be taken for a page of a database" * 100)
    with pytest.raises(StoreUnavailableError):
        await condition(f"sqlite:///{tmp_path}/stepbox.db")


@pytest.mark.parametrize("url", ["sqlite:///:memory:", "mysql://localhost/x", "nonsense"])
async def test_an_unusable_url_is_told(url: str) -> None:
    with pytest.raises(InvalidDatabaseUrlError):
        await condition(url)


async def test_a_database_that_does_not_answer_is_told() -> None:
    with pytest.raises(StoreUnavailableError):
        await condition("postgresql://nobody@127.0.0.1:1/stepbox")


async def test_a_prefect_server_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ntrue")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api"
    monkeypatch.setenv("STEPBOX_HOME", str(tmp_path))
    monkeypatch.setenv("STEPBOX_PREFECT_API_URL", url)
    async with server:
        found = {check.id: check for check in await checks(Settings())}
    assert asked == [b"GET /api/health HTTP/1.1\r\n"]
    assert found["prefect_server"].state == "ok"
    found = {check.id: check for check in await checks(Settings())}
    assert found["prefect_server"].state == "failed"
    assert "STEPBOX_PREFECT_API_URL" in (found["prefect_server"].fix or "")
    assert set(found) == {"home", "database", "prefect_server"}


def test_versions() -> None:
    found = versions()
    assert found["python"]
    assert found["kernel"] == os.uname().release
    assert found["stepbox"]
    assert found["nsjail"]

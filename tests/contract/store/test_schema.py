"""The schema: models and migrations agree, and opening is safe whoever does it, in whatever state the database is."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from engine.store import Store
from engine.store.database import Database
from engine.store.errors import InvalidDatabaseUrlError, StoreNewerError, StoreUnavailableError
from engine.store.schema import HEAD, REVISIONS, migrate, prepare
from flows.errors import InvalidCallError

OPEN = """
import asyncio, sys
from engine.store import Store

async def main():
    async with await Store.open(sys.argv[1], files=sys.argv[2]) as store:
        await store.flows.put_version("default", "flow", "text", {}, sys.argv[3])
    print(*sorted(name for name in ("alembic", "fsspec", "prefect") if name in sys.modules))

asyncio.run(main())
"""

TRIGGERS = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT tgname, pg_get_triggerdef(pg_trigger.oid), prosrc FROM pg_trigger JOIN pg_proc ON tgfoid = pg_proc.oid "
    "WHERE NOT tgisinternal",
}


def alembic(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", "engine.store:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


async def test_models_and_migrations_agree(database_url: str) -> None:
    database = Database(database_url)
    await database.write(migrate)
    await database.read(lambda connection: command.check(alembic(connection)))
    await database.close()


async def test_a_fresh_database_is_what_the_migrations_make(database_url: str) -> None:
    database = Database(database_url)
    await database.write(migrate)
    migrated = await database.read(describe)
    await database.write(drop_all)
    await prepare(database)
    created = await database.read(describe)
    assert created == migrated
    await database.close()


def test_the_revisions_are_those_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", "engine.store:migrations")
    config.set_main_option("path_separator", "os")
    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(revisions)) == REVISIONS
    assert REVISIONS[-1] == HEAD


async def test_a_newer_database_is_refused(database_url: str, files: Path) -> None:
    await (await Store.open(database_url, files=files)).close()
    database = Database(database_url)
    await database.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    await database.close()
    with pytest.raises(StoreNewerError, match="9999"):
        await Store.open(database_url, files=files)


async def test_processes_that_open_an_empty_database_at_once_all_succeed(database_url: str, files: Path) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", OPEN, database_url, str(files), str(number), stderr=asyncio.subprocess.PIPE
        )
        for number in range(4)
    ]
    async with asyncio.timeout(120):
        errors = [(await process.communicate())[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, errors
    async with await Store.open(database_url, files=files) as store:
        (flow,) = await store.flows.list()
        assert flow.versions == 4


async def test_opening_imports_no_migrations_and_no_file_systems(database_url: str, files: Path) -> None:
    for digest in ("fresh", "up to date"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", OPEN, database_url, str(files), digest, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert (process.returncode, output) == (0, b"\n")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "can't be read"),
        ("stepbox.db", "can't be read"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///file:x?mode=memory&uri=true", "in memory"),
        ("mysql://localhost/stepbox", "'mysql'"),
        ("sqlite+aiosqlite:///x.db", "sqlite"),
    ],
)
async def test_a_url_that_names_no_database_is_refused(url: str, message: str) -> None:
    with pytest.raises(InvalidDatabaseUrlError, match=message):
        await Store.open(url)


async def test_a_database_that_cannot_be_reached_says_so_without_its_password() -> None:
    with pytest.raises(StoreUnavailableError, match="me:") as caught:
        await Store.open("postgresql://me:s3cret@127.0.0.1:1/none", files="unused")
    assert "s3cret" not in str(caught.value)
    with pytest.raises(InvalidCallError, match="files"):
        await Store.open("postgresql://me:s3cret@127.0.0.1:1/none")


async def test_a_database_that_goes_away_is_an_error_and_not_a_hang(postgresql_url: str, files: Path) -> None:
    async with await Store.open(postgresql_url, files=files) as store:
        server, _, name = postgresql_url.rpartition("/")
        async with await psycopg.AsyncConnection.connect(f"{server}/postgres", autocommit=True) as connection:
            await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
            await connection.execute(
                b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )
        async with asyncio.timeout(60):
            with pytest.raises(StoreUnavailableError):
                await store.flows.current("flow")
            with pytest.raises(StoreUnavailableError):
                await read_in_a_transaction(store)


async def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database " * 100)
    with pytest.raises(StoreUnavailableError, match="not a database"):
        await Store.open(f"sqlite:///{tmp_path / 'notes.txt'}")


async def test_sqlite_keeps_what_it_accepts_and_checks_what_refers(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    for use in (database.read, database.write):
        assert await use(pragmas) == {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1}
    await database.close()


async def read_in_a_transaction(store: Store) -> None:
    async with store.transaction():
        await store.flows.current("flow")


def describe(connection: Connection) -> dict[str, Any]:
    inspector = inspect(connection)
    return {
        "triggers": {"made": sorted(map(str, connection.execute(text(TRIGGERS[connection.dialect.name]))))},
    } | {
        table: {
            "columns": sorted(
                (column["name"], str(column["type"]), column["nullable"], str(column["default"]))
                for column in inspector.get_columns(table)
            ),
            "key": inspector.get_pk_constraint(table),
            "foreign": sorted(map(str, inspector.get_foreign_keys(table))),
            "unique": sorted(map(str, inspector.get_unique_constraints(table))),
            "indexes": sorted(map(index, inspector.get_indexes(table))),
            "rows": connection.scalar(text(f'SELECT count(*) FROM "{table}"')),
        }
        for table in inspector.get_table_names()
    }


def index(found: Mapping[str, Any]) -> str:
    """An index as text: SQLAlchemy gives the condition of one on SQLite as an object."""
    options = {name: str(value) for name, value in found.get("dialect_options", {}).items()}
    return str({**found, "dialect_options": options})


def pragmas(connection: Connection) -> dict[str, Any]:
    return {name: connection.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")}


def drop_all(connection: Connection) -> None:
    from engine.store.tables import Table  # noqa: PLC0415

    Table.metadata.drop_all(connection)
    connection.execute(text("DROP TABLE alembic_version"))

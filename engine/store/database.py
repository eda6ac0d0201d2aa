"""One database: its connections, its transactions, and how it behaves under several writers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from engine.store.errors import InvalidDatabaseUrlError
from engine.store.types import encode_json

_BUSY_TIMEOUT: Final = 30_000
"""Milliseconds that SQLite waits for another process's write to end. Ours are hundreds of microseconds."""

_WRITES: Final = "stepbox_writes"


class Database:
    """Connections to one SQLite file or one PostgreSQL database.

    Every operation of the store is one short transaction. On SQLite there is one writer at a time: within the process
    writers queue on a lock (its busy handler would poll), between processes on SQLite's own. Writers begin IMMEDIATE,
    since a transaction that starts as a reader and then writes can fail where waiting would do.
    """

    def __init__(self, url: str) -> None:
        """Prepare connections to ``url``; none is made yet.

        Raises:
            InvalidDatabaseUrlError: the URL is malformed, in memory, or of another database.
        """
        self.url = _normalise(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._writer = asyncio.Lock() if self.is_sqlite else None
        self._ambient: ContextVar[tuple[AsyncConnection, asyncio.Task[Any] | None] | None] = ContextVar(
            "ambient", default=None
        )
        self.engine = _sqlite_engine(self.url) if self.is_sqlite else _postgresql_engine(self.url)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A consistent view of the database; inside :meth:`write`, that transaction's own."""
        if (connection := self._joined()) is not None:
            yield connection
            return
        async with self.engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed at the end of the block, rolled back if it raises or is cancelled.

        Inside another one of the same task it joins that one, so that operations commit together. Code inside must
        not hand operations of the store to other tasks: they would wait for this transaction to end.
        """
        if (connection := self._joined()) is not None:
            yield connection
            return
        if self._writer is None:
            async with self.engine.begin() as connection:
                with self._joinable(connection):
                    yield connection
            return
        async with self._writer, self.engine.connect() as connection:
            await connection.execution_options(**{_WRITES: True})
            async with connection.begin():
                with self._joinable(connection):
                    yield connection

    async def close(self) -> None:
        await self.engine.dispose()

    def _joined(self) -> AsyncConnection | None:
        ambient = self._ambient.get()
        if ambient is None or ambient[1] is not asyncio.current_task():
            return None
        return ambient[0]

    def _joinable(self, connection: AsyncConnection) -> "_Ambient":
        return _Ambient(self._ambient, connection)


class _Ambient:
    """Makes a transaction the one that further operations of this task join."""

    def __init__(
        self,
        variable: ContextVar[tuple[AsyncConnection, asyncio.Task[Any] | None] | None],
        connection: AsyncConnection,
    ) -> None:
        self._variable = variable
        self._connection = connection

    def __enter__(self) -> None:
        self._token = self._variable.set((self._connection, asyncio.current_task()))

    def __exit__(self, *_: object) -> None:
        self._variable.reset(self._token)


def _normalise(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InvalidDatabaseUrlError(
            "the database URL can't be read",
            fix="write it like sqlite:///path/to/stepbox.db or postgresql://user:password@host:5432/stepbox",
        ) from None
    if parsed.drivername in ("sqlite", "sqlite+aiosqlite"):
        if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
            raise InvalidDatabaseUrlError(
                "an SQLite database in memory would lose every run when the process ends",
                fix="name a file: sqlite:///path/to/stepbox.db",
            )
        return parsed.set(drivername="sqlite+aiosqlite")
    if parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    raise InvalidDatabaseUrlError(
        f"Stepbox doesn't keep its data in {parsed.drivername!r}",
        fix="use an sqlite:/// or a postgresql:// URL",
    )


def _sqlite_engine(url: URL) -> AsyncEngine:
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    # Every transaction is ended by us, so the rollback at the return to the pool would be one more trip for nothing.
    engine = create_async_engine(url, json_serializer=encode_json, pool_reset_on_return=None)
    event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    """Prepare a new connection.

    WAL lets readers read while one writes. With synchronous NORMAL a commit is in the operating system's hands when it
    returns, so it survives the death of the process (``kill -9``); a power cut may undo the last ones but not damage
    the database. FULL would add an fsync, milliseconds, to each commit.
    """
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {_BUSY_TIMEOUT}",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql_engine(url: URL) -> AsyncEngine:
    return create_async_engine(url, json_serializer=encode_json, pool_pre_ping=True, pool_size=10, max_overflow=10)

"""One database: its connections, its transactions, and how it behaves under several writers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, Executable, Row, Select, create_engine, event, make_url
from sqlalchemy.dialects.postgresql import Insert as PostgresqlInsert
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError

from engine.cancellation import settled
from engine.store.errors import InvalidDatabaseUrlError, LeaseLostError, StoreUnavailableError
from engine.store.tables import Table
from engine.store.types import encode_json
from flows.errors import StepboxError

_BUSY_TIMEOUT: Final = 30_000
"""Milliseconds that SQLite waits for another process's write to end. Ours are hundreds of microseconds."""

_CONNECTIONS: Final = 10
"""PostgreSQL connections of one process, and threads that use them."""

_READERS: Final = 4
"""SQLite connections of one process that read beside the one that writes."""

_WRITES: Final = "stepbox_writes"
_ENDING: Final = "stepbox_ending"

_BEHALF: Final[ContextVar["Behalf | None"]] = ContextVar("behalf", default=None)

Result = TypeVar("Result")
Body = Callable[[Connection], Result]


class Database:
    """Connections to one SQLite file or one PostgreSQL database.

    Every operation of the store is a function of a connection, run as one transaction in a thread of the database's
    own. So a transaction costs one trip to a thread, whatever it does (an async driver makes one for each statement,
    fetch and commit: with aiosqlite the same write takes five times as long). On SQLite one thread does all the
    writing, since there is one writer at a time anyway.
    """

    def __init__(self, url: str) -> None:
        """Prepare connections to ``url``; none is made yet.

        Raises:
            InvalidDatabaseUrlError: the URL is malformed, in memory, or of another database.
        """
        self.url = _normalise(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._engine = _sqlite_engine(self.url) if self.is_sqlite else _postgresql_engine(self.url)
        self._writing_engine = self._engine.execution_options(**{_WRITES: True})
        self._writers = ThreadPoolExecutor(1 if self.is_sqlite else _CONNECTIONS, "stepbox-store")
        self._readers = ThreadPoolExecutor(_READERS, "stepbox-store-read") if self.is_sqlite else self._writers
        self._open: ContextVar[tuple[_Transaction, asyncio.Task[Any] | None] | None] = ContextVar("open", default=None)

    async def read(self, body: Body[Result]) -> Result:
        """What ``body`` reads; inside :meth:`transaction`, with what that has written."""
        with _losing_the_run():
            if (transaction := self._joined()) is not None:
                return await transaction.run(body)
            return await asyncio.wrap_future(self._readers.submit(copy_context().run, _transact, self._engine, body))

    async def write(self, body: Body[Result]) -> Result:
        """Run ``body`` and commit, or roll back if it raises; inside :meth:`transaction`, leave both to that.

        A caller that is cancelled meanwhile hears of it once the write has ended: a
        :class:`asyncio.CancelledError` says that what was to be written is written.
        """
        with _losing_the_run():
            if (transaction := self._joined()) is not None:
                return await transaction.run(body)
            writing = self._writers.submit(copy_context().run, _transact, self._writing_engine, body)
            return await settled(asyncio.wrap_future(writing))

    async def rows(
        self, query: Select[*tuple[Any, ...]], parameters: Mapping[str, Any] | None = None
    ) -> Sequence[Row[*tuple[Any, ...]]]:
        """All rows of a query."""
        return await self.read(lambda connection: connection.execute(query, parameters).all())

    async def execute(self, statement: Executable, parameters: Mapping[str, Any]) -> None:
        """Execute a statement. One that is made once and takes parameters costs half of one made for the call."""
        await self.write(lambda connection: connection.execute(statement, parameters))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Make what this task does inside the block one transaction.

        It is committed at the block's end, and rolled back if the block raises or is cancelled. One inside another
        joins it. The block must not wait for other tasks that use the store: on SQLite they wait for it to end.
        """
        if self._joined() is not None:
            yield
            return
        with _losing_the_run():
            async with self._begun_here():
                yield

    @asynccontextmanager
    async def _begun_here(self) -> AsyncIterator[None]:
        transaction = _Transaction()
        done = self._writers.submit(copy_context().run, transaction.occupy, self._writing_engine)
        token = self._open.set((transaction, asyncio.current_task()))
        try:
            await asyncio.wrap_future(transaction.begun)
            yield
        except BaseException:
            transaction.end(commit=False)
            raise
        else:
            transaction.end(commit=True)
            committed = asyncio.wrap_future(done)
            try:
                await settled(committed)
            finally:
                if committed.exception() is None:
                    for call in transaction.calls:
                        call()
        finally:
            self._open.reset(token)
        for body in transaction.afterwards:
            await self.write(body)

    async def after_commit(self, body: Body[object]) -> None:
        """Run ``body`` in a transaction of its own once what was written is committed: now, or after the block."""
        if (transaction := self._joined()) is not None:
            transaction.afterwards.append(body)
        else:
            await self.write(body)

    def once_committed(self, call: Callable[[], None]) -> None:
        """Make this call once what this task has written is committed: now, or at the end of the block."""
        if (transaction := self._joined()) is not None:
            transaction.calls.append(call)
        else:
            call()

    def equip(self, name: str, value: object) -> None:
        """Let what runs in transactions find this: ``connection.get_execution_options()[name]``."""
        for engine in (self._engine, self._writing_engine):
            engine.update_execution_options(**{name: value})

    @property
    def in_transaction(self) -> bool:
        """Whether this task is inside :meth:`transaction`."""
        return self._joined() is not None

    async def close(self) -> None:
        """Let what is going on end, and close all connections."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writers.shutdown()
        self._readers.shutdown()
        self._engine.dispose()

    def _joined(self) -> "_Transaction | None":
        found = self._open.get()
        # A task started inside the block inherits the variable, but is none of the transaction's business.
        return found[0] if found is not None and found[1] is asyncio.current_task() else None


@dataclass(frozen=True, kw_only=True)
class Behalf:
    """The run for which a task uses the database, and why it can't any more, for it and those it is a part of."""

    run_id: str
    failures: list[StepboxError]

    def give_up(self, why: StepboxError) -> None:
        """Let nothing more be written for the run, nor for those that are parts of it."""
        self.failures.append(why)


@contextmanager
def on_behalf_of(run_id: str) -> Iterator[Behalf]:
    """Once the database fails inside the block, the run is lost to this engine: see :class:`LeaseLostError`.

    Nothing more is written for it, or for a run that it is a part of, even where the database answers again.
    """
    outer = _BEHALF.get()
    behalf = Behalf(run_id=run_id, failures=[] if outer is None else outer.failures)
    token = _BEHALF.set(behalf)
    try:
        yield behalf
    finally:
        _BEHALF.reset(token)


@contextmanager
def _losing_the_run() -> Iterator[None]:
    behalf = _BEHALF.get()
    if behalf is None:
        yield
        return
    try:
        if not behalf.failures:
            yield
    except StoreUnavailableError as error:
        behalf.failures.append(error)
    if behalf.failures:
        raise LeaseLostError(behalf.run_id) from behalf.failures[0]


class _Transaction:
    """One open transaction: it occupies a thread, which runs what comes until the end."""

    def __init__(self) -> None:
        self.begun: Future[None] = Future()
        self.afterwards: list[Body[object]] = []
        self.calls: list[Callable[[], None]] = []
        self._bodies: SimpleQueue[tuple[Future[Any], Body[Any]] | bool] = SimpleQueue()

    async def run(self, body: Body[Result]) -> Result:
        future: Future[Result] = Future()
        self._bodies.put((future, body))
        return await settled(asyncio.wrap_future(future))

    def end(self, *, commit: bool) -> None:
        self._bodies.put(commit)

    def occupy(self, engine: Engine) -> None:
        """Run the transaction to its end, in the thread that it occupies."""
        try:
            _transact(engine, self._serve)
        except BaseException as error:
            if not self.begun.done():
                self.begun.set_exception(error)
            raise

    def _serve(self, connection: Connection) -> None:
        connection.begin()
        if self.begun.set_running_or_notify_cancel():
            self.begun.set_result(None)
        while not isinstance(entry := self._bodies.get(), bool):
            future, body = entry
            if not future.set_running_or_notify_cancel():
                continue
            try:
                with _unavailable_as_such(connection.engine):
                    result = body(connection)
                future.set_result(result)
            except BaseException as error:  # noqa: BLE001 - it belongs to who asked, in the other thread
                future.set_exception(error)
        if not entry:
            connection.info[_ENDING].before.clear()
            connection.rollback()


def upsert_into(connection: Connection, table: type[Table]) -> SqliteInsert | PostgresqlInsert:
    """An INSERT that may say what happens on a conflict, in the words of the connection's database."""
    return sqlite_insert(table) if connection.dialect.name == "sqlite" else postgresql_insert(table)


def before_commit(connection: Connection, body: Body[object], *, order: str = "") -> None:
    """Run ``body`` as one of the last things of the transaction: what takes locks that others wait for.

    By ``order``, so that transactions take such locks in one order.
    """
    connection.info[_ENDING].before.append((order, body))


def after_commit(connection: Connection, call: Callable[[], None]) -> None:
    """Make this call in the thread of the transaction, once it is committed. It is to be quick, and not to fail."""
    connection.info[_ENDING].after.append(call)


@dataclass
class _Ending:
    """What belongs to the end of a transaction."""

    before: list[tuple[str, Body[object]]] = field(default_factory=list)
    after: list[Callable[[], None]] = field(default_factory=list)


def _transact(engine: Engine, body: Body[Result]) -> Result:
    with _unavailable_as_such(engine), engine.connect() as connection:
        ending = connection.info[_ENDING] = _Ending()
        result = body(connection)
        for _order, last in sorted(ending.before, key=itemgetter(0)):
            last(connection)
        connection.commit()
        for call in ending.after:
            call()
        return result


@contextmanager
def _unavailable_as_such(engine: Engine) -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        if type(error) not in {DatabaseError, OperationalError}:
            raise
        raise StoreUnavailableError(
            f"the database {engine.url.render_as_string()} failed: {error.orig}",
            fix="check that it can be reached and written, and that its disk has room",
        ) from error


def _normalise(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InvalidDatabaseUrlError(
            "the database URL can't be read",
            fix="write it like sqlite:///path/to/stepbox.db or postgresql://user:password@host:5432/stepbox",
        ) from None
    if parsed.drivername == "sqlite":
        if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
            raise InvalidDatabaseUrlError(
                "an SQLite database in memory would lose every run when the process ends",
                fix="name a file: sqlite:///path/to/stepbox.db",
            )
        return parsed
    if parsed.drivername in {"postgres", "postgresql", "postgresql+psycopg"}:
        return parsed.set(drivername="postgresql+psycopg")
    raise InvalidDatabaseUrlError(
        f"Stepbox doesn't keep its data in {parsed.drivername!r}",
        fix="use an sqlite:/// or a postgresql:// URL",
    )


def _sqlite_engine(url: URL) -> Engine:
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, json_serializer=encode_json, pool_size=_READERS + 1)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    """Prepare a new connection.

    WAL lets readers read while one writes. With synchronous NORMAL a commit is in the operating system's hands when it
    returns, so it survives the death of the process (``kill -9``); a power cut may undo the last ones but not damage
    the database. FULL would add an fsync, milliseconds, to each commit.
    """
    connection.isolation_level = None
    try:
        for pragma in (
            f"busy_timeout = {_BUSY_TIMEOUT}",
            "journal_mode = WAL",
            "synchronous = NORMAL",
            "foreign_keys = ON",
        ):
            connection.execute(f"PRAGMA {pragma}")
        # SQLite's own knows only ASCII.
        connection.create_function("lower", 1, _lower, deterministic=True)
    except BaseException:
        connection.close()
        raise


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _begin_sqlite(connection: Connection) -> None:
    """Writers begin IMMEDIATE: a transaction that reads first and then writes can fail where waiting would do."""
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql_engine(url: URL) -> Engine:
    return create_engine(
        url,
        json_serializer=encode_json,
        pool_pre_ping=True,
        pool_size=_CONNECTIONS,
        connect_args={"connect_timeout": 10},
    )

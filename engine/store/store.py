"""The store: everything that Stepbox keeps, in one database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.store import schema
from engine.store.blobs import Blobs
from engine.store.calls import Calls
from engine.store.content import Content
from engine.store.database import Database
from engine.store.egress import Egress
from engine.store.flows import Flows
from engine.store.logs import Logs
from engine.store.runs import Runs
from engine.store.start_keys import StartKeys
from engine.store.steps import Steps
from engine.store.tokens import Tokens
from flows.errors import InvalidCallError


class Store:
    """An open database, by noun.

    ``flows``, ``runs``, ``steps`` (attempts), ``logs``, ``calls`` (of tools), ``egress`` (requests over the network),
    ``start_keys``, ``tokens`` (with their principals) and ``content`` (the workspaces' documents, tasks and files).
    """

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self.flows = Flows(database)
        self.runs = Runs(database)
        self.steps = Steps(database)
        self.logs = Logs(database)
        self.calls = Calls(database)
        self.egress = Egress(database)
        self.start_keys = StartKeys(database)
        self.tokens = Tokens(database)
        self.content = Content(database, blobs)

    @classmethod
    async def open(cls, url: str, *, files: Path | str | None = None) -> Self:
        """Open ``sqlite:///path`` or ``postgresql://…``, creating or upgrading its tables where needed.

        ``files`` is where the contents of the workspaces' files are kept: a directory, or an fsspec URL; left out, the
        directory ``files`` beside an SQLite database.

        Raises:
            InvalidDatabaseUrlError: the URL can't be used.
            StoreUnavailableError: the database can't be reached or opened.
            StoreNewerError: a newer Stepbox upgraded it.
        """
        database = Database(url)
        if files is None:
            if not database.is_sqlite:
                raise InvalidCallError("a PostgreSQL store needs a place for the contents of files", fix="pass files=…")
            files = Path(str(database.url.database)).parent / "files"
        try:
            await schema.prepare(database)
        except BaseException:
            await database.close()
            raise
        return cls(database, Blobs(str(files)))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Make the operations of this task inside the block commit together, or not at all.

        Keep it short: on SQLite nobody else can write meanwhile, other tasks included.
        """
        async with self._database.transaction():
            yield

    async def close(self) -> None:
        await self._database.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

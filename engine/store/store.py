"""The store: everything that Stepbox keeps, in one database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from sqlalchemy.exc import DBAPIError

from engine.store import schema
from engine.store.calls import Calls
from engine.store.database import Database
from engine.store.errors import StoreUnavailableError
from engine.store.flows import Flows
from engine.store.logs import Logs
from engine.store.runs import Runs
from engine.store.steps import Steps


class Store:
    """An open database, by noun: ``flows``, ``runs``, ``steps`` (attempts), ``logs``, ``calls`` (of tools)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.flows = Flows(database)
        self.runs = Runs(database)
        self.steps = Steps(database)
        self.logs = Logs(database)
        self.calls = Calls(database)

    @classmethod
    async def open(cls, url: str) -> Self:
        """Open ``sqlite:///path`` or ``postgresql://…``, creating or upgrading its tables where needed.

        Raises:
            InvalidDatabaseUrlError: the URL can't be used.
            StoreUnavailableError: the database can't be reached or opened.
            StoreNewerError: a newer Stepbox upgraded it.
        """
        database = Database(url)
        try:
            await schema.prepare(database)
        except (DBAPIError, OSError) as error:
            await database.close()
            shown = database.url.render_as_string(hide_password=True)
            raise StoreUnavailableError(
                f"the database {shown} can't be opened: {getattr(error, 'orig', None) or error}",
                fix="check STEPBOX_DATABASE_URL, that the server runs, and that this user may use it",
            ) from error
        except BaseException:
            await database.close()
            raise
        return cls(database)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Make the operations of this task inside the block commit together, or not at all.

        Keep it short: on SQLite nobody else can write meanwhile, other tasks included.
        """
        async with self._database.write():
            yield

    async def close(self) -> None:
        await self._database.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

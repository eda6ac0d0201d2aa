"""Keeps a second process from driving the runs of one SQLite database."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import make_url

from flows.errors import InvalidCallError


class AlreadyServedError(InvalidCallError):
    """Another process drives the runs of this database."""

    code = "already_served"


class ServeLock:
    """A lock of the operating system on a file beside the database: it is gone with the process, however that ends.

    Engines that share a PostgreSQL database need none.
    """

    def __init__(self, database_url: str) -> None:
        url = make_url(database_url)
        self._database = Path(str(url.database)).absolute() if url.get_backend_name() == "sqlite" else None
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            AlreadyServedError: another process has it.
        """
        if self._database is None:
            return self
        path = self._database.with_name(f"{self._database.name}.serve.lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise AlreadyServedError(
                f"another stepbox serve (process {holder}) drives the runs of {self._database}",
                fix="use that one, end it, give this one a home of its own by STEPBOX_HOME, or share a PostgreSQL "
                "database by STEPBOX_DATABASE_URL",
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

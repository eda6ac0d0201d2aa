"""The clock that all engines of a database share."""

from datetime import UTC, datetime

from sqlalchemy import Connection, func, select

from engine.store.types import UtcDateTime


def now_of(connection: Connection) -> datetime:
    """The time by that clock: a server's own, or for SQLite this machine's."""
    if connection.dialect.name == "postgresql":
        return connection.execute(select(func.clock_timestamp(type_=UtcDateTime()))).scalar_one()
    return datetime.now(UTC)

"""Locks by name that transactions of a PostgreSQL database hold until they end. SQLite has one writer anyway."""

from typing import Final

from sqlalchemy import Connection, text

_ALONE: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
_SHARED: Final = text("SELECT pg_advisory_xact_lock_shared(hashtextextended(:name, 0))")


def hold_name(connection: Connection, name: str, *, shared: bool = False) -> None:
    """Wait until no other transaction holds the name, and hold it; ``shared`` ones only keep out those that aren't."""
    if connection.dialect.name == "postgresql":
        connection.execute(_SHARED if shared else _ALONE, {"name": name})

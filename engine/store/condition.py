"""Whether a database can be used, found out without making or changing anything in it."""

import asyncio
import os
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from engine.files import can_be_written
from engine.store.database import Database
from engine.store.errors import StoreUnavailableError
from engine.store.schema import HEAD, revision


async def condition(url: str) -> str:
    """One line about the database that can be used.

    Raises:
        InvalidDatabaseUrlError: the URL can't be used.
        StoreUnavailableError: the database can't be reached, opened or written.
        StoreNewerError: a newer Stepbox upgraded it.
    """
    path = _file(url)
    if path is not None and not can_be_written(path):
        raise StoreUnavailableError(
            f"{path} can't be written by this user", fix=f"sudo chown -R {os.getuid()} {path.parent}"
        )
    if path is not None and not await asyncio.to_thread(os.path.exists, path):
        return f"{path} will be made when needed"
    database = Database(url)
    try:
        found = await database.read(revision)
    finally:
        await database.close()
    shown = database.url.render_as_string(hide_password=True)
    if found is None:
        return f"{shown} is empty; its tables will be made when they are first needed"
    return f"{shown} is at revision {found}" + ("" if found == HEAD else f" and will be upgraded to {HEAD}")


def _file(url: str) -> Path | None:
    """The file of an SQLite database; making a :class:`Database` of it would make its directory."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        return None
    if parsed.drivername != "sqlite" or not parsed.database or parsed.database.startswith((":memory:", "file:")):
        return None
    return Path(parsed.database)

"""Bringing a database to the schema of this code.

``REVISIONS`` lists the migrations in order. A database at the last one costs one SELECT to open; an empty one gets the
tables at once (a test holds them equal to what the migrations make); Alembic is imported only to upgrade an older one.
"""

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, insert, inspect, select, text

from engine.store import (  # noqa: F401 - their tables are the metadata's
    approval_table,
    audit_table,
    notice_table,
    policy_table,
    principal_tables,
    secret_tables,
    wait_table,
)
from engine.store.database import Database
from engine.store.errors import StoreNewerError
from engine.store.tables import DEFAULT_WORKSPACE, WorkspaceTable
from engine.store.tables import Table as StoreTable

REVISIONS: Final = (
    "0001",
    "0002",
    "0003",
    "0004",
    "0005",
    "0006",
    "0007",
    "0008",
    "0009",
    "0010",
    "0011",
    "0012",
    "0013",
    "0014",
    "0016",
    "0017",
    "0018",
    "0019",
    "0020",
    "0021",
)
HEAD: Final = REVISIONS[-1]

_VERSION = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32)),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
_LOCK_KEY: Final = 0x5354_4550_424F_5801
"""Of PostgreSQL's advisory lock: "STEPBOX" and a number."""


async def prepare(database: Database) -> None:
    """Create or upgrade the schema if needed. Safe when several processes do it at once: one does, the others wait.

    Raises:
        StoreNewerError: a newer Stepbox upgraded this database.
    """
    if await database.read(revision) != HEAD:
        await database.write(_upgrade)


def revision(connection: Connection) -> str | None:
    """The revision of the database, None where it has no tables of ours.

    Raises:
        StoreNewerError: this code doesn't know the revision.
    """
    if not inspect(connection).has_table(_VERSION.name):
        return None
    found = connection.execute(select(_VERSION.c.version_num)).scalar_one_or_none()
    if found is not None and found not in REVISIONS:
        raise StoreNewerError(
            f"the database is at revision {found!r}, which this Stepbox doesn't know",
            fix="a newer Stepbox has upgraded it: install that version or a later one",
        )
    return found


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
    found = revision(connection)
    if found is None:
        _create(connection)
    elif found != HEAD:
        migrate(connection)


def _create(connection: Connection) -> None:
    StoreTable.metadata.create_all(connection)
    connection.execute(insert(WorkspaceTable).values(id=DEFAULT_WORKSPACE, created_at=datetime.now(UTC)))
    _VERSION.create(connection)
    connection.execute(insert(_VERSION).values(version_num=HEAD))


def migrate(connection: Connection) -> None:
    """Run the migrations that the database hasn't seen, inside the connection's transaction."""
    from alembic import command  # noqa: PLC0415 - a second that opening an up-to-date database must not pay
    from alembic.config import Config  # noqa: PLC0415 - the same

    config = Config()
    config.set_main_option("script_location", "engine.store:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")

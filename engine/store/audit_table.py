"""The tables of the audit, and what refuses to change them.

Nothing refers to them or from them, so that what is removed elsewhere, a run or a workspace, leaves its entries.
"""

from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, Connection, Index, LargeBinary, MetaData, Text, event, text
from sqlmodel import Field

from engine.store.tables import Table
from engine.store.types import UtcDateTime

_OF_RUN = text("run_id IS NOT NULL")


class AuditEntryTable(Table, table=True):
    """One entry of a workspace's chain. ``entry`` is the text that ``hash`` is of; the others are for finding it."""

    __tablename__ = "audit_entry"
    __table_args__ = (Index(None, "run_id", sqlite_where=_OF_RUN, postgresql_where=_OF_RUN),)
    workspace: str = Field(primary_key=True)
    number: int = Field(primary_key=True, sa_type=BigInteger)
    at: datetime = Field(sa_type=UtcDateTime)
    actor: str
    action: str
    outcome: str
    run_id: str | None = None
    entry: str = Field(sa_type=Text)
    hash: str
    seal: str


class AuditHeadTable(Table, table=True):
    """How far a workspace's chain has come. Entries up to the number ``cut`` may be removed: they are old."""

    __tablename__ = "audit_head"
    workspace: str = Field(primary_key=True)
    number: int = Field(sa_type=BigInteger)
    hash: str
    seal: str
    cut: int = Field(sa_type=BigInteger)


class AuditKeyTable(Table, table=True):
    """A key that entries are sealed by, encrypted by the secret key of the id ``key_id``."""

    __tablename__ = "audit_key"
    id: str = Field(primary_key=True)
    key_id: str
    sealed: bytes = Field(sa_type=LargeBinary)
    created_at: datetime = Field(sa_type=UtcDateTime)


_MESSAGE: Final = "the audit is append-only"
_KEPT: Final = "OLD.number > COALESCE((SELECT cut FROM audit_head WHERE workspace = OLD.workspace), 0)"
SQLITE_TRIGGERS: Final = (
    f"CREATE TRIGGER audit_entry_no_update BEFORE UPDATE ON audit_entry BEGIN SELECT RAISE(ABORT, '{_MESSAGE}'); END",
    (
        f"CREATE TRIGGER audit_entry_no_delete BEFORE DELETE ON audit_entry WHEN {_KEPT} "
        f"BEGIN SELECT RAISE(ABORT, '{_MESSAGE}'); END"
    ),
    f"CREATE TRIGGER audit_head_no_delete BEFORE DELETE ON audit_head BEGIN SELECT RAISE(ABORT, '{_MESSAGE}'); END",
)
POSTGRESQL_TRIGGERS: Final = (
    (
        f"CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_MESSAGE}' USING ERRCODE = 'integrity_constraint_violation'; END $$"
    ),
    (
        "CREATE OR REPLACE FUNCTION audit_refuse_kept() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN IF {_KEPT} THEN RAISE EXCEPTION '{_MESSAGE}' USING ERRCODE = 'integrity_constraint_violation'; "
        "END IF; RETURN OLD; END $$"
    ),
    "CREATE TRIGGER audit_entry_no_update BEFORE UPDATE ON audit_entry FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
    (
        "CREATE TRIGGER audit_entry_no_delete BEFORE DELETE ON audit_entry "
        "FOR EACH ROW EXECUTE FUNCTION audit_refuse_kept()"
    ),
    (
        "CREATE TRIGGER audit_entry_no_truncate BEFORE TRUNCATE ON audit_entry "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()"
    ),
    "CREATE TRIGGER audit_head_no_delete BEFORE DELETE ON audit_head FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
    (
        "CREATE TRIGGER audit_head_no_truncate BEFORE TRUNCATE ON audit_head "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()"
    ),
)
"""A second fence: who may write to a database may also drop its triggers."""


@event.listens_for(Table.metadata, "after_create")
def _add_triggers(_metadata: MetaData, connection: Connection, **_options: object) -> None:
    for statement in SQLITE_TRIGGERS if connection.dialect.name == "sqlite" else POSTGRESQL_TRIGGERS:
        connection.exec_driver_sql(statement)

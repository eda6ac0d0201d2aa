"""The tables of secrets; the others are in :mod:`engine.store.tables`."""

from datetime import datetime
from typing import Final

from sqlalchemy import ForeignKeyConstraint, LargeBinary, String, UniqueConstraint
from sqlmodel import Field

from engine.store.tables import Table
from engine.store.types import UtcDateTime

_KEY = String().with_variant(String(collation="C"), "postgresql")
THE_KEY: Final = 1
"""The id of the one row of its table."""


class SecretTable(Table, table=True):
    """A secret by name."""

    __tablename__ = "secret"
    __table_args__ = (ForeignKeyConstraint(["workspace"], ["workspace.id"]),)
    workspace: str = Field(primary_key=True)
    name: str = Field(primary_key=True, sa_type=_KEY)
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)
    last_used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class SecretVersionTable(Table, table=True):
    """One live value of a secret, encrypted by the key of that id; the higher the number, the newer."""

    __tablename__ = "secret_version"
    __table_args__ = (
        ForeignKeyConstraint(["workspace", "name"], ["secret.workspace", "secret.name"]),
        UniqueConstraint("workspace", "name", "number"),
    )
    id: str = Field(primary_key=True)
    workspace: str
    name: str = Field(sa_type=_KEY)
    number: int
    key_id: str
    sealed: bytes = Field(sa_type=LargeBinary)
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class SecretKeyTable(Table, table=True):
    """Which key the secrets are encrypted by: one row, once there have been secrets."""

    __tablename__ = "secret_key"
    id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    key_id: str
    changed_at: datetime = Field(sa_type=UtcDateTime)

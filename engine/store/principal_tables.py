"""The tables of principals, of their grants and tokens; the others are in :mod:`engine.store.tables`."""

from datetime import datetime

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field

from engine.store.tables import Table
from engine.store.types import NAME, Payload, UtcDateTime


class PrincipalTable(Table, table=True):
    """Who acts, by name in a workspace. One that is deleted keeps its row, so that nobody else gets its name."""

    __tablename__ = "principal"
    __table_args__ = (UniqueConstraint("workspace", "name"),)
    id: str = Field(primary_key=True)
    workspace: str = Field(foreign_key="workspace.id")
    name: str = Field(sa_type=NAME)
    role: str
    kind: str = Field(default="person", sa_column_kwargs={"server_default": "person"})
    created_at: datetime = Field(sa_type=UtcDateTime)
    disabled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class GrantTable(Table, table=True):
    """Tools or flows that a principal is granted, by a pattern of their names."""

    __tablename__ = "principal_grant"
    principal_id: str = Field(primary_key=True, foreign_key="principal.id")
    kind: str = Field(primary_key=True)
    pattern: str = Field(primary_key=True, sa_type=NAME)
    granted_by: str
    granted_at: datetime = Field(sa_type=UtcDateTime)


class TokenTable(Table, table=True):
    """A token of a principal. ``id`` is the public part of its text, ``digest`` the argon2 hash of the whole.

    ``scopes`` are patterns of the actions, ``only_flows`` of the flows that it opens; NULL: all.
    """

    __tablename__ = "token"
    __table_args__ = (Index(None, "principal_id", "id"),)
    id: str = Field(primary_key=True)
    principal_id: str = Field(foreign_key="principal.id")
    digest: str
    scopes: list[str] | None = Field(default=None, sa_type=Payload)
    only_flows: list[str] | None = Field(default=None, sa_type=Payload)
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)

"""The table of notices about questions to people; the others are in :mod:`engine.store.tables`."""

from datetime import datetime

from sqlalchemy import Index, Text, UniqueConstraint, false, text
from sqlmodel import Field

from engine.store.tables import Table
from engine.store.types import UtcDateTime


class NoticeTable(Table, table=True):
    """A message about a question to the address that a secret holds. ``due_at`` is NULL once nothing more is tried."""

    __tablename__ = "approval_notice"
    __table_args__ = (
        UniqueConstraint("approval_id", "target"),
        Index(None, "due_at", sqlite_where=text("due_at IS NOT NULL"), postgresql_where=text("due_at IS NOT NULL")),
    )
    id: str = Field(primary_key=True)
    approval_id: str = Field(foreign_key="approval.id")
    target: str
    attempts: int
    created_at: datetime = Field(sa_type=UtcDateTime)
    due_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    sent_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    dropped: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    error: str | None = Field(default=None, sa_type=Text)

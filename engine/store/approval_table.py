"""The table of questions to people; the others are in :mod:`engine.store.tables`."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, Text, UniqueConstraint, text
from sqlmodel import Field

from engine.store.tables import Table
from engine.store.types import Payload, UtcDateTime


class ApprovalTable(Table, table=True):
    """A question to a person, and its decision. ``subject`` tells the questions of one step (or item) apart."""

    __tablename__ = "approval"
    __table_args__ = (
        UniqueConstraint("run_id", "step_id", "item", "subject"),
        Index(
            None,
            "workspace",
            "id",
            sqlite_where=text("decided_at IS NULL"),
            postgresql_where=text("decided_at IS NULL"),
        ),
    )
    id: str = Field(primary_key=True)
    workspace: str = Field(foreign_key="workspace.id")
    run_id: str = Field(foreign_key="run.id")
    step_id: str
    item: int
    subject: str
    message: str = Field(sa_type=Text)
    details: Any = Field(default=None, sa_type=Payload, nullable=True)
    form: dict[str, Any] | None = Field(default=None, sa_type=Payload)
    approvers: list[str] = Field(sa_type=Payload)
    on_timeout: str
    requested_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    decision: str | None = None
    decided_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    decided_by: str | None = None
    comment: str | None = Field(default=None, sa_type=Text)
    form_values: Any = Field(default=None, sa_type=Payload, nullable=True)

"""The table of questions to people; the others are in :mod:`engine.store.tables`."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, Text, UniqueConstraint, text, true
from sqlmodel import Field

from engine.store.tables import Table
from engine.store.types import Payload, UtcDateTime


class ApprovalTable(Table, table=True):
    """A question to a person, and its decision. ``subject`` tells the questions of one step (or item) apart.

    One of a flow version has ``flow_version_id`` instead of a run; a version has one that isn't revoked at most.
    ``announced`` says that it is known who is to be told of it (:mod:`engine.store.notices`).
    """

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
        Index(
            "ix_approval_of_version",
            "flow_version_id",
            unique=True,
            sqlite_where=text("revoked_at IS NULL"),
            postgresql_where=text("revoked_at IS NULL"),
        ),
        Index(
            "ix_approval_unannounced", "id", sqlite_where=text("NOT announced"), postgresql_where=text("NOT announced")
        ),
    )
    id: str = Field(primary_key=True)
    workspace: str = Field(foreign_key="workspace.id")
    kind: str = Field(sa_column_kwargs={"server_default": "step"})
    flow: str = Field(sa_column_kwargs={"server_default": ""})
    run_id: str | None = Field(default=None, foreign_key="run.id")
    flow_version_id: str | None = Field(default=None, foreign_key="flow_version.id")
    step_id: str
    item: int
    subject: str
    message: str = Field(sa_type=Text)
    details: Any = Field(default=None, sa_type=Payload, nullable=True)
    form: dict[str, Any] | None = Field(default=None, sa_type=Payload)
    approvers: list[str] = Field(sa_type=Payload)
    own: str | None = None
    requesters: list[str] | None = Field(default=None, sa_type=Payload)
    notify: list[str] | None = Field(default=None, sa_type=Payload)
    announced: bool = Field(default=False, sa_column_kwargs={"server_default": true()})
    on_timeout: str
    requested_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    decision: str | None = None
    decided_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    decided_by: str | None = None
    comment: str | None = Field(default=None, sa_type=Text)
    form_values: Any = Field(default=None, sa_type=Payload, nullable=True)
    decided_via: str | None = None
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoked_by: str | None = None

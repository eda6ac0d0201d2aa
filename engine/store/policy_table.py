"""The table of the workspaces' policies; the others are in :mod:`engine.store.tables`."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKeyConstraint
from sqlmodel import Field

from engine.store.tables import Table
from engine.store.types import Payload, UtcDateTime


class WorkspacePolicyTable(Table, table=True):
    """One immutable version of a workspace's policy; the highest number is in force."""

    __tablename__ = "workspace_policy"
    __table_args__ = (ForeignKeyConstraint(["workspace"], ["workspace.id"]),)
    workspace: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    document: dict[str, Any] = Field(sa_type=Payload)
    set_by: str
    set_at: datetime = Field(sa_type=UtcDateTime)

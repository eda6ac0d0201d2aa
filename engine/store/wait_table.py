"""The table of what steps wait for besides people; the others are in :mod:`engine.store.tables`."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, Text, text
from sqlmodel import Field

from engine.store.tables import Table
from engine.store.types import Payload, UtcDateTime

_OPEN = text("pattern IS NOT NULL AND ended_at IS NULL")


class WaitTable(Table, table=True):
    """What a step (or item) waits for.

    ``until`` is when it ends by itself, ``pattern`` the type of the event that ends it where it waits for one, and
    ``names`` what its ``condition`` sees besides. ``event`` is the one that it took.
    """

    __tablename__ = "wait"
    __table_args__ = (Index(None, "workspace", "pattern", sqlite_where=_OPEN, postgresql_where=_OPEN),)
    run_id: str = Field(primary_key=True, foreign_key="run.id")
    step_id: str = Field(primary_key=True)
    item: int = Field(primary_key=True)
    workspace: str = Field(foreign_key="workspace.id")
    since: datetime = Field(sa_type=UtcDateTime)
    until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    pattern: str | None = None
    condition: str | None = Field(default=None, sa_type=Text)
    names: dict[str, Any] | None = Field(default=None, sa_type=Payload)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    event_key: str | None = None
    event: dict[str, Any] | None = Field(default=None, sa_type=Payload)

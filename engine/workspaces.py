"""Workspaces: each has its own flows, runs, secrets and principals, of which the others know nothing."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """A workspace, by its name."""

    name: str
    created_at: datetime

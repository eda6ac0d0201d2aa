"""Triggers of ``file``: a file that appears or changes in a directory."""

from typing import Literal

from pydantic import Field

from flows.model import Config, TriggerConfig
from flows.values import Duration


class FilePattern(Config):
    """Which files."""

    path: str
    """The directory."""
    glob: str = "*"
    """Which names: ``*.csv``; ``**/*.csv`` looks into directories below too."""
    changes: list[Literal["added", "modified", "deleted"]] = Field(
        default_factory=lambda: ["added", "modified"],  # type: ignore[arg-type]
        min_length=1,
    )
    settle: Duration = 1.0
    """How long the size must stay the same before the file counts as whole."""


class FileTrigger(TriggerConfig):
    """``event`` has ``path``, ``name``, ``size`` and ``change``."""

    file: FilePattern

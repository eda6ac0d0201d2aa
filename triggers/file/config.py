"""The model of triggers of ``file``, and what may be wrong with one."""

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from flows.contracts import Finding
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
    """Which changes."""
    settle: Duration = 1.0
    """How long the file must stay the same before it counts as whole."""


class FileTrigger(TriggerConfig):
    """``event`` has ``path``, ``name``, ``size``, ``modified_at`` and ``change``."""

    file: FilePattern
    """Which files."""


def check_file(config: TriggerConfig) -> Iterator[Finding]:
    """Whether the directory and the pattern are named."""
    assert isinstance(config, FileTrigger)
    if not config.file.path.strip():
        fix = "name a directory"
        yield Finding(path=("file", "path"), code="invalid_value", message="`path` is empty", fix=fix)
    glob = config.file.glob
    if not glob or glob.startswith("/") or ".." in glob.split("/") or not _is_pattern(glob):
        message = f"`{glob[:80]}` is not a pattern of names below `path`"
        yield Finding(path=("file", "glob"), code="invalid_value", message=message, fix="write a pattern such as *.csv")


def _is_pattern(glob: str) -> bool:
    from triggers.file.snapshot import Glob  # noqa: PLC0415 - only file triggers need it

    try:
        Glob(glob)
    except (ValueError, re.error):
        return False
    return True

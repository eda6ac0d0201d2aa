"""The model of triggers of ``file``, and what may be wrong with one."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from flows.contracts import Finding
from flows.model import Config, TriggerConfig
from flows.values import Duration


class Archive(Config):
    """Where files go."""

    archive: str
    """The directory, on the same file system; one that isn't absolute is below ``path``."""


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
    then: Literal["leave"] | Archive = "leave"
    """What happens to a file once its event is kept: it stays, or it is moved into a directory."""

    @property
    def directory(self) -> Path:
        """``path`` as an absolute one."""
        return Path(self.path).expanduser().absolute()

    @property
    def archive(self) -> Path | None:
        """Where files are moved to; None where they stay."""
        if isinstance(self.then, str):
            return None
        return Path(os.path.normpath(self.directory / Path(self.then.archive).expanduser()))


class FileTrigger(TriggerConfig):
    """``event`` has ``path``, ``original``, ``name``, ``size``, ``modified_at`` and ``change``."""

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
    elif isinstance(config.file.then, Archive):
        yield from _archive(config.file, config.file.then)


def _archive(pattern: FilePattern, then: Archive) -> Iterator[Finding]:
    from triggers.file.snapshot import Glob  # noqa: PLC0415 - only file triggers need it

    where = ("file", "then", "archive")
    archive = pattern.archive
    if not then.archive.strip() or archive is None:
        yield Finding(path=where, code="invalid_value", message="`archive` is empty", fix="name a directory")
    elif archive == pattern.directory or (
        archive.is_relative_to(pattern.directory)
        and Glob(pattern.glob).reaches(str(archive.relative_to(pattern.directory)))
    ):
        message = f"files in `{then.archive[:80]}` would be told of again, as `{pattern.glob[:80]}` means them too"
        fix = "name a directory beside `path`, or one with a dot before its name"
        yield Finding(path=where, code="invalid_value", message=message, fix=fix)
    if "deleted" in pattern.changes:
        message, fix = "a file that was deleted can't be archived", "remove `deleted` from `changes`"
        yield Finding(path=("file", "changes"), code="conflicting_keys", message=message, fix=fix)


def _is_pattern(glob: str) -> bool:
    from triggers.file.snapshot import Glob  # noqa: PLC0415 - only file triggers need it

    try:
        Glob(glob)
    except (ValueError, re.error):
        return False
    return True

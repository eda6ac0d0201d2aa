"""Making an installation: its home, its database and the interpreter that Python steps run in."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import flows
from engine.progress import Notice, Observer
from engine.settings import Settings
from engine.store import Store
from flows.errors import InvalidCallError
from flows.values import Json
from steps.sandbox import interpreter

LIST = "list"


class UnknownExampleError(InvalidCallError):
    """The library has no flow of that name."""

    code = "unknown_example"


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What was made, or was there. ``examples`` describes the library's flows by name where they were asked for."""

    home: Path
    database: str
    interpreter: Path
    copied: tuple[Path, ...] = ()
    examples: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Json]:
        """As JSON."""
        return {
            "home": str(self.home),
            "database": self.database,
            "interpreter": str(self.interpreter),
            "copied": [str(path) for path in self.copied],
            "examples": dict(self.examples),
        }


def library() -> dict[str, Path]:
    """The folders of the flows that Stepbox ships, by name."""
    root = Path(next(iter(flows.__path__))) / "library"
    return {folder.name: folder for folder in sorted(root.iterdir()) if (folder / f"{folder.name}.yaml").is_file()}

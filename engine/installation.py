"""Making an installation: its home, its database and the interpreter that Python steps run in."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.engine import make_url

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
    """What was made, or was there. ``examples`` describes the library's flows by name where they were asked for.

    ``interpreter`` is None where it isn't built.
    """

    home: Path
    database: str
    interpreter: Path | None
    copied: tuple[Path, ...] = ()
    examples: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Json]:
        """As JSON."""
        return {
            "home": str(self.home),
            "database": self.database,
            "interpreter": None if self.interpreter is None else str(self.interpreter),
            "copied": [str(path) for path in self.copied],
            "examples": dict(self.examples),
        }


def library() -> dict[str, Path]:
    """The folders of the flows that Stepbox ships, by name."""
    root = Path(next(iter(flows.__path__))) / "library"
    return {folder.name: folder for folder in sorted(root.iterdir()) if (folder / f"{folder.name}.yaml").is_file()}


async def initialise(settings: Settings, observer: Observer, *, example: str | None) -> Installation:
    """Make what is missing of the installation, and copy an example of the library into the current directory.

    With ``list`` for an example, nothing is made: the examples are described.

    Raises:
        UnknownExampleError: the library has no such flow.
        StepboxError: the database can't be opened, or the interpreter can't be built.
    """
    shipped = library()
    if example is not None and example not in (*shipped, LIST):
        raise UnknownExampleError(
            f"the library has no flow '{example}'", fix=f"choose one of {', '.join(shipped)}, or `{LIST}`"
        )
    database = make_url(settings.database_url).render_as_string(hide_password=True)
    if example == LIST:
        described = {name: _description(folder) for name, folder in shipped.items()}
        return Installation(
            home=settings.home.home, database=database, interpreter=interpreter.find(), examples=described
        )
    home = settings.home.make()
    store = await Store.open(settings.database_url, files=settings.home.files)
    await store.close()
    built = await interpreter.ensure(lambda message: observer.notice(Notice(kind="setup", message=message)))
    return Installation(
        home=home,
        database=database,
        interpreter=built,
        copied=() if example is None else _copy(shipped[example]),
    )


def _copy(folder: Path) -> tuple[Path, ...]:
    """Copy a flow of the library and its files here, the flow first; what is there stays."""
    flow = folder / f"{folder.name}.yaml"
    copied = []
    for source in (flow, *sorted(path for path in folder.iterdir() if path.is_file() and path != flow)):
        target = Path(source.name)
        if not target.exists():
            shutil.copy(source, target)
        copied.append(target)
    return tuple(copied)


def _description(folder: Path) -> str:
    """The flow's description, from its text: the library's flows have it on one line."""
    text = (folder / f"{folder.name}.yaml").read_text(encoding="utf-8")
    return next(
        (line.removeprefix("description: ") for line in text.splitlines() if line.startswith("description: ")), ""
    )

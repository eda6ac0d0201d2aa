"""Making an installation: its home, its database and the interpreter that Python steps run in."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy.engine import make_url

from engine.examples import copy_example, example_description, example_folder, library
from engine.progress import Notice, Observer
from engine.settings import Settings
from engine.store import Store
from flows.values import Json
from steps.sandbox import interpreter

LIST = "list"


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What was made, or was there. ``examples`` describes the library's flows by name where they were asked for.

    ``interpreter`` is None where it isn't built. ``copied`` are the files of the example that are here as the library
    has them, ``kept`` those that were here before and differ.
    """

    home: Path
    database: str
    interpreter: Path | None
    copied: tuple[Path, ...] = ()
    kept: tuple[Path, ...] = ()
    examples: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Json]:
        """As JSON."""
        return {
            "home": str(self.home),
            "database": self.database,
            "interpreter": None if self.interpreter is None else str(self.interpreter),
            "copied": [str(path) for path in self.copied],
            "kept": [str(path) for path in self.kept],
            "examples": dict(self.examples),
        }


async def initialise(settings: Settings, observer: Observer, *, example: str | None) -> Installation:
    """Make what is missing of the installation, and copy an example of the library into the current directory.

    With ``list`` for an example, nothing is made: the examples are described.

    Raises:
        UnknownExampleError: the library has no such flow.
        BlockedExampleError: something of the user's is in the example's way.
        StepboxError: the database can't be opened, or the interpreter can't be built.
    """
    folder = None if example in {None, LIST} else example_folder(example)
    database = make_url(settings.database_url).render_as_string(hide_password=True)
    if example == LIST:
        described = {name: example_description(folder) for name, folder in library().items()}
        return Installation(
            home=settings.home.home, database=database, interpreter=interpreter.find(), examples=described
        )
    home = settings.home.make()
    store = await Store.open(settings.database_url, files=settings.home.files)
    await store.close()
    built = await interpreter.ensure(lambda message: observer.notice(Notice(kind="setup", message=message)))
    made = Installation(home=home, database=database, interpreter=built)
    if folder is None:
        return made
    files = copy_example(folder, Path())
    return replace(made, copied=files.copied, kept=files.kept)

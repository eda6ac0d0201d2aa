"""The language as this installation speaks it: its step and trigger kinds and its tools."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from engine.files import read_file
from flows.contracts import Registry
from flows.definition import Definition
from flows.errors import InvalidCallError
from flows.loader import MAX_FILE, load
from flows.reader import MAX_TEXT
from steps.tools.catalogue import ToolCatalogue

STORED: Final = 256
"""Stored versions whose definitions are kept; the least recently used goes first."""


class UnreadableFileError(InvalidCallError):
    """A flow file that can't be read."""

    code = "unreadable_file"


@dataclass(frozen=True, kw_only=True, eq=False)
class Language:
    """Loads definitions with the kinds and tools that are there."""

    registry: Registry
    catalogue: ToolCatalogue

    def load_file(self, path: Path) -> Definition:
        """Load a flow from a file.

        Raises:
            UnreadableFileError: there is no such file, or it can't be read.
            InvalidFlowError: what it holds is not a valid flow.
        """
        try:
            text = read_file(path, limit=MAX_TEXT)
        except OSError as problem:
            reason = problem.strerror or str(problem)
            raise UnreadableFileError(f"can't read {path}: {reason}", fix="check the path") from problem
        return self.load_text(text, path=str(path), directory=path.parent)

    def load_text(self, text: str | bytes, *, path: str, directory: Path) -> Definition:
        """Load a flow from its text; ``file:`` paths in it start at ``directory``.

        Raises:
            InvalidFlowError: the text is not a valid flow.
        """

        def read(relative: str) -> bytes:
            target = (directory / relative).resolve()
            if not target.is_relative_to(directory.resolve()):
                raise OSError(f"{relative} leads out of the flow's directory")
            return read_file(target, limit=MAX_FILE)

        return load(text, path=path, registry=self.registry, catalogue=self.catalogue, read=read)

    def load_stored(self, text: str | bytes, files: dict[str, str], *, path: str) -> Definition:
        """Load a version that the store has kept, with the files it had then.

        It is read once, and then the same for every run.
        """
        return _stored(self, text, tuple(sorted(files.items())), path)


@lru_cache(maxsize=STORED)
def _stored(language: Language, text: str | bytes, files: tuple[tuple[str, str], ...], path: str) -> Definition:
    by_name = dict(files)

    def read(relative: str) -> bytes:
        try:
            return by_name[relative].encode()
        except KeyError:
            raise FileNotFoundError(relative) from None

    return load(text, path=path, registry=language.registry, catalogue=language.catalogue, read=read)

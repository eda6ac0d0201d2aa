"""A YAML document as plain JSON values, and where each of them stands in the text."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flows.values import Json

Path = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A place in the text; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, kw_only=True)
class Defect:
    """A problem of the text, before the file's name is known; as :class:`flows.errors.Problem`."""

    mark: Mark
    code: str
    message: str
    fix: str


@dataclass(frozen=True, kw_only=True)
class Scalar:
    """Where a value begins; ``style`` is its quote, ``|``, ``>`` or nothing; ``raw_index`` counts characters from 0."""

    mark: Mark
    style: str
    raw_index: int


@dataclass(kw_only=True)
class Document:
    """The value of the text, and where each part of it stands.

    ``complete`` says that all of the text was read, so that ``value`` is all of it; there may be ``defects`` even so.
    """

    text: str
    complete: bool = False
    value: Json = None
    defects: list[Defect] = field(default_factory=list)
    keys: dict[Path, Mark] = field(default_factory=dict)
    values: dict[Path, Scalar] = field(default_factory=dict)

    def key_mark(self, path: Path) -> Mark:
        """Where the key of that path stands; of the nearest part above where it isn't in the text."""
        for length in range(len(path), 0, -1):
            part = path[:length]
            if part in self.keys:
                return self.keys[part]
            if part in self.values:
                return self.values[part].mark
        return self.values[()].mark if () in self.values else Mark(line=1, column=1)

    def value_mark(self, path: Path) -> Mark:
        """Where the value of that path begins; as ``key_mark`` where it isn't in the text."""
        return self.values[path].mark if path in self.values else self.key_mark(path)

    def offset_mark(self, path: Path, value: str, offset: int) -> Mark:
        """Where the character ``offset`` of the text ``value`` at that path stands.

        Exact for block text (``|``) and for text on one line without escapes; elsewhere the start of the value.
        """
        scalar = self.values.get(path)
        if scalar is None:
            return self.key_mark(path)
        line, column = value.count("\n", 0, offset), offset - (value.rfind("\n", 0, offset) + 1)
        if scalar.style == "|":
            lines = self.text.split("\n", scalar.mark.line + line + 1)
            row = scalar.mark.line + line
            if row < len(lines):
                start = value.rfind("\n", 0, offset) + 1
                end = value.find("\n", offset)
                content = value[start : len(value) if end < 0 else end]
                indent = lines[row].find(content)
                return Mark(line=row + 1, column=max(indent, 0) + column + 1)
        quote = 0 if not scalar.style else 1
        begin = scalar.raw_index + quote
        if line == 0 and self.text.startswith(value.split("\n", 1)[0][: offset + 1], begin):
            return Mark(line=scalar.mark.line, column=scalar.mark.column + quote + column)
        return scalar.mark


def value_at(value: Json, path: Path) -> Json:
    """The part of a JSON value at that path.

    Raises:
        KeyError: there is nothing at that path.
    """
    for part in path:
        value = member(value, part)
    return value


def member(value: Json, part: str | int) -> Json:
    """One member of a mapping, by key, or of a list, by position.

    Raises:
        KeyError: there is no such member.
    """
    if isinstance(value, Mapping) and part in value:
        return value[part]
    if isinstance(value, list) and isinstance(part, int) and 0 <= part < len(value):
        return value[part]
    raise KeyError(part)

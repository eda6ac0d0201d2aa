"""Files as rows: CSV, TSV, JSON (a list of objects), JSON lines and Parquet.

Whatever the format, a row is an object of JSON values with the file's columns in their order:

- An empty cell is null, and so is NaN or an infinity, which JSON can't say.
- In text formats a column is numbers where all its cells are (``NA``, ``N/A``, ``NaN``, ``null``, ``NULL`` and ``None``
  beside numbers are null), booleans where all are ``true`` or ``false``, else text as it stands. Numbers with leading
  zeros are text: they are ids.
- An integer beyond ±(2⁵³-1), which JavaScript would round, is given as text: exact. In CSV its whole column is.
- Dates and times are ISO 8601 text; bytes are base64; decimals are text.
"""

import base64
import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final

from flows.values import Json
from steps.tools.content import Format
from steps.tools.contract import ToolError

MAX_INTEGER: Final = 2**53 - 1

_ENDINGS: Final[Mapping[str, Format]] = {
    "csv": "csv",
    "tsv": "tsv",
    "tab": "tsv",
    "json": "json",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
    "pq": "parquet",
}
_TEXT_ENDINGS: Final = frozenset(
    {"txt", "md", "log", "html", "xml", "yaml", "yml", "toml", "ini", "py", "js", "ts", "sh", "sql", "lock", "mod"}
)
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER: Final = re.compile(r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_MISSING: Final = frozenset({"NA", "N/A", "NaN", "nan", "null", "NULL", "None"})
_BOOLEANS: Final = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}
_SNIFFED_LINES: Final = 50


class UnreadableFileError(ToolError):
    """The file isn't what its format says; the message says where."""

    code = "unreadable_file"


@dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of a file, by column. All columns are of the same length."""

    columns: Mapping[str, Sequence[Json]]
    length: int

    def rows(self, columns: Sequence[str], offset: int, limit: int | None) -> list[dict[str, Json]]:
        """Some columns of some rows."""
        end = self.length if limit is None else min(self.length, offset + limit)
        if not columns:
            return [{} for _ in range(offset, end)]
        chosen = [self.columns[name][offset:end] for name in columns]
        return [dict(zip(columns, values, strict=True)) for values in zip(*chosen, strict=True)]


def format_of(name: str, content: bytes) -> Format:
    """What a file is, by the ending of its name; by its content where that tells nothing."""
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    if content.startswith(b"PAR1") and content.endswith(b"PAR1"):
        return "parquet"
    text = decode(content)
    if text is None:
        return "binary"
    return "text" if ending in _TEXT_ENDINGS else _sniff(text)


def decode(content: bytes) -> str | None:
    """The text of UTF-8, without a byte order mark; None where it is none."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def read(name: str, format_: Format, content: bytes) -> Table | None:
    """The rows of a tabular file; None where it has none.

    Raises:
        UnreadableFileError: the content isn't of that format.
    """
    match format_:
        case "csv" | "tsv":
            return _read_csv(name, _text(name, content), "\t" if format_ == "tsv" else None)
        case "json":
            return _read_json(name, _text(name, content))
        case "jsonl":
            return _read_json_lines(name, _text(name, content))
        case "parquet":
            return _read_parquet(name, content)
        case "text" | "binary":
            return None


def _sniff(text: str) -> Format:
    stripped = text.lstrip()
    if stripped.startswith("["):
        return "json" if _is_json(text) else "text"
    lines = [line for line in text.splitlines()[:_SNIFFED_LINES] if line.strip()]
    if stripped.startswith("{"):
        if lines and all(_is_json(line) for line in lines):
            return "jsonl" if len(lines) > 1 else "json"
        return "json" if _is_json(text) else "text"
    delimiters: tuple[tuple[str, Format], ...] = ((",", "csv"), ("\t", "tsv"), (";", "csv"))
    for delimiter, format_ in delimiters:
        widths = {len(row) for row in csv.reader(lines, delimiter=delimiter)}
        if len(lines) > 1 and len(widths) == 1 and widths.pop() > 1:
            return format_
    return "text"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _text(name: str, content: bytes) -> str:
    text = decode(content)
    if text is None:
        raise UnreadableFileError(f"{name} isn't UTF-8 text", fix="save it as UTF-8 and import it again")
    return text


def _read_csv(name: str, text: str, delimiter: str | None) -> Table:
    first = text.partition("\n")[0]
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter or max(",;\t|", key=first.count), strict=True
    )
    try:
        header = next(reader, [])
        cells = [row for row in reader if row]
    except csv.Error as error:
        raise UnreadableFileError(
            f"{name}, line {reader.line_num}: {error}", fix="check the quotes of that line"
        ) from None
    names = _column_names(header)
    width = len(names)
    for number, row in enumerate(cells, 2):
        if len(row) > width:
            raise UnreadableFileError(
                f"{name}, row {number}: {len(row)} cells under {width} columns", fix="quote cells that contain a comma"
            )
        if len(row) < width:
            row.extend("" for _ in range(width - len(row)))
    columns = list(zip(*cells, strict=True)) if cells else [()] * width
    return Table(
        columns={column: _typed(values) for column, values in zip(names, columns, strict=True)}, length=len(cells)
    )


def _column_names(header: Sequence[str]) -> list[str]:
    names: dict[str, None] = {}
    for number, cell in enumerate(header, 1):
        wanted = name = cell.strip() or f"column_{number}"
        copy = 1
        while name in names:
            copy += 1
            name = f"{wanted}_{copy}"
        names[name] = None
    return list(names)


def _typed(cells: Sequence[str]) -> Sequence[Json]:
    """The cells of one column as values of one type."""
    present = [cell for cell in cells if cell and cell not in _MISSING]
    if not present:
        return [None] * len(cells)
    if all(map(_INTEGER.fullmatch, present)):
        if len(max(present, key=len)) < 16 or max(abs(int(cell)) for cell in present) <= MAX_INTEGER:  # noqa: PLR2004
            return _converted(cells, int)
    elif all(map(_NUMBER.fullmatch, present)):
        return _converted(cells, _float)
    elif all(cell in _BOOLEANS for cell in present):
        return _converted(cells, _BOOLEANS.__getitem__)
    return [cell or None for cell in cells]


def _converted(cells: Sequence[str], convert: Callable[[str], Json]) -> list[Json]:
    return [convert(cell) if cell and cell not in _MISSING else None for cell in cells]


def _float(cell: str) -> float | None:
    value = float(cell)
    return value if math.isfinite(value) else None


def _read_json(name: str, text: str) -> Table | None:
    value = _parse_json(name, text, 0)
    if not isinstance(value, list) or not value or not all(isinstance(row, dict) for row in value):
        return None
    return _from_objects(value)


def _read_json_lines(name: str, text: str) -> Table:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            row = _parse_json(name, line, number)
            if not isinstance(row, dict):
                raise UnreadableFileError(f"{name}, line {number}: not an object", fix="write one JSON object a line")
            rows.append(row)
    return _from_objects(rows)


def _parse_json(name: str, text: str, line: int) -> Json:
    try:
        return json.loads(text, parse_constant=lambda _: None, parse_float=_float)
    except json.JSONDecodeError as error:
        place = f"line {line or error.lineno}, column {error.colno}"
        raise UnreadableFileError(f"{name}, {place}: {error.msg}", fix="correct the JSON there") from None
    except ValueError as error:
        raise UnreadableFileError(f"{name}: {error}", fix="correct the JSON") from None
    except RecursionError:
        raise UnreadableFileError(f"{name} is nested too deeply", fix="flatten it") from None


def _from_objects(rows: Iterable[Mapping[str, Json]]) -> Table:
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return Table(columns={name: [exact(row.get(name)) for row in rows] for name in names}, length=len(rows))


def _read_parquet(name: str, content: bytes) -> Table:
    import pyarrow as pa  # noqa: PLC0415 - heavy, and only Parquet needs it
    import pyarrow.parquet as pq  # noqa: PLC0415 - the same

    try:
        table = pq.read_table(pa.BufferReader(content))
        columns = {
            column: [exact(value) for value in table.column(number).to_pylist()]
            for number, column in enumerate(_column_names(table.column_names))
        }
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UnreadableFileError(f"{name} can't be read as Parquet: {error}", fix="write the file again") from None
    return Table(columns=columns, length=table.num_rows)


def exact(value: object) -> Json:
    """A value as JSON that every language reads back the same; see the module's text."""
    match value:
        case int() if not isinstance(value, bool):
            result: Json = value if abs(value) <= MAX_INTEGER else str(value)
        case float():
            result = value if math.isfinite(value) else None
        case Mapping():
            result = {str(name): exact(inner) for name, inner in value.items()}
        case list() | tuple():
            result = [exact(inner) for inner in value]
        case datetime() | date() | time():
            result = value.isoformat()
        case timedelta():
            result = value.total_seconds()
        case bytes():
            result = base64.b64encode(value).decode()
        case None | bool():
            result = value
        case _:
            result = str(value)
    return result

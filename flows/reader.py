"""YAML text to plain JSON values, each with its place in the text.

Strict YAML 1.2 (core schema) over ruamel.yaml's event stream. Everything is bounded: size of the text, depth, number
of nodes (aliases count as what they stand for) and length of a scalar. All problems that don't hide the rest are
collected; a syntax error ends the reading.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from flows.document import Defect, Document, Mark, Path, Scalar
from flows.values import Json

MAX_TEXT = 1_000_000
"""Bytes of one flow."""
MAX_DEPTH = 50
MAX_NODES = 50_000
MAX_SCALAR = 200_000
"""Characters of one value."""
_MAX_KEY = 200
_MAX_INTEGER = 2**63

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_JSON = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.nan|\.NaN|\.NAN")

_SYNTAX_FIXES = (
    ("\\t", "indent with spaces, not tabs"),
    ("mapping values are not allowed", "put the value in quotes if it contains `: `, or check the indentation"),
    ("cannot start any token", "put the value in quotes"),
    ("could not find expected ':'", "write `key: value`, or check the indentation"),
    ("block end", "align this line with its siblings"),
    ("block mapping", "align this line with its siblings"),
    ("unexpected end of stream", "close the quote"),
    ("unknown escape", "use single quotes, in which a backslash stands for itself"),
)


@dataclass(kw_only=True)
class _Frame:
    kind: Literal["mapping", "sequence"]
    path: Path
    container: Any
    role: Literal["value", "key", "dropped"]
    key: str | None = None
    awaits_value: bool = False


class _Stop(Exception):  # noqa: N818 - ends the reading, isn't an error
    """Nothing more can be read."""


def read_document(text: bytes | str) -> Document:
    """Read one YAML document. Never raises for what is in the text: see ``defects``."""
    document = Document(text="")
    if len(text) > MAX_TEXT:
        return _unreadable(document, "too_large", f"the flow is larger than {MAX_TEXT:,} bytes", "split the flow")
    if isinstance(text, bytes):
        try:
            document.text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            before = text[: error.start].decode("utf-8", "replace")
            return _unreadable(
                document,
                "invalid_utf8",
                f"byte 0x{text[error.start]:02x} is not UTF-8",
                "save the file as UTF-8",
                mark=_end_of(before),
            )
    else:
        document.text = text
    document.text = document.text.removeprefix("\ufeff")
    if match := _FORBIDDEN.search(document.text):
        return _unreadable(
            document,
            "control_character",
            f"character U+{ord(match[0]):04X} is not allowed in YAML",
            "remove it",
            mark=_end_of(document.text[: match.start()]),
        )
    _Reader(document).read()
    return document


def _unreadable(document: Document, code: str, message: str, fix: str, *, mark: Mark | None = None) -> Document:
    document.defects.append(Defect(mark=mark or Mark(line=1, column=1), code=code, message=message, fix=fix))
    return document


def _end_of(before: str) -> Mark:
    return Mark(line=before.count("\n") + 1, column=len(before) - before.rfind("\n"))


class _Reader:
    """Builds the value from the events, without recursion."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._stack: list[_Frame] = []
        self._nodes = 0
        self._documents = 0
        self._recordings: dict[str, list[Event]] = {}
        self._open: list[tuple[str, int, list[Event]]] = []

    def read(self) -> None:
        try:
            for event in YAML(typ="safe", pure=True).parse(self._document.text):
                self._handle(event)
            self._document.complete = self._nodes > 0
        except _Stop:
            pass
        except MarkedYAMLError as error:
            self._syntax_error(error)
        except Exception as error:  # noqa: BLE001 - ruamel raises bare ValueError, OverflowError, … on some bad escapes
            self._defect(self._last_mark(), "yaml_syntax", f"the text is not YAML: {error}", "check the escapes here")
        if not self._document.defects and self._document.value is None:
            self._document.complete = False
            self._defect(Mark(line=1, column=1), "empty", "the flow is empty", "begin with `flow: <name>` and `steps:`")

    def _last_mark(self) -> Mark:
        marks = self._document.values.values()
        return max((scalar.mark for scalar in marks), key=lambda mark: (mark.line, mark.column), default=_end_of(""))

    def _syntax_error(self, error: MarkedYAMLError) -> None:
        problem = str(error.problem or error.context or "the text is not YAML")
        at = error.problem_mark or error.context_mark
        mark = Mark(line=at.line + 1, column=at.column + 1) if at is not None else Mark(line=1, column=1)
        lines = self._document.text.split("\n", mark.line)
        line = lines[mark.line - 1] if mark.line <= len(lines) else ""
        fix = next((fix for part, fix in _SYNTAX_FIXES if part in problem), "check the quotes and the indentation here")
        if "${{" in line:
            fix = 'put quotes around an expression: "${{ … }}", inside { } or [ ] and where it holds `: `'
        self._defect(mark, "yaml_syntax", f"the text is not YAML: {problem[:200]}", fix)

    def _defect(self, mark: Mark, code: str, message: str, fix: str) -> None:
        self._document.defects.append(Defect(mark=mark, code=code, message=message, fix=fix))
        if len(self._document.defects) >= 100:  # noqa: PLR2004 - nobody reads more at once
            raise _Stop

    def _handle(self, event: Event) -> None:
        if isinstance(event, DocumentStartEvent):
            self._start_document(event)
        elif isinstance(event, AliasEvent):
            self._alias(event)
        elif isinstance(event, ScalarEvent | SequenceStartEvent | MappingStartEvent):
            if event.anchor is not None:
                self._open.append((str(event.anchor), len(self._stack), []))
            self._node(event)
        elif isinstance(event, SequenceEndEvent | MappingEndEvent):
            self._end(event)

    def _start_document(self, event: DocumentStartEvent) -> None:
        self._documents += 1
        mark = _mark(event)
        if self._documents > 1:
            self._defect(mark, "several_documents", "there is a second document", "keep one flow per file")
            raise _Stop
        if event.version is not None and tuple(event.version) != (1, 2):
            self._defect(mark, "yaml_version", "flows are YAML 1.2", "remove the %YAML line")

    def _alias(self, event: AliasEvent) -> None:
        name = str(event.anchor)
        recording = self._recordings.get(name)
        if recording is None:
            self._defect(_mark(event), "unknown_alias", f"`*{name[:50]}` stands for nothing", f"define `&{name[:50]}`")
            raise _Stop
        for recorded in list(recording):
            if isinstance(recorded, SequenceEndEvent | MappingEndEvent):
                self._end(recorded)
            else:
                self._node(recorded)

    def _record(self, event: Event) -> None:
        for _name, _depth, events in self._open:
            events.append(event)
        while self._open and self._open[-1][1] == len(self._stack):
            name, _depth, events = self._open.pop()
            self._recordings[name] = events

    def _node(self, event: Event) -> None:
        mark = _mark(event)
        self._nodes += 1
        if self._nodes > MAX_NODES:
            fix = "split the flow, or use fewer aliases"
            self._defect(mark, "too_many_nodes", f"the flow has more than {MAX_NODES:,} values", fix)
            raise _Stop
        tag = getattr(event, "tag", None)
        if tag is not None and str(tag) != "!":
            self._defect(mark, "tag", f"the tag `{str(tag)[:50]}` is not allowed", "remove it")
        path, role = self._place(event, mark)
        if isinstance(event, ScalarEvent):
            self._scalar(event, mark, path, role)
            self._record(event)
            return
        if len(self._stack) >= MAX_DEPTH:
            self._defect(mark, "too_deep", f"the flow is nested deeper than {MAX_DEPTH} levels", "flatten it")
            raise _Stop
        mapping = isinstance(event, MappingStartEvent)
        container: Any = {} if mapping else []
        if role == "value":
            self._document.values[path] = Scalar(mark=mark, style="", raw_index=-1)
            self._store(path, container)
        for _name, _depth, events in self._open:
            events.append(event)
        self._stack.append(_Frame(kind="mapping" if mapping else "sequence", path=path, container=container, role=role))

    def _place(self, event: Event, mark: Mark) -> tuple[Path, Literal["value", "key", "dropped"]]:
        """The path of the node that begins, and what it is to its parent."""
        if not self._stack:
            return (), "value"
        parent = self._stack[-1]
        is_key = parent.kind == "mapping" and not parent.awaits_value
        parent.awaits_value = is_key
        if parent.role != "value":
            return parent.path, "dropped"
        if parent.kind == "sequence":
            return (*parent.path, len(parent.container)), "value"
        if is_key:
            parent.key = None
            if isinstance(event, ScalarEvent):
                return parent.path, "key"
            self._defect(mark, "invalid_key", "a key must be text", "write a plain word before the colon")
        return ((*parent.path, parent.key), "value") if parent.key is not None else (parent.path, "dropped")

    def _scalar(self, event: ScalarEvent, mark: Mark, path: Path, role: str) -> None:
        if role == "dropped":
            return
        text = event.value
        if len(text) > MAX_SCALAR:
            self._defect(
                mark,
                "scalar_too_long",
                f"a value is longer than {MAX_SCALAR:,} characters",
                "keep code in a file beside the flow, and data in a file that a tool reads",
            )
            text = ""
        if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
            self._defect(
                mark, "control_character", "a value contains a character that is not text", "remove the escape"
            )
            text = ""
        plain = event.style in {None, ""}
        if role == "key":
            self._key(text, mark, plain=plain)
            return
        value = self._resolve(text, mark) if plain else text
        style = "" if plain else str(event.style)
        if plain and not text:
            mark = self._document.keys.get(path, mark)
        self._document.values[path] = Scalar(mark=mark, style=style, raw_index=event.start_mark.index)
        self._store(path, value)

    def _key(self, text: str, mark: Mark, *, plain: bool) -> None:
        parent = self._stack[-1]
        if plain and text == "<<":
            self._defect(mark, "merge_key", "merge keys (`<<`) are not part of YAML 1.2", "write the keys out")
        elif plain and not isinstance(self._resolve(text, mark), str):
            self._defect(
                mark, "invalid_key", f"the key `{text[:50]}` is not text", f'write it in quotes: "{text[:50]}"'
            )
        elif len(text) > _MAX_KEY:
            self._defect(mark, "invalid_key", f"a key is longer than {_MAX_KEY} characters", "shorten it")
        elif text in parent.container:
            first = self._document.keys[(*parent.path, text)].line
            self._defect(mark, "duplicate_key", f"`{text}` is already given in line {first}", "remove one of the two")
        else:
            parent.key = text
            self._document.keys[(*parent.path, text)] = mark

    def _store(self, path: Path, value: Json) -> None:
        if not self._stack:
            self._document.value = value
        elif self._stack[-1].kind == "sequence":
            self._stack[-1].container.append(value)
        else:
            self._stack[-1].container[path[-1]] = value

    def _end(self, event: Event) -> None:
        self._stack.pop()
        self._record(event)

    def _resolve(self, text: str, mark: Mark) -> Json:
        """The value of a plain scalar in the core schema of YAML 1.2."""
        if text in _NULL:
            return None
        if text in _BOOLEAN:
            return _BOOLEAN[text]
        if _NOT_JSON.fullmatch(text):
            self._defect(mark, "invalid_number", f"`{text}` is not a JSON number", "write it in quotes if it is text")
            return None
        integer = _INTEGER.fullmatch(text)
        if not integer and not _FLOAT.fullmatch(text):
            return text
        number: int | float = _MAX_INTEGER
        if len(text) <= 40:  # noqa: PLR2004 - more digits than any number that is kept exactly
            number = int(text, 0 if text[:2] in {"0o", "0x"} else 10) if integer else float(text)
        if (integer and not -_MAX_INTEGER <= number < _MAX_INTEGER) or number in {float("inf"), float("-inf")}:
            self._defect(
                mark, "invalid_number", f"the number `{text[:50]}` is too large", "write it in quotes, as text"
            )
            return None
        return number


def _mark(event: Event) -> Mark:
    return Mark(line=event.start_mark.line + 1, column=event.start_mark.column + 1)

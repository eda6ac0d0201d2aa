"""Expressions: CEL inside ``${{ }}``, compiled once and evaluated against names.

An expression that only selects (``steps.a.result``) gives the very value, whatever its size. Any other is evaluated
by the CEL library, whose results become JSON: a timestamp is RFC 3339 text, a duration is text such as ``90s``, an
optional is its value or null, the keys of a map are sorted; bytes, NaN, infinities and maps with other keys than text
are errors.

What bounds an expression: its length, the nesting that the library's parser allows, how far its ``map`` macros can
multiply what they read, the length of the lists that macros read (the library's ``map`` and ``filter`` take quadratic
time), and how much it can repeat or put together. What is left is time and memory in proportion to what it reads.
"""

import math
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from flows.cel_functions import LIST_MAKERS, MAX_MADE, cel_library, functions
from flows.document import member
from flows.errors import StepboxError
from flows.references import FUNCTIONS, Analysis, analyse
from flows.selection import known_path, selected, used_names
from flows.templates import OPENING, Piece, TemplateError, condition_source, split_template
from flows.values import MAX_COMPOSED, Json, json_size, json_text

if TYPE_CHECKING:
    import cel

MAX_EXPRESSION = 4_000
"""Characters of one expression."""
MAX_NESTED_MACROS = 3
MAX_GROWTH = 1_000
_FUNCTION_FAILED = re.compile(
    r"Function '(?P<name>[^']*)' error: (?:Python function call failed: )?(?:\w+: )?(?P<reason>.*?)"
    r"(?:\. Check function arguments and their types\.)?$",
    re.DOTALL,
)
_MAX_WORK = 25_000_000
"""Of a macro, about a second: the items it reads to the power of its nesting, and once more where it makes a list."""
_MAX_SIZE = 200_000_000
"""Characters and values that an expression may come to make, at the most."""


class ExpressionError(StepboxError):
    """An expression that can't be evaluated with the values it was given."""

    code = "expression_error"


class TooLargeError(ExpressionError):
    """Expressions whose values together are larger than what they are for may be."""

    code = "too_large"


class ExpressionSyntaxError(ValueError):
    """An expression that isn't CEL; ``offset`` counts characters from 0, ``fix`` says what to write."""

    def __init__(self, message: str, *, offset: int = 0, fix: str) -> None:
        super().__init__(message)
        self.offset = offset
        self.fix = fix


def resolve(value: Json, names: Mapping[str, Json]) -> Json:
    """Replace every expression in a JSON value, at any depth.

    An expression that is the whole of a text gives its value as it is; inside other text, texts are inserted as they
    are and everything else as compact JSON (``null``, ``true``, ``1.5``, ``[1,2]``). ``$${{`` becomes ``${{``.

    Raises:
        TooLargeError: the values of all expressions together have more than ``MAX_COMPOSED`` bytes of JSON.
        ExpressionError: an expression can't be evaluated; the message names it.
    """
    return _resolve(value, names, _Room())


def condition(text: str | bool, names: Mapping[str, Json]) -> bool:  # noqa: FBT001 - `if: true` is a condition too
    """Whether a condition holds: bare CEL, or ``${{ }}`` around all of it.

    Raises:
        ExpressionError: it can't be evaluated, or gives something other than true or false.
    """
    if isinstance(text, bool):
        return text
    try:
        source = condition_source(text).text
    except TemplateError as error:
        raise ExpressionError(f"`{text[:200]}`: {error}", fix=error.fix) from None
    result = evaluate(source, names)
    if not isinstance(result, bool):
        fix = "compare it with something: `x == 1`, `x != null`, `size(x) > 0`"
        raise ExpressionError(f"`{_shown(source)}` gives {_kind(result)}, not true or false", fix=fix)
    return result


def root_names(text: str) -> frozenset[str]:
    """The names (``inputs``, ``steps``, …) that the expressions in a valid text begin with."""
    expressions = (piece.text for piece in split_template(text) if piece.expression)
    paths = (reference.path for source in expressions for reference in check_expression(source).references)
    return frozenset(str(path[0]) for path in paths)


def evaluate(source: str, names: Mapping[str, Json]) -> Json:
    """The value of one CEL expression, without braces.

    Raises:
        ExpressionError: it isn't CEL, or can't be evaluated with these names; the message names it.
    """
    try:
        analysis = check_expression(source)
    except ExpressionSyntaxError as error:
        raise ExpressionError(f"`{_shown(source)}`: {error}", fix=error.fix) from None
    if analysis.path is not None and (path := known_path(analysis.path, names)) is not None:
        return _select(source, path, names)
    used = used_names(analysis, names)
    try:
        limit = _item_limit(analysis, used)
        return _plain(_program(source).execute(cel_library().Context(used, dict(functions(limit)))))
    except ExpressionError as error:
        raise ExpressionError(f"`{_shown(source)}`: {error.message}", fix=error.fix) from None
    except Exception as error:  # noqa: BLE001 - the library raises built-in errors of many kinds
        message, fix = _explain(error)
        raise ExpressionError(f"`{_shown(source)}`: {message}", fix=fix) from None


@lru_cache(maxsize=1024)
def check_expression(source: str) -> Analysis:
    """Find out whether one expression, without braces, is CEL that may be evaluated here; what it refers to.

    Raises:
        ExpressionSyntaxError: it isn't; the message and ``fix`` say why.
    """
    if len(source) > MAX_EXPRESSION:
        message = f"the expression is longer than {MAX_EXPRESSION:,} characters"
        raise ExpressionSyntaxError(message, fix="do the work in a code step")
    try:
        analysis = analyse(source)
    except TemplateError as error:
        raise ExpressionSyntaxError(str(error), offset=error.offset, fix=error.fix) from None
    if analysis.nesting > MAX_NESTED_MACROS or analysis.growth > MAX_GROWTH:
        raise ExpressionSyntaxError("the macros of the expression do too much", fix="do the work in a code step")
    if analysis.path is None:
        _program(source)
    return analysis


@lru_cache(maxsize=512)
def _program(source: str) -> "cel.Program":
    try:
        program: cel.Program = cel_library().compile(source)
    except Exception as error:  # noqa: BLE001 - the library raises built-in errors of many kinds
        lines = str(error).splitlines()
        first = lines[0].partition("ERROR: <input>:")[2] if lines else ""
        place, _, reason = first.partition(": ")
        row, _, column = place.partition(":")
        offset = 0
        if row.isdigit() and column.isdigit():
            before = source.split("\n")[: int(row) - 1]
            offset = min(sum(len(line) + 1 for line in before) + int(column) - 1, len(source))
        if "Recursion limit" in reason:
            raise ExpressionSyntaxError(
                "the expression is nested too deeply", offset=offset, fix="do the work in a code step"
            ) from None
        reason = reason.removeprefix("Syntax error: ").partition(" expecting ")[0] or "it is not CEL"
        raise ExpressionSyntaxError(f"not CEL: {reason[:200]}", offset=offset, fix="correct the expression") from None
    return program


class _Room:
    """How many bytes of JSON may still be put together."""

    def __init__(self) -> None:
        self._left = MAX_COMPOSED

    def take(self, value: Json, source: str) -> Json:
        self._left -= json_size(value)
        if self._left < 0:
            raise TooLargeError(
                f"`{_shown(source)}`: with this value there would be more than {MAX_COMPOSED:,} bytes of JSON",
                fix="pass on only what is needed, or let a tool keep what is large",
            )
        return value


def _resolve(value: Json, names: Mapping[str, Json], room: _Room) -> Json:
    if isinstance(value, str):
        return _resolve_text(value, names, room) if OPENING in value else value
    if isinstance(value, list):
        return [_resolve(item, names, room) for item in value]
    if isinstance(value, dict):
        return {key: _resolve(item, names, room) for key, item in value.items()}
    return value


def _resolve_text(text: str, names: Mapping[str, Json], room: _Room) -> Json:
    try:
        pieces = _pieces(text)
    except TemplateError as error:
        raise ExpressionError(f"`{text[:200]}`: {error}", fix=error.fix) from None
    if len(pieces) == 1 and pieces[0].expression:
        return room.take(evaluate(pieces[0].text, names), pieces[0].text)
    parts = (
        room.take(_inserted(evaluate(piece.text, names)), piece.text) if piece.expression else piece.text
        for piece in pieces
    )
    return "".join(parts)


@lru_cache(maxsize=1024)
def _pieces(text: str) -> tuple[Piece, ...]:
    return tuple(split_template(text))


def _inserted(value: Json) -> str:
    return value if isinstance(value, str) else json_text(value)


def _select(source: str, path: tuple[str | int, ...], names: Mapping[str, Json]) -> Json:
    value: Json = names
    for depth, part in enumerate(path):
        try:
            value = member(value, part)
        except KeyError:
            before = _path_text(path[:depth])
            what = f"`{before}` is {_kind(value)} and has no `{part}`" if depth else f"there is no `{part}` here"
            fix = f"check the name, or ask first: `has({_path_text(path[: depth + 1])}) ? … : …`"
            raise ExpressionError(f"`{_shown(source)}`: {what}", fix=fix) from None
    return value


def _path_text(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _plain(value: Any) -> Json:
    """A value of the CEL library as JSON."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ExpressionError("the keys of a map must be text", fix="write `string(key)`")
        return {key: _plain(value[key]) for key in sorted(value)}
    return _scalar(value)


def _scalar(value: Any) -> Json:
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpressionError("the result is not a finite number", fix="check for zero before dividing")
    if isinstance(value, bytes):
        raise ExpressionError("the result is bytes, which JSON doesn't have", fix="write `base64.encode(x)`")
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return f"{value.total_seconds():f}".rstrip("0").rstrip(".") + "s"
    if isinstance(value, cel_library().OptionalValue):
        return _plain(value.value()) if value.has_value() else None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ExpressionError(f"the result is of the type {type(value).__name__}", fix="convert it, such as by `string(x)`")


_EXPLANATIONS = (
    (IndexError, "there is no item at that index", "check `size(x)` first"),
    (ZeroDivisionError, "division by zero", "check for zero first: `y == 0 ? null : x / y`"),
    (OverflowError, "a number is too large for 64 bits", "write `double(x)`, or keep it as text"),
    (
        TypeError,
        "the operation doesn't fit the types of its values",
        "where whole numbers meet decimal ones write `double(x)`; where they meet text write `string(x)`",
    ),
)


def _explain(error: Exception) -> tuple[str, str]:
    """The library's error in plain words, and the fix."""
    text = str(error)
    if isinstance(error, KeyError):
        name = str(error.args[0]).strip("'") if error.args else "?"
        return f"there is no `{name}`", "check the name, or ask first: `has(x.name) ? x.name : null`"
    if "Undefined variable or function" in text:
        name = text.partition("'")[2].partition("'")[0]
        if name in FUNCTIONS:
            return f"`{name}` doesn't take a value of this type", "check the types of what it is called with"
        return f"there is no `{name}` here", "check the name"
    if match := _FUNCTION_FAILED.match(text):
        return f"`{match['name']}` failed: {match['reason']}", "check what it is called with"
    for kind, message, fix in _EXPLANATIONS:
        if isinstance(error, kind):
            return message, fix
    return text.partition("\n")[0][:300], "check the values that the expression reads"


def _kind(value: Json) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    names = ((str, "text"), (int | float, "a number"), (list, "a list"))
    return next((name for kind, name in names if isinstance(value, kind)), "a mapping")


def _shown(source: str) -> str:
    text = " ".join(source.split())
    return text if len(text) <= 200 else text[:200] + "…"  # noqa: PLR2004 - enough to find it again


def _item_limit(analysis: Analysis, used: Mapping[str, Json]) -> int:
    """How many items a list may have that a macro of the expression reads.

    Raises:
        ExpressionError: what the expression reads is too much for what it does with it.
    """
    if analysis.additions and analysis.additions * _size(used) > _MAX_SIZE:
        raise ExpressionError("it would put too much together", fix="do the work in a code step")
    if not analysis.nesting:
        return MAX_MADE
    limit = int(_MAX_WORK ** (1 / (analysis.nesting + analysis.collects)))
    longest = max(analysis.literal, _longest(used)) * analysis.sums
    if longest > limit:
        message = f"its macros read up to {limit:,} items here, but a list has {longest:,}"
        raise ExpressionError(message, fix="do the work in a code step")
    if any(call.name in LIST_MAKERS for call in analysis.calls):
        longest = limit
    repeated = sum(_size(selected(used, reference.path)) for reference in analysis.repeated)
    if repeated * longest**analysis.nesting > _MAX_SIZE:
        raise ExpressionError("it would repeat too much for each item", fix="do the work in a code step")
    return limit


def _longest(value: Json) -> int:
    """The length of the longest list or mapping in a value."""
    if not isinstance(value, dict | list):
        return 0
    below = value.values() if isinstance(value, dict) else value
    return max(len(value), max([_longest(each) for each in below if isinstance(each, dict | list)], default=0))


def _size(value: Json) -> int:
    """The characters and values in a value."""
    if isinstance(value, str):
        return len(value)
    if not isinstance(value, dict | list):
        return 1
    below = value.values() if isinstance(value, dict) else value
    return len(value) + sum([_size(each) if isinstance(each, str | dict | list) else 1 for each in below])

"""Checks JSON that a guest sent: only what every language can say and read back exactly gets through."""

import json
import math
from typing import Any, NoReturn

from flows.values import Json

MAX_DEPTH = 200
MAX_EXACT_INTEGER = 2**53 - 1


class NotJsonError(ValueError):
    """A value that JSON can't say, or not exactly; the message names the path to it."""


def decode(data: bytes, path: str) -> Json:
    """The JSON value in ``data``; ``path`` is what error messages call it.

    Raises:
        NotJsonError: it isn't strict JSON, nests deeper than 200 levels, or holds a number or text that other
            languages can't read back exactly.
    """

    def refuse(word: str) -> NoReturn:
        raise NotJsonError(f"{path} contains {word}, which JSON has no word for; return null or text instead")

    try:
        value = json.loads(data, parse_constant=refuse)
    except NotJsonError:
        raise
    except RecursionError:
        raise NotJsonError(_too_deep(path)) from None
    except ValueError as error:
        raise NotJsonError(f"{path} is not valid JSON: {error}") from None
    if not _is_clean(value):
        _explain(value, path, 0)
    return value


def _is_clean(value: Any) -> bool:  # noqa: C901 - one case a type
    """Whether there is nothing to refuse; without the paths that an explanation needs, for there may be millions."""
    level, depth = [value], 0
    while level:
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str:
                if not (item.isascii() or _is_unicode(item)):
                    return False
            elif kind is int:
                if not -MAX_EXACT_INTEGER <= item <= MAX_EXACT_INTEGER:
                    return False
            elif kind is float:
                if not math.isfinite(item):
                    return False
            elif kind is list or kind is dict:
                if depth >= MAX_DEPTH:
                    return False
                below += item
                if kind is dict:
                    below += item.values()
        level, depth = below, depth + 1
    return True


def _too_deep(path: str) -> str:
    return f"{path} is nested deeper than {MAX_DEPTH} levels; return a flatter value"


def _explain(value: Any, path: str, depth: int) -> None:  # noqa: C901 - one case a type
    """Raises what is to be said about the first thing that is refused."""
    if depth >= MAX_DEPTH and isinstance(value, list | dict):
        raise NotJsonError(_too_deep(path))
    match value:
        case bool() | None:
            pass
        case str():
            if not _is_unicode(value):
                raise NotJsonError(f"{path} is text with half a surrogate pair; encode it as valid Unicode")
        case int():
            if abs(value) > MAX_EXACT_INTEGER:
                raise NotJsonError(
                    f"{path} is an integer beyond ±(2^53 - 1), which JSON readers round; return it as text"
                )
        case float():
            if not math.isfinite(value):
                raise NotJsonError(f"{path} is a number too large for JSON readers; return it as text")
        case list():
            for index, item in enumerate(value):
                _explain(item, f"{path}[{index}]", depth + 1)
        case dict():
            for key, item in value.items():
                _explain(key, f"a key of {path}", depth)
                _explain(item, f"{path[:400]}.{key[:100]}", depth + 1)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

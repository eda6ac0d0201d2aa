"""Turns what Python code returns, or passes to a tool, into JSON, by the rules of docs/sandbox.md."""

from __future__ import annotations

import math

from steps.sandbox.guest.json_text import dumps

# Importing `typing` alone would take longer than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


MAX_DEPTH = 200
MAX_EXACT_INTEGER = 2**53 - 1


class NotJsonError(Exception):
    """A value that JSON can't say; ``path`` leads to it: ``result.rows[3].price``."""

    code = "result_not_json"

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path} {problem}")
        self.path = path


def encode(value: Any, path: str) -> bytes:
    """The value as JSON in UTF-8.

    Raises:
        NotJsonError: it holds something that JSON can't say.
    """
    plain = _plain(value, path, 0, set())
    return dumps(plain).encode()


def _plain(value: Any, path: str, depth: int, around: set[int]) -> Any:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return _text(value, path)
    if isinstance(value, int):
        return _integer(int(value), path)
    if isinstance(value, float):
        return _number(float(value), path)
    if isinstance(value, dict | list | tuple):
        if depth >= MAX_DEPTH:
            raise NotJsonError(path, f"is nested deeper than {MAX_DEPTH} levels; return a flatter value")
        if id(value) in around:
            raise NotJsonError(path, "contains itself; return a value without cycles")
        around.add(id(value))
        if isinstance(value, dict):
            plain: Any = {
                _key(key, path): _plain(item, _child(path, key), depth + 1, around) for key, item in value.items()
            }
        else:
            plain = [_plain(item, f"{path}[{index}]", depth + 1, around) for index, item in enumerate(value)]
        around.discard(id(value))
        return plain
    return _special(value, path, depth, around)


def _child(path: str, key: Any) -> str:
    return f"{path[:400]}.{key!s:.100}"


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise NotJsonError(path, "is text with half a surrogate pair; encode it as valid Unicode") from None
    return value


def _integer(value: int, path: str) -> int:
    if abs(value) > MAX_EXACT_INTEGER:
        raise NotJsonError(path, "is an integer beyond ±(2^53 - 1), which JSON readers round; return it as text")
    return value


def _number(value: float, path: str) -> float:
    if not math.isfinite(value):
        raise NotJsonError(path, f"is {value}, which JSON has no word for; return None or text instead")
    return value


def _key(key: Any, path: str) -> str:
    if isinstance(key, str):
        return _text(key, path)
    if isinstance(key, int) and not isinstance(key, bool):
        return str(int(key))
    if type(key).__module__ == "numpy" and hasattr(key, "item"):
        return _key(key.item(), path)
    raise NotJsonError(path, f"has a key of type {type(key).__name__}; use text keys")


def _special(value: Any, path: str, depth: int, around: set[int]) -> Any:
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if any(base.__module__ == "datetime" and base.__name__ in ("date", "time") for base in kind.__mro__):
        text = value.isoformat()
        if text == "NaT":
            raise NotJsonError(path, "is NaT, no time; return None instead")
        return _text(text, path)
    if kind.__module__ == "numpy" and hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        item = value.item()
        if type(item) is not kind:
            return _plain(item, path, depth, around)
    if isinstance(value, bytes | bytearray | memoryview):
        raise NotJsonError(path, "is bytes; return text, for example base64, or write an artifact")
    if isinstance(value, set | frozenset):
        raise NotJsonError(path, "is a set; return a list, for example sorted(...)")
    raise NotJsonError(path, f"is a {name.removeprefix('builtins.')}, which JSON can't say; return {_advice(name)}")


def _advice(name: str) -> str:
    if name.startswith("pandas") and name.endswith("DataFrame"):
        return 'frame.to_dict("records")'
    if name.startswith(("pandas", "numpy")):
        return "its .tolist()"
    return "dicts, lists, text, numbers, booleans or None"

"""JSON by the C parts of the standard library alone: ``json`` brings ``re`` along, which would double a start."""

from __future__ import annotations

import _json

# Importing `typing` alone would take longer than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


_WHITESPACE = " \t\n\r"


class _Settings:
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"a {type(value).__name__} is no JSON")


_scan = _json.make_scanner(_Settings)  # type: ignore[arg-type] # any object with these attributes will do
# Neither sorted keys, nor skipped ones, nor NaN.
_FLAGS = (False, False, False)
_encode = _json.make_encoder(None, _refuse, _json.encode_basestring, None, ":", ",", *_FLAGS)


def dumps(value: Any) -> str:
    """The value as compact JSON text, with other than ASCII characters as they are.

    Raises:
        ValueError: it holds NaN or an infinity.
        TypeError: it holds something else that is no JSON.
    """
    return "".join(_encode(value, 0))


def loads(data: bytes) -> Any:
    """The value of JSON text in UTF-8.

    Raises:
        ValueError: it isn't JSON.
    """
    text = data.decode().strip(_WHITESPACE)
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("not JSON") from None
    if end != len(text):
        raise ValueError("text after the JSON")
    return value

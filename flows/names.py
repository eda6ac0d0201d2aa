"""What names may look like: ids of steps and triggers, names of flows, inputs and secrets."""

import re

from flows.contracts import Finding
from flows.document import Path
from flows.references import RESERVED

NAME = re.compile(r"[a-z][a-z0-9_]*")
MAX_NAME = 64
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def name_finding(name: str, path: Path, what: str, *, capitals: bool = False) -> Finding | None:
    """What keeps ``name`` from being the name of ``what`` ("a step"), or None.

    ``capitals`` allows what programming languages allow: capitals, and a leading underscore.
    """
    pattern = _IDENTIFIER if capitals else NAME
    at = "key" if path and path[-1] == name else "value"
    if len(name) <= MAX_NAME and pattern.fullmatch(name):
        if name not in RESERVED:
            return None
        message = f"`{name}` is a word of the expression language and can't be the name of {what}"
        return Finding(path=path, code="reserved_name", message=message, fix=f"write `{name}_`, or another name", at=at)  # type: ignore[arg-type]
    letters = "letters" if capitals else "small letters"
    message = f"`{name[:80]}` can't be the name of {what}"
    suggestion = _suggestion(name, capitals=capitals)
    fix = f"use {letters}, digits and _, begin with a letter, at most {MAX_NAME} characters" + (
        f": `{suggestion}`" if suggestion else ""
    )
    return Finding(path=path, code="invalid_name", message=message, fix=fix, at=at)  # type: ignore[arg-type]


def _suggestion(name: str, *, capitals: bool) -> str | None:
    words = re.sub(r"[^A-Za-z0-9]+", "_", name[:MAX_NAME]).strip("_")
    words = words if capitals else words.lower()
    return words if words and words[0].isalpha() and words not in RESERVED else None

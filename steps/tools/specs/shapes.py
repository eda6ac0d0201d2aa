"""Pieces that the tools' JSON Schemas share."""

from collections.abc import Mapping
from typing import Final

from flows.values import Json

ID: Final = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"}
TIME: Final = {"type": "string", "format": "date-time"}


def arguments(properties: Mapping[str, Json], *required: str) -> dict[str, Json]:
    """An object with these properties and no other."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def described(schema: Mapping[str, Json], description: str) -> dict[str, Json]:
    return {**schema, "description": description}


def an_id(description: str) -> dict[str, Json]:
    """An id that a user chose: letters, digits, dot, dash and underscore."""
    return described(ID, description)


def text(description: str, *, non_empty: bool = False) -> dict[str, Json]:
    return {"type": "string", "description": description, **({"minLength": 1} if non_empty else {})}


def page(most: int, default: int) -> dict[str, Json]:
    """``limit`` and ``offset``."""
    return {
        "limit": {
            "type": "integer",
            "minimum": 1,
            "maximum": most,
            "default": default,
            "description": "How many to give at most.",
        },
        "offset": {"type": "integer", "minimum": 0, "default": 0, "description": "How many to leave out before."},
    }

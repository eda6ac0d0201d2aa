"""Column types that give the same values back on SQLite and on PostgreSQL."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect
from sqlalchemy.types import TypeDecorator

from flows.contracts import StepError

PAYLOAD = JSON(none_as_null=True)
"""A JSON value of the user's.

On PostgreSQL it is ``json``, not ``jsonb``: what a step returned comes back as it was, the order of keys, ``1.0`` and
NUL characters included, all of which ``jsonb`` changes or refuses. Nothing queries inside a payload.
"""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, in UTC. SQLite knows no zones, so there it is kept as the naive UTC time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive time {value.isoformat()}: give it a timezone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


def encode_json(value: object) -> str:
    """Strict JSON in ASCII, so that lone surrogates and NUL characters survive both databases."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def error_to_json(error: StepError | None) -> dict[str, Any] | None:
    """The error as JSON, without the fields it doesn't have."""
    if error is None:
        return None
    fields = {
        "code": error.code,
        "message": error.message,
        "line": error.line,
        "traceback": error.traceback,
        "fix": error.fix,
    }
    return {name: value for name, value in fields.items() if value is not None}


def error_from_json(value: Mapping[str, Any] | None) -> StepError | None:
    return None if value is None else StepError(**value)


def canonical_json(value: object) -> str:
    """The one JSON text of a value: keys sorted."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"), sort_keys=True)

"""Column types that give the same values back on SQLite and on PostgreSQL."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, String, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

from flows.contracts import StepError

NAME = String().with_variant(String(collation="C"), "postgresql")
"""An id or a name that users choose, in the same order on both databases."""


class Payload(TypeDecorator[Any]):
    """A JSON value of the user's, which comes back as it was: the order of keys, ``1.0``, big integers, NUL characters.

    On PostgreSQL it is ``json``, since ``jsonb`` changes or refuses these. On SQLite it is text, since a column of the
    declared type JSON turns a lone number into an SQLite number. ``None`` is NULL.
    """

    impl = JSON(none_as_null=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else JSON(none_as_null=True))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return encode_json(value) if dialect.name == "sqlite" and value is not None else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return json.loads(value) if dialect.name == "sqlite" and value is not None else value


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

"""Value types of the language: JSON values, durations and byte sizes, and the statuses."""

import json
import re
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, WithJsonSchema

Json: TypeAlias = Any
"""A JSON value: None, bool, int, float, str, a list of them or a dict of str to them (decision 0002)."""


MAX_COMPOSED = 10_000_000
"""Bytes of JSON of what is put together from results: the inputs of a step, the list of a for-each, an output."""


def json_text(value: Json) -> str:
    """A value as compact JSON, with other than ASCII characters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def json_size(value: Json) -> int:
    """The bytes of a value as compact JSON in UTF-8: what limits of size count."""
    return len(json_text(value).encode(errors="replace"))


class StepStatus(StrEnum):
    """How far a step, or one attempt of it, has come. ``RUNNING`` goes on; all but that and ``WAITING`` are final.

    ``WAITING`` ends an attempt, which has released what it held; the step goes on by another attempt.
    """

    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    LIMIT_EXCEEDED = "limit_exceeded"
    KILLED = "killed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class RunStatus(StrEnum):
    """How far a run has come. ``SUCCEEDED``, ``FAILED`` and ``CANCELLED`` are final; ``WAITING`` is parked."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_DURATION = "(?=.)" + "".join(f"(?:{_NUMBER}{unit})?" for unit in _SECONDS)
_DURATION_PART = re.compile(r"([0-9.]+)(d|h|ms|m|s)")
MAX_DURATION = 3650 * 86400.0
"""The longest duration, in seconds: ten years."""

_BYTES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_BYTE_SIZE = r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?(B|[kKMGT]B|[KMGT]iB)"
MAX_BYTE_SIZE = 2**50
"""The largest byte size: one PiB."""


def parse_duration(value: object) -> float:
    """Seconds of ``"1h30m"``, ``"500ms"``, ``"2d"`` or of a number, which is seconds.

    Raises:
        ValueError: it isn't a duration, is negative, or is longer than ten years; the message says what to write.
    """
    if isinstance(value, str) and re.fullmatch(_DURATION, value):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if abs(value) <= MAX_DURATION else MAX_DURATION + 1
    else:
        raise ValueError("must be a duration such as 30s, 500ms, 1h30m or 2d")
    if not 0 <= seconds <= MAX_DURATION:
        raise ValueError("must be a duration between 0s and 3650d")
    return seconds


def parse_byte_size(value: object) -> int:
    """Bytes of ``"128MB"`` (decimal), ``"64MiB"`` (binary) or of a whole number, which is bytes.

    Raises:
        ValueError: it isn't a size, is negative, or is more than one PiB; the message says what to write.
    """
    if isinstance(value, str) and (match := re.fullmatch(_BYTE_SIZE, value)):
        size = round(float(match[1]) * _BYTES[match[2]])
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        raise ValueError("must be a size such as 128MB or 64MiB")
    if not 0 <= size <= MAX_BYTE_SIZE:
        raise ValueError("must be a size between 0B and 1024TiB")
    return size


Duration: TypeAlias = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": f"^{_DURATION}$"},
                {"type": "number", "minimum": 0, "maximum": MAX_DURATION},
            ],
            "examples": ["30s", "1h30m", "500ms", "2d"],
        }
    ),
]
"""A length of time, in seconds; written ``30s``, ``1h30m``, ``500ms``, ``2d`` or as a number of seconds."""

ByteSize: TypeAlias = Annotated[
    int,
    BeforeValidator(parse_byte_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": f"^{_BYTE_SIZE}$"},
                {"type": "integer", "minimum": 0, "maximum": MAX_BYTE_SIZE},
            ],
            "examples": ["128MB", "64MiB"],
        }
    ),
]
"""A number of bytes; written ``128MB`` (decimal), ``64MiB`` (binary) or as a whole number."""

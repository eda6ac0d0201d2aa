"""Value types of the language: JSON values, durations and byte sizes, and the statuses."""

from enum import StrEnum
from typing import Any, TypeAlias

Json: TypeAlias = Any
"""A JSON value: None, bool, int, float, str, a list of them or a dict of str to them (decision 0002)."""


class StepStatus(StrEnum):
    """How far a step, or one attempt of it, has come. All but ``RUNNING`` are final."""

    RUNNING = "running"
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

Duration: TypeAlias = float
ByteSize: TypeAlias = int

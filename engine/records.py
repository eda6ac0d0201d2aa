"""What the store keeps, as values: tables never leave ``engine/store/``. All times are aware, in UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from flows.contracts import Isolation, StepError
from flows.values import Json, RunStatus, StepStatus


@dataclass(frozen=True, kw_only=True)
class FlowVersion:
    """One immutable version of a flow. ``digest`` is the SHA-256 of text and files; ``files`` is text by path."""

    id: str
    workspace: str
    flow: str
    number: int
    digest: str
    text: str
    files: Mapping[str, str]
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of one flow version. ``parent_id`` is set where a subflow step started it."""

    id: str
    workspace: str
    flow: str
    flow_version_id: str
    status: RunStatus
    inputs: Mapping[str, Json]
    trigger: Mapping[str, Json] = field(default_factory=dict)
    output: Json = None
    error: StepError | None = None
    parent_id: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class StepRun:
    """One attempt of one step of a run; of one item of it where the step has ``for_each`` (``item`` counts from 0).

    ``duration`` in seconds, as the host measured it.
    """

    id: str
    run_id: str
    step_id: str
    item: int | None = None
    attempt: int
    status: StepStatus
    result: Json = None
    error: StepError | None = None
    isolation: Isolation | None = None
    duration: float = 0.0
    tool_calls: int = 0
    egress: int = 0
    started_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line of a step's output."""

    run_id: str
    step_id: str
    item: int | None = None
    attempt: int
    stream: Literal["stdout", "stderr"]
    line: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """One call of a tool. ``result`` and ``error`` are None while it is going on."""

    id: str
    run_id: str
    step_id: str
    item: int | None = None
    attempt: int
    tool: str
    arguments: Json
    result: Json = None
    error: StepError | None = None
    started_at: datetime
    ended_at: datetime | None = None

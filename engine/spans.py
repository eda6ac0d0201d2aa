"""What a trace says: the spans of runs, attempts, tool calls and requests. Nothing here knows OpenTelemetry.

Names and attributes are those of OpenTelemetry's semantic conventions where it has one
(https://opentelemetry.io/docs/specs/semconv/http/http-spans/ and ``error.type``), and ``stepbox.…`` otherwise. Inputs,
results, arguments, messages and queries are never among them: they may hold what isn't for everybody's eyes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final, Literal, TypeAlias

from engine.progress import AttemptEnded, CallEnded, Progress, RunEnded
from engine.records import Run, StepRun, ToolCall
from engine.requests import AnsweredRequest
from engine.trace_context import KEPT, TraceContext, span_id
from flows.contracts import StepError
from flows.values import StepStatus

Value: TypeAlias = str | int | bool

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})
"""Of others the convention has ``_OTHER`` and ``HTTP``, so that nobody can make up names without end."""
_WELL: Final = frozenset({StepStatus.SUCCEEDED, StepStatus.SKIPPED, StepStatus.WAITING})


@dataclass(frozen=True, kw_only=True)
class Span:
    """Something that has ended. ``parent`` is the id of the span above it, ``error`` the code of why it failed."""

    context: TraceContext
    parent: str | None
    name: str
    kind: Literal["internal", "server"] = "internal"
    began_at: datetime
    ended_at: datetime
    attributes: Mapping[str, Value | None]
    error: str | None = None


def span_of(progress: Progress, here: TraceContext) -> Span | None:
    """The span of what has ended; None of what hasn't, or has none. ``here`` is any span of its trace."""
    match progress:
        case RunEnded(run=run) if run.ended_at is not None:
            return _of_run(run, here, run.ended_at)
        case AttemptEnded(attempt=attempt) if attempt.ended_at is not None:
            return _of_attempt(attempt, here, attempt.ended_at)
        case CallEnded(call=call) if call.ended_at is not None:
            return _of_call(call, here, call.ended_at)
        case _:
            return None


def span_of_request(request: AnsweredRequest, here: TraceContext) -> Span:
    """The span of a request that was answered."""
    parent = TraceContext.parse(request.traceparent)
    known = request.method in _METHODS
    method = request.method if known else "HTTP"
    return Span(
        context=here,
        parent=None if parent is None else parent.span_id,
        name=method if request.route is None else f"{method} {request.route}",
        kind="server",
        began_at=request.came_at,
        ended_at=request.came_at + timedelta(seconds=request.seconds),
        attributes={
            "http.request.method": request.method if known else "_OTHER",
            "http.route": request.route,
            "http.response.status_code": request.status,
            "url.scheme": request.scheme,
            "url.path": request.path,
            "stepbox.request.id": request.id,
        },
        error=str(request.status) if request.status >= HTTPStatus.INTERNAL_SERVER_ERROR else None,
    )


def _of_run(run: Run, here: TraceContext, ended_at: datetime) -> Span:
    parent = TraceContext.parse(run.trigger.get(KEPT))
    trigger = run.trigger.get("trigger")
    known = trigger if isinstance(trigger, Mapping) else {}
    return Span(
        context=here.below(run.id),
        parent=None if parent is None else parent.span_id,
        name=f"run {run.flow}",
        began_at=run.started_at or run.created_at,
        ended_at=ended_at,
        attributes={
            "stepbox.run.id": run.id,
            "stepbox.run.status": run.status.value,
            "stepbox.flow": run.flow,
            "stepbox.workspace": run.workspace,
            "stepbox.trigger.kind": _text(known.get("kind")),
            "stepbox.trigger.id": _text(known.get("id")),
            "stepbox.run.parent": run.parent_id,
        },
        error=_code(run.error),
    )


def _of_attempt(attempt: StepRun, here: TraceContext, ended_at: datetime) -> Span:
    failed = attempt.status not in _WELL
    return Span(
        context=here.below(attempt.run_id, attempt.step_id, attempt.item, attempt.attempt),
        parent=span_id(attempt.run_id),
        name=f"step {attempt.step_id}",
        began_at=attempt.started_at,
        ended_at=ended_at,
        attributes={
            "stepbox.run.id": attempt.run_id,
            "stepbox.step.id": attempt.step_id,
            "stepbox.step.item": attempt.item,
            "stepbox.step.attempt": attempt.attempt,
            "stepbox.step.status": attempt.status.value,
            "stepbox.step.isolation": _text(attempt.isolation),
            "stepbox.step.image": attempt.image,
            "stepbox.step.tool_calls": attempt.tool_calls,
            "stepbox.step.egress": attempt.egress,
        },
        error=(_code(attempt.error) or attempt.status.value) if failed else None,
    )


def _of_call(call: ToolCall, here: TraceContext, ended_at: datetime) -> Span:
    return Span(
        context=here.below("call", call.id),
        parent=span_id(call.run_id, call.step_id, call.item, call.attempt),
        name=f"tool {call.tool}",
        began_at=call.started_at,
        ended_at=ended_at,
        attributes={
            "stepbox.run.id": call.run_id,
            "stepbox.step.id": call.step_id,
            "stepbox.step.item": call.item,
            "stepbox.step.attempt": call.attempt,
            "stepbox.tool": call.tool,
            "stepbox.tool_call.id": call.id,
        },
        error=_code(call.error),
    )


def _code(error: StepError | None) -> str | None:
    return None if error is None else error.code


def _text(value: object) -> str | None:
    return None if value is None else str(value)

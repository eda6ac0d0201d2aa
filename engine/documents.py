"""What the doors show of runs, flows and logs, as JSON documents."""

from datetime import datetime
from typing import TYPE_CHECKING

from engine.questions import Approval
from engine.records import (
    ArtifactRecord,
    EgressRecord,
    FlowDetail,
    FlowSummary,
    FlowVersion,
    KeyRotation,
    LogLine,
    Run,
    RunSummary,
    SecretSummary,
    StepRun,
    ToolCall,
)
from engine.report import RunReport, error_document, step_document
from engine.service import AppliedFlow, ApprovalDetail
from flows.contracts import StepResult
from flows.errors import Problem
from flows.values import Json

if TYPE_CHECKING:
    from engine.deliveries import Accepted, Delivery
    from engine.upcoming import Upcoming


def snippet_document(outcome: StepResult) -> dict[str, Json]:
    """The JSON of ``stepbox exec --output json``: a step's object with ``stdout`` and ``stderr``."""
    return {**step_document(outcome, outcome.artifacts), "stdout": outcome.stdout, "stderr": outcome.stderr}


def run_document(run: RunSummary) -> dict[str, Json]:
    """A run as listings show it: times are ISO 8601 in UTC, ``duration_ms`` null while it goes on."""
    return {
        "run_id": run.id,
        "flow": run.flow,
        "status": run.status.value,
        "principal": run.principal,
        "trigger": run.trigger.get("trigger"),
        "error": error_document(run.error),
        "parent_id": run.parent_id,
        "abandoned": run.abandoned,
        "created_at": run.created_at.isoformat(),
        "started_at": _time(run.started_at),
        "ended_at": _time(run.ended_at),
        "duration_ms": None if run.took is None else round(run.took * 1000, 3),
    }


def approval_document(one: Approval) -> dict[str, Json]:
    """A question and its decision: ``decision`` is null while nobody has decided; times are ISO 8601 in UTC."""
    return {
        "id": one.id,
        "kind": one.kind,
        "flow": one.flow,
        "run_id": one.run_id,
        "step": one.step_id or None,
        "item": one.item,
        "message": one.message,
        "details": one.details,
        "form": None if one.form is None else dict(one.form),
        "approvers": list(one.approvers),
        "own": one.own,
        "requesters": list(one.requesters),
        "requested_at": one.requested_at.isoformat(),
        "expires_at": _time(one.expires_at),
        "on_timeout": one.on_timeout,
        "decision": one.decision,
        "decided_at": _time(one.decided_at),
        "by": one.decided_by,
        "via": one.decided_via,
        "comment": one.comment,
        "values": one.form_values,
        "revoked_at": _time(one.revoked_at),
        "revoked_by": one.revoked_by,
    }


def approval_detail_document(detail: ApprovalDetail) -> dict[str, Json]:
    """A question with its notices; ``refusal`` says why who asks may not decide it."""
    notices = [
        {
            "to": one.target,
            "attempts": one.attempts,
            "sent_at": _time(one.sent_at),
            "next_at": _time(one.due_at),
            "dropped": one.dropped,
            "error": one.error,
        }
        for one in detail.notices
    ]
    return {**approval_document(detail.approval), "notices": notices, "refusal": detail.refusal}


def report_document(report: RunReport) -> dict[str, Json]:
    """A run with all that is known of it: as listings show it, and its inputs, output and steps."""
    return {**report.document(), **run_document(report.run), "inputs": dict(report.run.inputs)}


def started_document(run: Run) -> dict[str, Json]:
    """A run that was just asked for, in the same shape."""
    return report_document(RunReport(run=run, steps={}))


def attempt_document(attempt: StepRun, *, result: bool = True) -> dict[str, Json]:
    """One attempt of a step; ``attempt`` is 0 where nothing was executed: a skipped step, the sum of items."""
    document = step_document(attempt, ())
    document.pop("attempts")
    document.pop("artifacts")
    if not result:
        document.pop("result")
    return {
        "id": attempt.id,
        "step": attempt.step_id,
        "item": attempt.item,
        "attempt": attempt.attempt,
        **document,
        "image": attempt.image,
        "peak_memory": attempt.peak_memory,
        "policy": attempt.policy,
        "queued": attempt.queued,
        "started_at": attempt.started_at.isoformat(),
        "ended_at": _time(attempt.ended_at),
    }


def call_document(call: ToolCall) -> dict[str, Json]:
    """A call of a tool; ``result`` and ``error`` are null while it goes on."""
    return {
        "id": call.id,
        "step": call.step_id,
        "item": call.item,
        "attempt": call.attempt,
        "tool": call.tool,
        "arguments": call.arguments,
        "result": call.result,
        "error": error_document(call.error),
        "started_at": call.started_at.isoformat(),
        "ended_at": _time(call.ended_at),
    }


def accepted_document(accepted: "Accepted") -> dict[str, Json]:
    """An event that was sent, and what became of it so far."""
    return {
        "event": accepted.event.id,
        "key": accepted.event.key,
        "duplicate": accepted.duplicate,
        "deliveries": [
            {"flow": each.flow, "trigger": each.trigger_id, "status": each.status.value, "run": each.run_id}
            for each in accepted.deliveries
        ],
    }


def delivery_document(delivery: "Delivery") -> dict[str, Json]:
    """What became of an event at one trigger; times are ISO 8601 in UTC."""
    return {
        "id": delivery.id,
        "event": delivery.event_id,
        "flow": delivery.flow,
        "trigger": delivery.trigger_id,
        "status": delivery.status.value,
        "reason": delivery.reason,
        "error": error_document(delivery.error),
        "run": delivery.run_id,
        "attempts": delivery.attempts,
        "due_at": _time(delivery.due_at),
        "created_at": delivery.created_at.isoformat(),
        "ended_at": _time(delivery.ended_at),
    }


def event_document(accepted: "Accepted") -> dict[str, Json]:
    """An event that is kept, and what became of it; times are ISO 8601 in UTC."""
    event = accepted.event
    return {
        "id": event.id,
        "kind": event.kind,
        "origin": event.origin,
        "key": event.key,
        "data": dict(event.data),
        "causes": list(event.causes),
        "occurred_at": event.occurred_at.isoformat(),
        "received_at": event.received_at.isoformat(),
        "repeats": accepted.repeats,
        "repeated_at": _time(accepted.repeated_at),
        "deliveries": [delivery_document(each) for each in accepted.deliveries],
    }


def applied_document(applied: AppliedFlow) -> dict[str, Json]:
    """What applying a flow did, or would do."""
    return {
        "flow": applied.flow,
        "change": applied.change,
        "version": applied.version,
        "previous": applied.previous,
        "digest": applied.digest,
        "diff": applied.diff,
        "approval": applied.approval,
    }


def detail_document(detail: FlowDetail) -> dict[str, Json]:
    """A flow with its current version."""
    return {
        **version_document(detail.version),
        "state": detail.state,
        "versions": detail.versions,
        "updated_at": detail.updated_at.isoformat(),
    }


def problem_document(problem: Problem) -> dict[str, Json]:
    """A problem of a definition."""
    return {
        "file": problem.path,
        "line": problem.line,
        "column": problem.column,
        "code": problem.code,
        "message": problem.message,
        "fix": problem.fix,
    }


def flow_document(summary: FlowSummary) -> dict[str, Json]:
    """A flow as listings show it."""
    return {
        "flow": summary.flow,
        "state": summary.state,
        "version": summary.number,
        "versions": summary.versions,
        "digest": summary.digest,
        "updated_at": summary.updated_at.isoformat(),
        "last_run": None if summary.last_run is None else run_document(summary.last_run),
    }


def version_document(version: FlowVersion) -> dict[str, Json]:
    """A version of a flow, with its text and the text of its files by path."""
    return {
        "flow": version.flow,
        "version": version.number,
        "digest": version.digest,
        "created_at": version.created_at.isoformat(),
        "text": version.text,
        "files": dict(version.files),
    }


def line_document(line: LogLine) -> dict[str, Json]:
    """A line of output as listings show it; ``item`` is null outside a for-each."""
    return {
        "step": line.step_id,
        "item": line.item,
        "attempt": line.attempt,
        "stream": line.stream,
        "line": line.line,
        "at": line.at.isoformat(),
    }


def artifact_record_document(record: ArtifactRecord) -> dict[str, Json]:
    """An artifact as ``stepbox runs artifacts`` lists it; ``name`` is what ``files`` and ``runs download`` take."""
    return {
        "name": record.name,
        "step": record.step_id,
        "item": record.item,
        "attempt": record.attempt,
        "path": record.path,
        "size": record.size,
        "sha256": record.sha256,
        "media_type": record.media_type,
        "id": record.id,
        "superseded": record.superseded,
        "created_at": record.created_at.isoformat(),
    }


def egress_document(record: EgressRecord) -> dict[str, Json]:
    """A request over the network as ``stepbox runs show`` has it; ``sent`` and ``received`` null while it goes on."""
    return {
        "step": record.step_id,
        "item": record.item,
        "attempt": record.attempt,
        "host": record.host,
        "port": record.port,
        "address": record.address,
        "allowed": record.allowed,
        "reason": record.reason,
        "sent": record.sent,
        "received": record.received,
        "started_at": record.started_at.isoformat(),
        "ended_at": _time(record.ended_at),
    }


def secret_document(secret: SecretSummary) -> dict[str, Json]:
    """A secret as listings show it: never its value."""
    return {
        "name": secret.name,
        "versions": secret.versions,
        "old_until": _time(secret.old_until),
        "created_at": secret.created_at.isoformat(),
        "updated_at": secret.updated_at.isoformat(),
        "last_used_at": _time(secret.last_used_at),
    }


def key_rotation_document(rotation: KeyRotation) -> dict[str, Json]:
    """A change of the key of secrets."""
    return {"key_id": rotation.key_id, "resealed": rotation.resealed, "kept": list(rotation.kept)}


def upcoming_document(time: "Upcoming") -> dict[str, Json]:
    """A time of a schedule: ``scheduled_at`` on the clock of its zone, ``due_at`` (with its jitter) in UTC."""
    return {
        "trigger": time.trigger,
        "scheduled_at": time.scheduled_at.astimezone(time.zone).isoformat(),
        "due_at": time.due_at.isoformat(),
        "timezone": time.zone.key,
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()

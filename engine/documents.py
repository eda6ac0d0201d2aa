"""What the doors show of runs, flows and logs, as JSON documents."""

from typing import TYPE_CHECKING

from engine.records import ArtifactRecord, EgressRecord, FlowSummary, FlowVersion, LogLine, RunSummary, SecretSummary
from engine.report import error_document, step_document
from flows.contracts import StepResult
from flows.values import Json

if TYPE_CHECKING:
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
        "trigger": run.trigger.get("trigger"),
        "error": error_document(run.error),
        "parent_id": run.parent_id,
        "abandoned": run.abandoned,
        "created_at": run.created_at.isoformat(),
        "started_at": None if run.started_at is None else run.started_at.isoformat(),
        "ended_at": None if run.ended_at is None else run.ended_at.isoformat(),
        "duration_ms": None if run.took is None else round(run.took * 1000, 3),
    }


def flow_document(summary: FlowSummary) -> dict[str, Json]:
    """A flow as listings show it."""
    return {
        "flow": summary.flow,
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
        "ended_at": None if record.ended_at is None else record.ended_at.isoformat(),
    }


def secret_document(secret: SecretSummary) -> dict[str, Json]:
    """A secret as listings show it: never its value."""
    return {
        "name": secret.name,
        "versions": secret.versions,
        "created_at": secret.created_at.isoformat(),
        "updated_at": secret.updated_at.isoformat(),
        "last_used_at": None if secret.last_used_at is None else secret.last_used_at.isoformat(),
    }


def upcoming_document(time: "Upcoming") -> dict[str, Json]:
    """A time of a schedule: ``scheduled_at`` on the clock of its zone, ``due_at`` (with its jitter) in UTC."""
    return {
        "trigger": time.trigger,
        "scheduled_at": time.scheduled_at.astimezone(time.zone).isoformat(),
        "due_at": time.due_at.isoformat(),
        "timezone": time.zone.key,
    }

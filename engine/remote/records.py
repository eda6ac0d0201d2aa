"""The documents of the API as the values that they were made from (:mod:`engine.documents`)."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from engine.deliveries import Accepted, Delivery, DeliveryStatus, KeptEvent
from engine.questions import Approval, Notice
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
    StepSummary,
    ToolCall,
)
from engine.report import RunReport
from engine.service import AppliedFlow, ApprovalDetail
from flows.contracts import Artifact, StepError, StepResult
from flows.values import Json, RunStatus, StepStatus

if TYPE_CHECKING:
    from engine.upcoming import Upcoming

Document = Mapping[str, Json]

_WORKSPACE = "default"


def run_summary(one: Document) -> RunSummary:
    return RunSummary(**_run(one))


def run(one: Document) -> Run:
    return Run(**_run(one), inputs=one["inputs"], output=one["output"])


def report(one: Document) -> RunReport:
    found = run(one)
    steps = {name: _step_summary(found, name, step) for name, step in one["steps"].items()}
    return RunReport(run=found, steps=steps)


def attempt(run_id: str, one: Document) -> StepRun:
    return StepRun(
        id=one["id"],
        run_id=run_id,
        step_id=one["step"],
        item=one["item"],
        attempt=one["attempt"],
        status=StepStatus(one["status"]),
        result=one.get("result"),
        error=_error(one["error"]),
        isolation=one["isolation"],
        duration=one["duration_ms"] / 1000,
        tool_calls=one["tool_calls"],
        egress=one["egress"],
        peak_memory=one["peak_memory"],
        image=one["image"],
        policy=one["policy"],
        code_workspace=_WORKSPACE if one["queued"] else None,
        started_at=_at(one["started_at"]),
        ended_at=_time(one["ended_at"]),
    )


def line(run_id: str, one: Document) -> LogLine:
    return LogLine(
        run_id=run_id,
        step_id=one["step"],
        item=one["item"],
        attempt=one["attempt"],
        stream=one["stream"],
        line=one["line"],
        at=_at(one["at"]),
    )


def call(run_id: str, one: Document) -> ToolCall:
    return ToolCall(
        id=one["id"],
        run_id=run_id,
        step_id=one["step"],
        item=one["item"],
        attempt=one["attempt"],
        tool=one["tool"],
        arguments=one["arguments"],
        arguments_digest="",
        idempotency_key=one["id"],
        result=one["result"],
        error=_error(one["error"]),
        started_at=_at(one["started_at"]),
        ended_at=_time(one["ended_at"]),
    )


def egress(run_id: str, one: Document) -> EgressRecord:
    names = ("item", "attempt", "host", "port", "address", "allowed", "reason", "sent", "received")
    return EgressRecord(
        id="",
        run_id=run_id,
        step_id=one["step"],
        started_at=_at(one["started_at"]),
        ended_at=_time(one["ended_at"]),
        **{name: one[name] for name in names},
    )


def flow_version(one: Document) -> FlowVersion:
    return FlowVersion(
        id="",
        workspace=_WORKSPACE,
        flow=one["flow"],
        number=one["version"],
        digest=one["digest"],
        text=one["text"],
        files=one["files"],
        created_at=_at(one["created_at"]),
    )


def flow_detail(one: Document) -> FlowDetail:
    return FlowDetail(
        version=flow_version(one), versions=one["versions"], state=one["state"], updated_at=_at(one["updated_at"])
    )


def flow_summary(one: Document) -> FlowSummary:
    return FlowSummary(
        flow=one["flow"],
        workspace=_WORKSPACE,
        version_id="",
        number=one["version"],
        digest=one["digest"],
        versions=one["versions"],
        updated_at=_at(one["updated_at"]),
        state=one["state"],
        last_run=None if one["last_run"] is None else run_summary(one["last_run"]),
    )


def applied(one: Document) -> AppliedFlow:
    return AppliedFlow(
        flow=one["flow"],
        change=one["change"],
        version=one["version"],
        previous=one["previous"],
        digest=one["digest"],
        diff=one["diff"],
        approval=one["approval"],
    )


def approval(one: Document) -> Approval:
    return Approval(
        id=one["id"],
        workspace=_WORKSPACE,
        kind=one["kind"],
        flow=one["flow"],
        run_id=one["run_id"],
        step_id=one["step"] or "",
        item=one["item"],
        own=one["own"],
        requesters=tuple(one["requesters"]),
        message=one["message"],
        details=one["details"],
        form=one["form"],
        approvers=tuple(one["approvers"]),
        on_timeout=one["on_timeout"],
        requested_at=_at(one["requested_at"]),
        expires_at=_time(one["expires_at"]),
        decision=one["decision"],
        decided_at=_time(one["decided_at"]),
        decided_by=one["by"],
        decided_via=one["via"],
        comment=one["comment"],
        form_values=one["values"],
        revoked_at=_time(one["revoked_at"]),
        revoked_by=one["revoked_by"],
    )


def approval_detail(one: Document) -> ApprovalDetail:
    notices = [
        Notice(
            id=str(number),
            approval_id=one["id"],
            target=notice["to"],
            attempts=notice["attempts"],
            created_at=_at(one["requested_at"]),
            due_at=_time(notice["next_at"]),
            sent_at=_time(notice["sent_at"]),
            dropped=notice["dropped"],
            error=notice["error"],
        )
        for number, notice in enumerate(one["notices"])
    ]
    return ApprovalDetail(approval=approval(one), notices=notices, refusal=one["refusal"])


def artifact(run_id: str, one: Document) -> ArtifactRecord:
    return ArtifactRecord(
        id=one["id"],
        run_id=run_id,
        step_id=one["step"],
        item=one["item"],
        attempt=one["attempt"],
        path=one["path"],
        size=one["size"],
        sha256=one["sha256"],
        media_type=one["media_type"],
        created_at=_at(one["created_at"]),
        superseded=one["superseded"],
    )


def secret(one: Document) -> SecretSummary:
    return SecretSummary(
        name=one["name"],
        versions=one["versions"],
        old_until=_time(one["old_until"]),
        created_at=_at(one["created_at"]),
        updated_at=_at(one["updated_at"]),
        last_used_at=_time(one["last_used_at"]),
    )


def key_rotation(one: Document) -> KeyRotation:
    return KeyRotation(key_id=one["key_id"], resealed=one["resealed"], kept=tuple(one["kept"]))


def delivery(one: Document) -> Delivery:
    return Delivery(
        id=one["id"],
        event_id=one["event"],
        workspace=_WORKSPACE,
        flow=one["flow"],
        flow_version_id="",
        trigger_id=one["trigger"],
        status=DeliveryStatus(one["status"]),
        reason=one["reason"],
        error=_error(one["error"]),
        run_id=one["run"],
        attempts=one["attempts"],
        due_at=_time(one["due_at"]),
        created_at=_at(one["created_at"]),
        ended_at=_time(one["ended_at"]),
    )


def accepted(one: Document) -> Accepted:
    event = KeptEvent(
        id=one["id"],
        workspace=_WORKSPACE,
        kind=one["kind"],
        origin=one["origin"],
        key=one["key"],
        data=one["data"],
        causes=tuple(one["causes"]),
        occurred_at=_at(one["occurred_at"]),
        received_at=_at(one["received_at"]),
    )
    return Accepted(
        event=event,
        deliveries=tuple(delivery(each) for each in one["deliveries"]),
        duplicate=False,
        repeats=one["repeats"],
        repeated_at=_time(one["repeated_at"]),
    )


def snippet_result(one: Document) -> StepResult:
    return StepResult(
        status=StepStatus(one["status"]),
        result=one["result"],
        error=_error(one["error"]),
        isolation=one["isolation"],
        duration=one["duration_ms"] / 1000,
        tool_calls=one["tool_calls"],
        egress=one["egress"],
        stdout=one["stdout"],
        stderr=one["stderr"],
        artifacts=tuple(Artifact(**each) for each in one["artifacts"]),
    )


def upcoming(one: Document) -> "Upcoming":
    from engine.upcoming import Upcoming  # noqa: PLC0415 - croniter, which other commands don't need

    return Upcoming(
        trigger=one["trigger"],
        scheduled_at=_at(one["scheduled_at"]).astimezone(UTC),
        due_at=_at(one["due_at"]),
        zone=ZoneInfo(one["timezone"]),
    )


def printed(outcome: StepResult) -> Iterator[LogLine]:
    """The lines that code printed that was executed by itself: those of each stream in order."""
    now = datetime.now(UTC)
    streams: tuple[tuple[Literal["stdout", "stderr"], str], ...] = (
        ("stdout", outcome.stdout),
        ("stderr", outcome.stderr),
    )
    for stream, text in streams:
        for line in text.splitlines():
            yield LogLine(run_id="", step_id="code", attempt=1, stream=stream, line=line, at=now)


def _run(one: Document) -> dict[str, Json]:
    trigger = one["trigger"]
    return {
        "id": one["run_id"],
        "workspace": _WORKSPACE,
        "principal": one["principal"],
        "flow": one["flow"],
        "flow_version_id": "",
        "status": RunStatus(one["status"]),
        "trigger": {} if trigger is None else {"trigger": trigger},
        "error": _error(one["error"]),
        "parent_id": one["parent_id"],
        "created_at": _at(one["created_at"]),
        "started_at": _time(one["started_at"]),
        "ended_at": _time(one["ended_at"]),
        "abandoned": one["abandoned"],
    }


def _step_summary(of: Run, step_id: str, one: Document) -> StepSummary:
    final = StepRun(
        id="",
        run_id=of.id,
        step_id=step_id,
        attempt=one["attempts"],
        status=StepStatus(one["status"]),
        result=one["result"],
        error=_error(one["error"]),
        isolation=one["isolation"],
        duration=one["duration_ms"] / 1000,
        started_at=of.started_at or of.created_at,
    )
    return StepSummary(
        final=final,
        attempts=one["attempts"],
        tool_calls=one["tool_calls"],
        egress=one["egress"],
        artifacts=tuple(Artifact(**each) for each in one["artifacts"]),
        queued=one.get("queued", 0),
    )


def _error(one: Document | None) -> StepError | None:
    return None if one is None else StepError(**one)


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _time(text: str | None) -> datetime | None:
    return None if text is None else _at(text)

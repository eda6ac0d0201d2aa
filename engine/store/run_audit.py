"""What the audit tells of runs: that one was asked for, and what it came to with all that was executed for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    Connection,
    Integer,
    String,
    bindparam,
    case,
    cast,
    func,
    literal,
    null,
    select,
    union_all,
)

from engine.audit import STEPBOX, Actor, Outcome, Target, acting
from engine.records import FlowVersion, Run
from engine.store.approval_table import ApprovalTable
from engine.store.audit_record import record
from engine.store.tables import EgressRecordTable, StepRunTable, ToolCallTable
from flows.contracts import StepError
from flows.values import Json, RunStatus

_STEP = StepRunTable.__table__
_CALL = ToolCallTable.__table__
_EGRESS = EgressRecordTable.__table__
_APPROVAL = ApprovalTable.__table__
_OF_RUN: Final[BindParameter[str]] = bindparam("run")
_OUTCOMES: Final[Mapping[RunStatus, Outcome]] = {
    RunStatus.SUCCEEDED: "succeeded",
    RunStatus.CANCELLED: "cancelled",
}
_NOTHING = cast(null(), String)
_MILLISECONDS = cast(func.sum(_STEP.c.duration) * 1000, Integer)

_EXECUTED = (
    select(
        literal("step").label("what"),
        _STEP.c.step_id.label("step"),
        _STEP.c.status.label("name"),
        _STEP.c.isolation.label("how"),
        _STEP.c.image.label("image"),
        func.count().label("times"),
        _MILLISECONDS.label("took"),
    )
    .where(_STEP.c.run_id == _OF_RUN, _STEP.c.attempt > 0)
    .group_by(_STEP.c.step_id, _STEP.c.status, _STEP.c.isolation, _STEP.c.image)
)
_CALLED = (
    select(
        literal("tool"),
        _CALL.c.step_id,
        _CALL.c.tool,
        case((_CALL.c.error.is_(None), "succeeded"), else_="failed"),
        _NOTHING,
        func.count(),
        literal(0),
    )
    .where(_CALL.c.run_id == _OF_RUN)
    .group_by(_CALL.c.step_id, _CALL.c.tool, _CALL.c.error.is_(None))
)
_REACHED = (
    select(
        literal("egress"),
        _EGRESS.c.step_id,
        _EGRESS.c.host,
        case((_EGRESS.c.allowed, "allowed"), else_="refused"),
        cast(_EGRESS.c.port, String),
        func.count(),
        literal(0),
    )
    .where(_EGRESS.c.run_id == _OF_RUN)
    .group_by(_EGRESS.c.step_id, _EGRESS.c.host, _EGRESS.c.allowed, _EGRESS.c.port)
)
_DECIDED = select(
    literal("approval"),
    _APPROVAL.c.step_id,
    _APPROVAL.c.id,
    _APPROVAL.c.decision,
    _APPROVAL.c.decided_by,
    literal(1),
    literal(0),
).where(_APPROVAL.c.run_id == _OF_RUN)
_DONE = union_all(_EXECUTED, _CALLED, _REACHED, _DECIDED)


@dataclass(frozen=True, kw_only=True)
class EndedRun:
    """A run as it has ended; ``version`` and ``digest`` are those of its flow's version."""

    id: str
    workspace: str
    flow: str
    version: int
    digest: str
    status: RunStatus
    trigger: Mapping[str, Json]
    parent_id: str | None
    error: StepError | None
    started_at: datetime | None
    ended_at: datetime


def record_start(connection: Connection, run: Run, version: FlowVersion) -> None:
    """Record that a run was asked for, unless it is a part of another one."""
    details = {
        "flow": run.flow,
        "version": version.number,
        "digest": version.digest,
        "trigger": _start_of(run.trigger),
    }
    _record(connection, "run.start", run, "succeeded", details)


def record_end(connection: Connection, run: EndedRun, granted: Sequence[Mapping[str, Json]]) -> None:
    """Record what a run came to. ``granted`` is what its steps were and could do: see :func:`engine.grants.granted`."""
    done = connection.execute(_DONE, {"run": run.id}).all()
    steps: dict[str, dict[str, Any]] = {}
    of_steps = {str(one["step"]): one for one in granted}
    calls: list[Json] = []
    egress: list[Json] = []
    approvals: list[Json] = []
    for row in done:
        match row.what:
            case "step":
                step = steps.setdefault(row.step, {**of_steps.get(row.step, {"step": row.step}), "attempts": []})
                attempts = {"status": row.name, "times": row.times, "ms": row.took or 0}
                isolated = {"isolation": row.how, "image": row.image}
                step["attempts"].append(
                    {**attempts, **{name: one for name, one in isolated.items() if one is not None}}
                )
            case "tool":
                calls.append({"step": row.step, "tool": row.name, "outcome": row.how, "times": row.times})
            case "egress":
                port = int(row.image)
                egress.append(
                    {"step": row.step, "host": row.name, "port": port, "outcome": row.how, "times": row.times}
                )
            case _:
                approvals.append({"step": row.step, "approval": row.name, "decision": row.how, "by": row.image})
    outcome = _OUTCOMES.get(run.status, "failed")
    details: dict[str, Json] = {
        "flow": run.flow,
        "version": run.version,
        "digest": run.digest,
        "trigger": _start_of(run.trigger),
        "parent": run.parent_id,
        "error": None if run.error is None else run.error.code,
        "steps": list(steps.values()),
        "tool_calls": calls,
        "egress": egress,
        "approvals": approvals,
    }
    _record(connection, "run.end", run, outcome, {name: one for name, one in details.items() if one not in (None, [])})


def _record(
    connection: Connection, action: str, run: Run | EndedRun, outcome: Outcome, details: Mapping[str, Json]
) -> None:
    record(
        connection,
        workspace=run.workspace,
        actor=acting() or _asked_by(run.trigger),
        action=action,
        target=Target(kind="run", id=run.id),
        run=run.id,
        outcome=outcome,
        details=details,
    )


def _start_of(trigger: Mapping[str, Json]) -> dict[str, Json]:
    """What started a run, without what came with it."""
    start = trigger.get("trigger")
    told = (
        {name: one for name, one in start.items() if not isinstance(one, dict | list)}
        if isinstance(start, dict)
        else {}
    )
    return told if "event_id" not in trigger else {**told, "event": trigger["event_id"]}


def _asked_by(trigger: Mapping[str, Json]) -> Actor:
    """For whom a run goes on that this process was not asked for."""
    start = _start_of(trigger)
    name = start.get("principal")
    if name is None:
        return STEPBOX
    return Actor(name=str(name), kind="token" if start.get("kind") == "api" else "local")

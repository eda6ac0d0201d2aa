"""Steps of ``approval``: the run waits until a person says yes or no."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from flows.contracts import (
    Asked,
    Catalogue,
    Finding,
    OwnApprovals,
    Question,
    StepCall,
    StepError,
    StepResult,
    waiting,
)
from flows.errors import RefusedError
from flows.model import Config, StepConfig
from flows.names import name_finding
from flows.schemas import check_schema
from flows.values import Duration, Json, StepStatus

_ROLES = frozenset({"approver", "admin"})


class Approval(Config):
    """What is asked of whom. ``with`` of the step is shown beside the message."""

    message: str
    """What is asked."""
    form: dict[str, Json] | None = None
    """A JSON Schema of what the approver fills in; it becomes the ``values`` of the step's result."""
    approvers: list[str] = Field(default_factory=list)
    """Who may decide: names of principals, ``role:approver`` or ``role:admin``; left out: whoever may approve."""
    own: OwnApprovals | None = None
    """Whether the principal for whom the run acts may decide; left out: yes, unless the workspace says no."""
    notify: list[str] = Field(default_factory=list)
    """Names of secrets that hold the addresses (apprise URLs) to tell of it, besides those of the workspace."""
    timeout: Duration | None = None
    """How long to wait for a decision; left out: for ever."""
    on_timeout: Literal["fail", "reject"] = "fail"
    """Whether no decision in time is a timeout or counts as a no."""


class ApprovalStep(StepConfig):
    """Parks the run until it is decided. A yes gives ``{approved, by, at, values}``; a no fails the step."""

    approval: Approval
    """What is asked of whom."""


def check_approval(config: StepConfig, _catalogue: Catalogue) -> Iterator[Finding]:
    """Whether there is a message, and the form is a schema of a mapping."""
    assert isinstance(config, ApprovalStep)
    approval = config.approval
    if not approval.message.strip():
        fix = "say what is asked"
        yield Finding(path=("approval", "message"), code="invalid_value", message="`message` is empty", fix=fix)
    if approval.timeout is None and approval.on_timeout != "fail":
        message = "`on_timeout` means nothing without `timeout`"
        path = ("approval", "on_timeout")
        yield Finding(path=path, code="conflicting_keys", message=message, fix="add `timeout:`", at="key")
    yield from _approvers(approval.approvers)
    for position, name in enumerate(approval.notify):
        if (finding := name_finding(name, ("approval", "notify", position), "a secret")) is not None:
            yield finding
    for each in check_schema(approval.form) if approval.form is not None else ():
        path = ("approval", "form", *each.path)  # type: ignore[assignment]
        at: Literal["key", "value"] = "key" if each.key else "value"
        yield Finding(path=path, code="invalid_schema", message=each.message, fix=each.fix, at=at)


def _approvers(approvers: list[str]) -> Iterator[Finding]:
    for position, name in enumerate(approvers):
        path = ("approval", "approvers", position)
        prefix, colon, role = name.partition(":")
        if colon and (prefix != "role" or role not in _ROLES):
            message = f"`{name[:80]}` is no role that may approve"
            yield Finding(path=path, code="invalid_value", message=message, fix="write role:approver or role:admin")
        elif not name or any(character.isspace() for character in name):
            message = f"`{name[:80]}` is no name of a principal"
            yield Finding(path=path, code="invalid_value", message=message, fix="write a name, or role:approver")


class ApprovalExecutor:
    """Asks, and tells what was decided (:class:`flows.contracts.StepExecutor`)."""

    isolation = None

    async def refusal(self, config: StepConfig) -> RefusedError | None:
        """None: a question can be asked everywhere."""

    def expect(self, config: StepConfig, count: int) -> None:
        """Do nothing: nothing is made ready for it."""

    async def execute(self, config: StepConfig, call: StepCall) -> StepResult:
        """Give the decision, or wait for it."""
        if not isinstance(config, ApprovalStep):
            raise TypeError(f"{type(config).__name__} is no step of an approval")
        approval = config.approval
        question = Question(
            message=approval.message,
            details=dict(call.inputs) or None,
            form=approval.form,
            approvers=tuple(approval.approvers),
            own=approval.own,
            notify=tuple(approval.notify),
            timeout=approval.timeout,
            on_timeout=approval.on_timeout,
        )
        return _result(await call.ask(question), approval)


def _result(asked: Asked, approval: Approval) -> StepResult:
    if asked.decision is None:
        return waiting(f"waits for an approval: {approval.message}", fix=f"stepbox approve {asked.id}")
    if asked.decision == "approved" and asked.at is not None:
        answer = {"approved": True, "by": asked.by, "at": asked.at.isoformat(), "values": asked.values}
        return StepResult(status=StepStatus.SUCCEEDED, result=answer)
    if asked.decision == "timed_out":
        message = f"nobody decided within {approval.timeout or 0:g} s: {approval.message}"
        if approval.on_timeout == "fail":
            return StepResult(status=StepStatus.TIMED_OUT, error=StepError(code="approval_timed_out", message=message))
    else:
        why = f": {asked.comment}" if asked.comment else ""
        message = f"{asked.by or 'the end of the run'} said no to: {approval.message}{why}"
    return StepResult(status=StepStatus.FAILED, error=StepError(code="approval_rejected", message=message))

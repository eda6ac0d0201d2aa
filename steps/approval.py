"""Steps of ``approval``: the run waits until a person says yes or no."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from flows.contracts import Catalogue, Finding
from flows.model import Config, StepConfig
from flows.schemas import check_schema
from flows.values import Duration, Json


class Approval(Config):
    """What is asked of whom. ``with`` of the step is shown beside the message."""

    message: str
    """What is asked."""
    form: dict[str, Json] | None = None
    """A JSON Schema of what the approver fills in; it becomes the ``values`` of the step's result."""
    approvers: list[str] = Field(default_factory=list)
    """Who may decide, by principal or role; left out: whoever may approve in the workspace."""
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
    for each in check_schema(approval.form) if approval.form is not None else ():
        path = ("approval", "form", *each.path)  # type: ignore[assignment]
        at: Literal["key", "value"] = "key" if each.key else "value"
        yield Finding(path=path, code="invalid_schema", message=each.message, fix=each.fix, at=at)

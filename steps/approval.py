"""Steps of ``approval``: the run waits until a person says yes or no."""

from typing import Literal

from pydantic import Field

from flows.model import Config, StepConfig
from flows.values import Duration, Json


class Approval(Config):
    """What is asked of whom. ``with`` of the step is shown beside the message."""

    message: str
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

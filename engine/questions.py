"""What runs ask of people, as values: the question with its decision, and the notices of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from engine.records import LOCAL, step_label
from flows.contracts import OwnApprovals
from flows.values import Json

Decision: TypeAlias = Literal["approved", "rejected"]
"""What a person decides."""
Way: TypeAlias = Literal["local", "token", "link"]
"""How a decision came: by who may use the home, by a token, or by a signed link."""
Kind: TypeAlias = Literal["step", "tool", "network"]
"""Who asks: an ``approval`` step, a tool that asks before its calls, or a flow version with ``network: full``."""


def requesters_of(principal: str) -> tuple[str, ...]:
    """Who asks where that one has started it: nobody for whoever may use the home, who may decide anything."""
    return () if principal == LOCAL else (principal,)


@dataclass(frozen=True, kw_only=True)
class Approval:
    """A question that a step (or one of its items) asks, and its decision; see :class:`flows.contracts.Question`.

    ``subject`` tells the questions of one step apart: empty for that of an approval step. ``decided_by`` is None for a
    decision that nobody made: its time was over, or the run ended before. The question of a flow version has no run,
    and an empty ``step_id``.
    """

    id: str
    workspace: str
    kind: Kind = "step"
    flow: str
    run_id: str | None
    flow_version_id: str | None = None
    """Of a question about a flow version: that."""
    step_id: str
    item: int | None = None
    subject: str = ""
    message: str
    details: Json = None
    form: Mapping[str, Json] | None = None
    approvers: tuple[str, ...] = ()
    own: OwnApprovals | None = None
    """What the step says of requesters who decide what they asked for; None: nothing."""
    requesters: tuple[str, ...] = ()
    """The principals who ask for it: whom the run acts for, and of a flow version who put it."""
    notify: tuple[str, ...] = ()
    """Names of secrets with the addresses that the step has told of it, besides the workspace's."""
    on_timeout: Literal["fail", "reject"] = "fail"
    requested_at: datetime
    expires_at: datetime | None = None
    decision: Literal["approved", "rejected", "timed_out", "withdrawn"] | None = None
    decided_at: datetime | None = None
    decided_by: str | None = None
    decided_via: Way | None = None
    comment: str | None = None
    form_values: Json = None
    revoked_at: datetime | None = None
    """Of a flow version: when the decision was taken back."""
    revoked_by: str | None = None

    @property
    def label(self) -> str:
        """The step, with its item: see :func:`engine.records.step_label`; of a flow version, the flow."""
        return step_label(self.step_id, self.item) if self.step_id else self.flow


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A message about a question to one address, the secret ``target``. ``due_at`` is None once nothing more is tried.

    ``error`` is why the last attempt failed; ``dropped``: it was decided before it could be sent.
    """

    id: str
    approval_id: str
    target: str
    attempts: int = 0
    created_at: datetime
    due_at: datetime | None = None
    sent_at: datetime | None = None
    dropped: bool = False
    error: str | None = None

"""What requests and answers about approvals hold."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.values import Duration, Json
from ui.api.models import APPROVAL_ID

_IN = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
_OUT = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class DecideIn(BaseModel):
    """A decision."""

    model_config = _IN
    comment: str | None = Field(default=None, max_length=10_000, examples=["looks good"])
    """Why; a no shows it to the run."""
    values: dict[str, Json] = Field(default_factory=dict, examples=[{}])
    """What the approval's form asks for."""
    texts: dict[str, str] = Field(default_factory=dict, examples=[{}])
    """The same as texts, which are read by the types that the form declares."""


class LinkIn(BaseModel):
    """Whom a link is for."""

    model_config = _IN
    principal: str = Field(min_length=1, max_length=200, examples=["ann"])
    """Who may decide by it."""
    lasts: Duration | None = Field(default=None, gt=0, examples=["1h"])
    """How long it holds at most; left out: as long as the installation lets links hold."""


class ApprovalOut(BaseModel):
    """A question that runs wait for a person to decide."""

    model_config = _OUT
    id: str = Field(examples=[APPROVAL_ID])
    kind: Literal["step", "tool", "network"]
    """Who asks: an approval step, a tool before a call, or a flow version with `network: full`."""
    flow: str
    run_id: str | None
    """Null for a flow version, for which any number of runs may wait."""
    step: str | None
    item: int | None
    message: str
    details: Json
    """Exactly what will happen."""
    form: dict[str, Json] | None
    """The JSON Schema of the values that a yes comes with."""
    approvers: list[str]
    """Who may decide, by name or as `role:ROLE`; empty: whoever may approve."""
    own: Literal["allow", "refuse"] | None
    """What the step says of requesters who decide."""
    requesters: list[str]
    """The principals who ask for it."""
    requested_at: datetime
    expires_at: datetime | None
    on_timeout: Literal["fail", "reject"]
    decision: Literal["approved", "rejected", "timed_out", "withdrawn"] | None
    """Null while nobody has decided."""
    decided_at: datetime | None
    by: str | None
    via: Literal["local", "token", "link"] | None
    """How the decision came: on the service's machine, by a token or by a signed link."""
    comment: str | None
    values: Json
    revoked_at: datetime | None
    """When a decision on a flow version was taken back."""
    revoked_by: str | None


class NoticeOut(BaseModel):
    """A message about a question to one address."""

    model_config = _OUT
    to: str
    """The secret with the address."""
    attempts: int
    sent_at: datetime | None
    next_at: datetime | None
    """When it is tried again; null once it isn't."""
    dropped: bool
    """Whether the question was decided before it could be sent."""
    error: str | None
    """Why the last attempt failed."""


class ApprovalDetailOut(ApprovalOut):
    """A question with the notices of it."""

    notices: list[NoticeOut]
    refusal: str | None
    """Why whoever asks may not decide it; null where they may."""


class DecidedOut(ApprovalOut):
    """The decision."""

    resumes: str | None
    """The run that goes on; null where any number may."""


class LinkOut(BaseModel):
    """A signed link."""

    model_config = _OUT
    url: str
    principal: str
    expires_at: datetime

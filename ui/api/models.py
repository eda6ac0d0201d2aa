"""What requests hold and answers give, for validation and for the OpenAPI document."""

from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StrictBool, StringConstraints

from engine.deliveries import DeliveryStatus
from engine.records import FlowState
from flows.names import MAX_NAME, NAME
from flows.values import ByteSize, Duration, Json, RunStatus, StepStatus
from ui.api.shapes import In as _In
from ui.api.shapes import Out as _Out

Item = TypeVar("Item")

FlowName = Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$", max_length=MAX_NAME)]
Text = Annotated[str, StringConstraints(max_length=1_000_000)]
FilePath = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00]+$")]

RUN_ID = "01K6ZQ4T5N8W0Q2M4R6X8Y0A1B"
APPROVAL_ID = "01K6ZQ9A2S4D6F8G0H2J4K6M8N"
EVENT_ID = "01K6ZQ8C4D6E8F0G2H4J6K8M0N"
ARTIFACT_ID = "01K6ZQ7B3C5D7E9F1G3H5J7K9M"
FLOW_TEXT = """\
flow: greet
inputs:
  who: {type: string}
steps:
  - id: hello
    shell: echo "hello $INPUT_WHO"
    with: {who: "${{ inputs.who }}"}
"""


class FlowIn(_In):
    """A flow as it is written."""

    text: Text = Field(examples=[FLOW_TEXT])
    """The YAML."""
    files: dict[FilePath, Text] = Field(default_factory=dict, examples=[{"step.py": "return 1"}], max_length=200)
    """The texts of the files that its steps name by `file:`, by path."""
    path: str | None = Field(default=None, min_length=1, max_length=1000, examples=["flows/greet.yaml"])
    """What messages about it call it."""


class ApplyIn(_In):
    """Flows to put into service, all or none."""

    flows: list[FlowIn] = Field(min_length=1, max_length=500)
    dry_run: StrictBool = False
    """Only say what would change."""


class StartIn(_In):
    """What a run is given."""

    inputs: dict[str, Json] = Field(default_factory=dict, examples=[{"who": "world"}])
    """The flow's inputs by name."""


class RetryIn(_In):
    """From where a run is made again."""

    step: FlowName | None = Field(default=None, alias="from", examples=[None])
    """The step to begin with; left out: the first ones that did not succeed."""


class TrialIn(StartIn):
    """A flow to run without putting it into service."""

    flow: FlowIn


class ExecuteIn(_In):
    """Code to execute by itself."""

    language: Literal["python", "javascript", "shell"] = Field(examples=["python"])
    code: Text = Field(examples=['return sum(inputs["n"])'])
    """A function body: `inputs` holds the inputs, `return` gives the result."""
    inputs: dict[str, Json] = Field(default_factory=dict, examples=[{"n": [1, 2, 3]}])
    network: Literal["none", "full"] | list[str] = Field(default="none", examples=["none"])
    """`none`, `full`, or the hosts that it may reach."""
    tools: list[str] = Field(default_factory=list, max_length=100, examples=[[]])
    """The tools that it may call, by their full names."""
    timeout: Duration | None = Field(default=None, examples=["30s"])
    memory: ByteSize | None = Field(default=None, examples=["128MB"])


class ExecuteImageIn(_In):
    """A command of an image to execute by itself."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=500)] = Field(examples=["alpine:3.22"])
    command: Text | Annotated[list[Text], Field(max_length=1000)] | None = Field(
        default=None, examples=["echo $INPUT_WHO"]
    )
    """A script for the image's shell where it is text, else the arguments of its entry point; null: its own command."""
    inputs: dict[str, Json] = Field(default_factory=dict, examples=[{"who": "world"}])
    network: Literal["none", "full"] | list[str] = Field(default="none", examples=["none"])
    """`none`, `full`, or the hosts that it may reach."""
    timeout: Duration | None = Field(default=None, examples=["30s"])
    memory: ByteSize | None = Field(default=None, examples=["128MB"])


class PruneIn(_In):
    """What to remove."""

    older_than: Duration | None = Field(default=None, examples=["30d"])
    """Runs that ended longer ago, whatever the settings say; left out: all that was kept for as long as these say."""
    dry_run: StrictBool = Field(default=False, examples=[True])
    """Only count the runs."""


class SecretIn(_In):
    """A secret to set."""

    value: SecretStr = Field(min_length=1, max_length=100_000, examples=["not-a-real-secret"])


class RotationIn(SecretIn):
    """Another value of a secret."""

    overlap: Duration = Field(default=86400.0, examples=["24h"])
    """How long the value that it had stays live beside it."""


class KeyRotationIn(_In):
    """A change of the key that secrets are encrypted by."""

    prepare: StrictBool = False
    """Only make the new key known, so that its file can be brought to other machines first."""


class ErrorOut(_Out):
    """Why a run or a step failed."""

    code: str = Field(examples=["step_failed"])
    """Stays the same over versions."""
    message: str
    line: int | None
    """In the code of the step."""
    traceback: str | None
    fix: str | None


class ArtifactOut(_Out):
    """A file that a step left."""

    id: str
    path: str
    """Below the step's ``artifacts``; of an item of a for-each with its number in front."""
    size: int
    """In bytes."""
    sha256: str
    media_type: str


class ArtifactRecordOut(_Out):
    """A file that an attempt of a step left."""

    name: str
    """What `files:` and `stepbox runs download` call it."""
    step: str
    item: int | None
    attempt: int
    path: str
    size: int
    """In bytes."""
    sha256: str
    media_type: str
    id: str
    superseded: bool
    """A later attempt has ended, whose files count instead."""
    created_at: datetime


class ArtifactAboutOut(ArtifactRecordOut):
    """A file that an attempt of a step left, and in which run."""

    run_id: str = Field(examples=[RUN_ID])


class DeliveryOut(_Out):
    """What became of an event at one trigger."""

    id: str
    event: str
    flow: str
    trigger: str
    status: DeliveryStatus
    reason: str | None
    error: ErrorOut | None
    """Why the last attempt could start no run."""
    run: str | None
    """The run that it started."""
    attempts: int
    """Those that failed."""
    due_at: datetime | None
    """When it is tried again; null once it has ended."""
    created_at: datetime
    ended_at: datetime | None


class EventOut(_Out):
    """An event that came in."""

    id: str
    kind: str
    """The kind of trigger that it is for."""
    origin: str
    """Where it came in, such as `webhook:orders`."""
    key: str | None
    """What tells it from others of its origin."""
    data: dict[str, Json]
    """What expressions see as `event`."""
    causes: list[str]
    """The runs that led to it, as `flow/run`."""
    occurred_at: datetime
    received_at: datetime
    repeats: int
    """How often it came again, and started nothing more."""
    repeated_at: datetime | None
    deliveries: list[DeliveryOut]


class SecretOut(_Out):
    """A secret, without its value."""

    name: str
    versions: int
    """Values that are live: two while an old one is kept."""
    old_until: datetime | None
    """When the old one ends."""
    created_at: datetime
    updated_at: datetime
    last_used_at: datetime | None


class KeyRotationOut(_Out):
    """A change of the key that secrets are encrypted by."""

    key_id: str
    """Tells the new key from others, and nothing about it."""
    resealed: int | None
    """Values that are encrypted by it now; null while it is only prepared."""
    kept: list[str]
    """The files of the service that have the keys before it, for backups of the database from before."""


class DeletedOut(_Out):
    """How much was deleted."""

    deleted: int


class StepOut(_Out):
    """One step of a run, all its attempts together."""

    status: StepStatus
    result: Json
    error: ErrorOut | None
    attempts: int
    isolation: Literal["jail", "container"] | None
    duration_ms: float
    tool_calls: int
    egress: int
    artifacts: list[ArtifactOut]
    queued: int = 0
    """Attempts, one or those of items, whose code waits for one of the workspace's slots."""


class AttemptOut(_Out):
    """One attempt of a step."""

    id: str
    step: str
    item: int | None
    """Which item of a for-each, from 0."""
    attempt: int
    """From 1; 0 for what was no execution."""
    status: StepStatus
    result: Json = None
    error: ErrorOut | None
    isolation: Literal["jail", "container"] | None
    duration_ms: float
    tool_calls: int
    egress: int
    image: str | None
    peak_memory: int | None
    policy: int | None
    """The number of the workspace's policy that it began under; null where nothing was executed."""
    queued: bool
    """Whether its code waits for one of the workspace's slots."""
    started_at: datetime
    ended_at: datetime | None


class RunOut(_Out):
    """A run as listings show it."""

    run_id: str = Field(examples=[RUN_ID])
    flow: str = Field(examples=["greet"])
    status: RunStatus
    principal: str = Field(examples=["ann"])
    """Whom it acts for; `local` is the command line on the service's machine."""
    trigger: dict[str, Json] | None
    """What started it."""
    error: ErrorOut | None
    parent_id: str | None
    """The run whose step started it."""
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    duration_ms: float | None
    abandoned: bool
    """Whether it has begun and no engine drives it."""


class ResumedOut(RunOut):
    """A run that goes on again."""

    position: str = Field(examples=["12-1764039124000"])
    """What `GET /runs/{run}/events` takes as `Last-Event-ID`, to tell only what happens since."""


class RunDetailOut(RunOut):
    """A run with its inputs, its output and its steps by id."""

    inputs: dict[str, Json]
    output: Json
    steps: dict[str, StepOut]


class LineOut(_Out):
    """A line that code printed."""

    step: str
    item: int | None
    attempt: int
    stream: Literal["stdout", "stderr"]
    line: str
    at: datetime


class CallOut(_Out):
    """A call of a tool."""

    id: str
    step: str
    item: int | None
    attempt: int
    tool: str
    arguments: Json
    result: Json
    error: ErrorOut | None
    started_at: datetime
    ended_at: datetime | None


class EgressOut(_Out):
    """A request of code over the network."""

    step: str
    item: int | None
    attempt: int
    host: str
    port: int
    address: str | None
    allowed: bool
    reason: str | None
    sent: int | None
    received: int | None
    started_at: datetime
    ended_at: datetime | None


class ExecuteOut(StepOut):
    """What code came to."""

    stdout: str
    stderr: str


class ProblemPlaceOut(_Out):
    """A problem of a flow, at its place."""

    file: str
    line: int
    column: int
    code: str
    message: str
    fix: str


class ValidationOut(_Out):
    """Whether a flow is right."""

    valid: bool
    flow: str | None
    problems: list[ProblemPlaceOut]


class FlowOut(_Out):
    """A flow as listings show it."""

    flow: str = Field(examples=["greet"])
    state: FlowState
    """A `draft` was only ever run from a file; a `disabled` flow starts no runs."""
    version: int
    versions: int
    digest: str
    updated_at: datetime
    last_run: RunOut | None


class VersionOut(_Out):
    """A version of a flow; it never changes."""

    flow: str
    version: int
    digest: str
    """SHA-256 of the text and the files."""
    created_at: datetime
    text: str
    files: dict[str, str]


class FlowDetailOut(VersionOut):
    """A flow with its current version."""

    state: FlowState
    versions: int
    updated_at: datetime


class AppliedOut(_Out):
    """What applying a flow did, or would do."""

    flow: str
    change: Literal["created", "updated", "unchanged"]
    version: int | None
    """Null where it was only asked."""
    previous: int | None
    digest: str
    diff: str
    """Unified, of the text and the files."""
    approval: str | None
    """The question that an admin has to decide before its steps get `network: full`."""


class AppliedListOut(_Out):
    """What applying flows did, or would do."""

    items: list[AppliedOut]


class UpcomingOut(_Out):
    """A time at which a schedule comes due."""

    trigger: str = Field(examples=["nightly"])
    scheduled_at: datetime = Field(examples=["2026-03-01T02:00:00+01:00"])
    """On the clock of its zone."""
    due_at: datetime = Field(examples=["2026-03-01T01:00:12+00:00"])
    """With its jitter, in UTC."""
    timezone: str = Field(examples=["Europe/Berlin"])


class PrunedOut(_Out):
    """What was removed, or would be."""

    removed: bool
    runs: int
    lines: int
    artifacts: int
    events: int
    contents: int
    """Stored files."""


class HookOut(_Out):
    """A request to a webhook that was taken."""

    event: str = Field(examples=[RUN_ID])
    """Its id: what became of it can be asked by that."""
    status: DeliveryStatus
    run: str | None = Field(examples=[RUN_ID])
    """The run that it started."""


class SentDeliveryOut(_Out):
    """What has become of an event at one trigger."""

    flow: str = Field(examples=["greet"])
    trigger: str = Field(examples=["created"])
    status: DeliveryStatus
    run: str | None


class SentEventOut(_Out):
    """An event that is kept."""

    event: str = Field(examples=[RUN_ID])
    key: str | None = Field(examples=["/shop 1042"])
    """Its source and its id."""
    duplicate: bool
    """Whether it had been sent before."""
    deliveries: list[SentDeliveryOut]
    """One for each trigger that it is for."""


class SentEventsOut(_Out):
    """The events of a request, in their order."""

    items: list[SentEventOut]


class PageOut(_Out, Generic[Item]):
    """A part of a listing."""

    items: list[Item]
    next: str | None
    """The `cursor` of the next page; null at the end."""


class HealthOut(_Out):
    """Whether the service works."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, str | None] = Field(default_factory=dict)
    """By name null, or what is wrong."""


class ProblemOut(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: str = Field(examples=["/problems/unknown_flow"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["there is no flow 'greet'"])
    code: str = Field(examples=["unknown_flow"])
    """Stays the same over versions."""
    fix: str | None = Field(default=None, examples=["see the names with: stepbox flows list"])
    request_id: str | None = Field(default=None, examples=["01K6ZQ4T5N8W0Q2M4R6X8Y0A1B"])
    """That of the `X-Request-ID` header, which the service's log has too."""
    exit_status: int | None = Field(default=None, examples=[2])
    """That of the command line for the same error: 2 the call is wrong, 3 it can't be had or enforced here."""
    problems: list[dict[str, Json]] | None = None
    """All that is wrong with a flow, or with the request."""

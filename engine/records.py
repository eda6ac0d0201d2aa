"""What the store keeps, as values: tables never leave ``engine/store/``. All times are aware, in UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Generic, Literal, Self, TypeVar

from flows.contracts import Artifact, Isolation, StepError, StepResult
from flows.values import Json, RunStatus, StepStatus

DEFAULT_WORKSPACE: Final = "default"
LOCAL: Final = "local"
"""Whoever may use the home of an installation by its command line; no principal has this name."""
FlowState = Literal["draft", "enabled", "disabled"]
"""A draft was run from a file and never applied; only what is enabled, or a draft, can start."""

Role = Literal["viewer", "editor", "approver", "admin"]
"""What a principal may do in a workspace; each may do what those before it may."""


@dataclass(frozen=True, kw_only=True)
class FlowVersion:
    """One immutable version of a flow. ``digest`` is the SHA-256 of text and files; ``files`` is text by path."""

    id: str
    workspace: str
    flow: str
    number: int
    digest: str
    text: str
    files: Mapping[str, str]
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Slot:
    """What a run takes of its flow's ``concurrency``: one of ``limit`` for runs with the same ``key``.

    ``policy`` says what becomes of a run where none is free: see :class:`flows.model.Concurrency`.
    """

    key: str
    limit: int
    policy: Literal["queue", "skip", "cancel_running"]


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A run as a listing shows it: everything but its inputs and its output, which may be large."""

    id: str
    workspace: str
    principal: str = LOCAL
    """The name of the one whom it acts for."""
    flow: str
    flow_version_id: str
    status: RunStatus
    trigger: Mapping[str, Json] = field(default_factory=dict)
    error: StepError | None = None
    parent_id: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    owner: str | None = None
    """The engine that drives it (:mod:`steps.sandbox.owner`); None where none does."""
    lease_until: datetime | None = None
    """When its lease ends, unless its owner prolongs it."""
    abandoned: bool = False
    """Whether it has begun and no engine drives it, where somebody has looked (:mod:`engine.heartbeat`)."""

    @property
    def took(self) -> float | None:
        """Seconds from its start to its end; None while it goes on."""
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()


@dataclass(frozen=True, kw_only=True)
class Run(RunSummary):
    """One run of one flow version. ``parent_id`` is set where a subflow step started it.

    ``subflows`` are by name the ids of the versions of all flows that it can start; empty for a run with a parent,
    which has that one's.
    """

    inputs: Mapping[str, Json]
    output: Json = None
    subflows: Mapping[str, str] = field(default_factory=dict)
    directories: tuple[str, ...] = ()
    """Absolute paths of this machine from which its tool steps may import files."""
    cancel_requested_at: datetime | None = None
    """When somebody asked for the first time to cancel it."""


@dataclass(frozen=True, kw_only=True)
class FlowSummary:
    """A flow as a listing shows it: its current version, how many there are, and its newest run."""

    flow: str
    workspace: str
    version_id: str
    number: int
    digest: str
    versions: int
    updated_at: datetime
    """When the current version was last put."""
    state: FlowState = "draft"
    last_run: RunSummary | None = None


@dataclass(frozen=True, kw_only=True)
class FlowDetail:
    """A flow with its current version; ``versions`` counts all of them."""

    version: FlowVersion
    versions: int
    state: FlowState
    updated_at: datetime

    @property
    def tag(self) -> str:
        """What changes whenever the version or the state does: for conditional requests."""
        return f"{self.version.number}-{self.version.digest[:16]}-{self.state}"


Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Page(Generic[Item]):
    """A part of a listing. ``next`` is the cursor that continues it, None at its end."""

    items: tuple[Item, ...]
    next: str | None = None


@dataclass(frozen=True, kw_only=True)
class StepRun:
    """One attempt of one step of a run; of one item of it where the step has ``for_each`` (``item`` counts from 0).

    ``duration`` in seconds, ``peak_memory`` in bytes and ``cpu_time`` in seconds, as the host measured them.
    """

    id: str
    run_id: str
    step_id: str
    item: int | None = None
    attempt: int
    status: StepStatus
    result: Json = None
    error: StepError | None = None
    isolation: Isolation | None = None
    duration: float = 0.0
    tool_calls: int = 0
    egress: int = 0
    peak_memory: int | None = None
    cpu_time: float | None = None
    image: str | None = None
    """The image that its code ran in, by digest; None where there was none."""
    started_at: datetime
    ended_at: datetime | None = None
    policy: int | None = None
    """The number of the workspace's policy that the attempt began under; None where nothing was executed."""
    code_workspace: str | None = None
    """The workspace whose slots for code it takes one of, since ``code_began_at``; None where it needs none."""
    code_began_at: datetime | None = None

    @property
    def queued(self) -> bool:
        """Whether its code waits for a slot of its workspace."""
        return self.status is StepStatus.RUNNING and self.code_workspace is not None and self.code_began_at is None

    @property
    def label(self) -> str:
        """The step, with its item: see :func:`step_label`."""
        return step_label(self.step_id, self.item)

    @property
    def outcome(self) -> StepResult:
        """What it came to, without what its code printed."""
        return StepResult(
            status=self.status,
            result=self.result,
            error=self.error,
            isolation=self.isolation,
            duration=self.duration,
            tool_calls=self.tool_calls,
            egress=self.egress,
            peak_memory=self.peak_memory,
            cpu_time=self.cpu_time,
            image=self.image,
        )

    def ended(self, result: StepResult, at: datetime) -> Self:
        """The same attempt with what it came to."""
        return replace(
            self,
            status=result.status,
            result=result.result,
            error=result.error,
            isolation=result.isolation,
            duration=result.duration,
            tool_calls=result.tool_calls,
            egress=result.egress,
            peak_memory=result.peak_memory,
            cpu_time=result.cpu_time,
            image=result.image,
            ended_at=at,
        )


@dataclass(frozen=True, kw_only=True)
class StepSummary:
    """One step of a run, all its attempts together.

    ``final`` is its last attempt, or for a for-each the sum of its items; running while there is no sum yet.
    ``attempts`` counts executions, those of all items together, without those that ended in waiting; 0 where the
    step was skipped or came from the cache.
    """

    final: StepRun
    attempts: int
    tool_calls: int
    egress: int
    artifacts: tuple[Artifact, ...] = ()
    """Those of its last attempt, or of each item's."""
    queued: int = 0
    """Attempts whose code waits for a slot: one, or as many as items."""


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line of a step's output. ``cursor`` is its place in the run's log, set by the store."""

    run_id: str
    step_id: str
    item: int | None = None
    attempt: int
    stream: Literal["stdout", "stderr"]
    line: str
    at: datetime
    cursor: int | None = None

    @property
    def label(self) -> str:
        """The step, with its item: see :func:`step_label`."""
        return step_label(self.step_id, self.item)


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """One call of a tool. ``ended_at``, ``result`` and ``error`` are None while it is going on.

    ``arguments_digest`` is the SHA-256 of the tool's name and its canonical arguments. ``uncertain`` says of a call
    with an error that it may have done what it was to do all the same.
    """

    id: str
    run_id: str
    step_id: str
    item: int | None = None
    attempt: int
    tool: str
    arguments: Json
    arguments_digest: str
    idempotency_key: str
    result: Json = None
    error: StepError | None = None
    uncertain: bool = False
    started_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class EgressRecord:
    """One request of a step's code over the network, as it was decided; see :class:`flows.contracts.EgressDecision`.

    ``sent`` and ``received`` are bytes between Stepbox and the server, without those of TCP and IP; None, with
    ``ended_at``, while it goes on.
    """

    id: str
    run_id: str
    step_id: str
    item: int | None = None
    attempt: int
    host: str
    port: int
    address: str | None = None
    allowed: bool
    reason: str | None = None
    sent: int | None = None
    received: int | None = None
    started_at: datetime
    ended_at: datetime | None = None

    @property
    def label(self) -> str:
        """The step, with its item: see :func:`step_label`."""
        return step_label(self.step_id, self.item)


@dataclass(frozen=True, kw_only=True)
class ArtifactRecord:
    """A file that an attempt of a step left; see :class:`flows.contracts.Artifact`. ``path`` is as the step had it.

    ``superseded`` says that a later attempt has ended, whose files count instead.
    """

    id: str
    run_id: str
    step_id: str
    item: int | None = None
    attempt: int
    path: str
    size: int
    sha256: str
    media_type: str
    created_at: datetime
    superseded: bool = False

    @property
    def name(self) -> str:
        """As ``files`` names it: ``STEP/PATH``, or ``STEP/ITEM/PATH``."""
        return f"{self.step_id}/{self.artifact.path}"

    @property
    def artifact(self) -> Artifact:
        """As expressions see it: with the item in its path."""
        path = self.path if self.item is None else f"{self.item}/{self.path}"
        return Artifact(id=self.id, path=path, size=self.size, sha256=self.sha256, media_type=self.media_type)


def step_label(step_id: str, item: int | None) -> str:
    """A step by its id, with the item's index where it is one item's: ``load[3]``."""
    return step_id if item is None else f"{step_id}[{item}]"


@dataclass(frozen=True, kw_only=True)
class SecretSummary:
    """What may be shown of a secret: everything but its values.

    ``versions`` are those that are live; ``old_until`` is when the one before the newest ends, where it still is.
    """

    name: str
    versions: int
    old_until: datetime | None = None
    created_at: datetime
    updated_at: datetime
    last_used_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class KeyRotation:
    """A change of the key that secrets are encrypted by.

    ``resealed`` is how many values are encrypted by the new one, None where that is still to come; ``kept`` where the
    keys before it are now, which backups of the database from before need.
    """

    key_id: str
    resealed: int | None = None
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SealedSecret:
    """One live value of a secret as the database has it: encrypted by the key of that id."""

    id: str
    key_id: str
    sealed: bytes

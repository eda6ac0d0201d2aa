"""The use cases every door calls, and the values they take and give.

One protocol, so that a command works on this machine's installation or on a remote service alike. A service acts for
one :class:`engine.principal.Principal`, and every use case asks :func:`engine.policy.require` first. Nothing here
imports prefect or the database.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from engine.progress import Observer
from engine.records import (
    Approval,
    ArtifactRecord,
    Decision,
    EgressRecord,
    FlowDetail,
    FlowSummary,
    FlowVersion,
    LogLine,
    Page,
    Run,
    RunSummary,
    SecretSummary,
    StepRun,
    TokenRecord,
    ToolCall,
)
from engine.report import RunReport
from flows.contracts import Artifact, StepResult
from flows.definition import Definition
from flows.errors import InvalidCallError, StepboxError
from flows.values import Json, RunStatus
from steps.sandbox.limits import Language as CodeLanguage

if TYPE_CHECKING:
    from engine.deliveries import Accepted, Delivery, DeliveryStatus
    from engine.diagnosis import Diagnosis, Tried
    from engine.intake.hooks import HookAnswer
    from engine.principal import Principal
    from engine.retention import Pruned
    from engine.tokens import IssuedToken
    from engine.upcoming import Upcoming
    from steps.sandbox.select import RunnerName


@dataclass(frozen=True, kw_only=True)
class FlowText:
    """A flow as a caller hands it over.

    ``directory`` is where its ``file:`` paths and its subflows are looked for; without one, ``files`` are the texts of
    its files by path.
    """

    text: bytes
    path: str
    directory: Path | None
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Snippet:
    """Code to execute by itself, without a flow.

    ``network`` is ``none``, ``full`` or the hosts that the code may reach; ``timeout`` in seconds, ``memory`` in bytes,
    None: the language's default.
    """

    language: CodeLanguage
    code: str
    inputs: Mapping[str, Json] = field(default_factory=dict)
    network: Literal["none", "full"] | tuple[str, ...] = "none"
    tools: Sequence[str] = ()
    timeout: float | None = None
    memory: int | None = None


@dataclass(frozen=True, kw_only=True)
class ImageSnippet:
    """A command of an image to execute by itself, without a flow.

    ``command`` is a script for the image's ``/bin/sh`` where it is text, else the arguments of its entry point; None:
    what the image does by default. The others are as in :class:`Snippet`.
    """

    image: str
    command: str | Sequence[str] | None = None
    inputs: Mapping[str, Json] = field(default_factory=dict)
    network: Literal["none", "full"] | tuple[str, ...] = "none"
    timeout: float | None = None
    memory: int | None = None


@dataclass(frozen=True, kw_only=True)
class Precondition:
    """What must hold for a flow to be applied: its current :attr:`FlowDetail.tag`, or, for None, that there is none."""

    tag: str | None


@dataclass(frozen=True, kw_only=True)
class AppliedFlow:
    """What applying a flow does, or would do: ``version`` is the number that it has then, None where only asked.

    ``previous`` is the number of the version before. ``diff`` is that of its text and files, in the unified format.
    """

    flow: str
    change: Literal["created", "updated", "unchanged"]
    version: int | None
    previous: int | None
    digest: str
    diff: str


@dataclass(frozen=True, kw_only=True)
class StartedRun:
    """A run that was asked for. ``repeated``: the same request, by its key, had started it before."""

    run: Run
    repeated: bool


@dataclass(frozen=True, kw_only=True)
class RunEvent:
    """Something that happened in a run. ``position`` continues the stream after it."""

    position: str
    what: RunSummary | StepRun | LogLine


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """A run that is continued. ``position`` is where :meth:`Service.follow` tells what happens since."""

    run: RunSummary
    position: str


Target: TypeAlias = str | FlowText
"""A flow that is known, by its name, or one that is handed over."""


class PreconditionFailedError(InvalidCallError):
    """The flow is another one by now than the caller has seen."""

    code = "precondition_failed"


class FlowDisabledError(InvalidCallError):
    """The flow is disabled: nothing starts it."""

    code = "flow_disabled"


class StartKeyReusedError(InvalidCallError):
    """The idempotency key was used before, to ask for something else."""

    code = "idempotency_key_reused"


class ShuttingDownError(StepboxError):
    """The service ends and starts nothing more."""

    code = "shutting_down"


class AllDrivenError(StepboxError):
    """As many runs go on as the service drives at once."""

    code = "all_driven"


class RejectedError(StepboxError):
    """A request of another system that isn't taken: ``status`` and ``headers`` are its HTTP answer's.

    ``reason`` is what the answer has as its ``code``.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        reason: str,
        fix: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, fix=fix)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})


class InvalidPositionError(InvalidCallError):
    """The position in a stream or a listing is none that was given."""

    code = "invalid_position"


class Service(Protocol):
    """What the doors can ask for."""

    def load(self, flow: FlowText) -> Definition:
        """Read a definition without keeping it. Raises :class:`flows.errors.InvalidFlowError`."""

    async def run(
        self, definition: Definition, inputs: Mapping[str, Json], observer: Observer, *, directory: Path
    ) -> RunReport:
        """Run a flow to its end; see :meth:`engine.runs.Runs.run`. ``directory`` is as in :class:`FlowText`."""

    async def definition(self, flow: str) -> Definition:
        """The current version of a known flow. Raises :class:`engine.runs.UnknownFlowError` where there is none."""

    async def run_known(self, flow: str, inputs: Mapping[str, Json], observer: Observer) -> RunReport:
        """Run the current version of a known flow to its end.

        Raises:
            UnknownFlowError: there is no such flow.
            FlowDisabledError: it is disabled.
        """

    async def start(self, target: Target, inputs: Mapping[str, Json], *, key: str | None = None) -> StartedRun:
        """Record a run, for a dispatcher to drive. The same ``key`` gives the same run again.

        Raises:
            InvalidCallError: the flow doesn't exist or is disabled, the inputs don't fit, or the key was used for
                something else.
            InvalidFlowError: the flow that was handed over is not valid.
            RefusedError: a step asks for what can't be had or enforced here.
            ShuttingDownError: the service starts nothing more.
        """

    async def retry(self, run: str, *, step: str | None, observer: Observer) -> RunReport:
        """Make a run that has ended again, from ``step`` on or from the first steps that did not succeed, to its end.

        It is a new run of the same version and inputs; what had ended before that stands. See :mod:`engine.retries`.

        Raises:
            NotRetryableError: it has not ended; or it has succeeded, and no step is given.
            PartOfRunError: it is the run of a subflow.
            UnknownStepError: there is no such step, or it is none of ``steps``.
            FlowDisabledError, RefusedError, SlotsTakenError: as for any other run.
        """

    async def start_retry(self, run: str, *, step: str | None, key: str | None = None) -> StartedRun:
        """Record a run as :meth:`retry` makes it, for a dispatcher to drive; as :meth:`start`."""

    async def wait(self, run: str, seconds: float) -> Run:
        """The run as it has ended, or as it is after so many seconds."""

    async def cancel(self, run: str) -> Run:
        """Have a run cancelled, whoever drives it; gives it as it is. Its ``finally`` runs before it ends.

        Asked for once more, that is cut short.

        Raises:
            AlreadyFinishedError: it has ended.
            PartOfRunError: it is the run of a subflow.
        """

    async def follow(self, run: str, *, after: str | None = None) -> AsyncIterator[RunEvent]:
        """What happens in a run until it has ended, from its beginning or after a position on.

        A line comes once. An attempt comes when it begins and when it ends, and after a position perhaps once more.

        Raises:
            InvalidPositionError: ``after`` is no position.
        """

    async def definition_of(self, run: str) -> Definition:
        """The definition that a run is of, as it was when the run began. Raises as :meth:`run_report`."""

    async def resume(self, run: str, observer: Observer) -> RunReport:
        """Continue a run whose engine has ended, where it is unfinished; see :meth:`engine.runs.Runs.resume`.

        Raises:
            InvalidCallError: there is no such run, it has ended, an engine drives it, or it is a part of another run.
            RefusedError: a step asks for what can't be had or enforced here; the run stays as it is.
        """

    async def have_resumed(self, run: str) -> Resumption:
        """Let the service that goes on here continue a run; gives it as it goes on. Raises as :meth:`resume`.

        Raises:
            AllDrivenError: as many runs go on as may, for as long as one waits for an answer.
            ShuttingDownError: the service starts nothing more.
        """

    async def run_flow(self, run: str) -> FlowVersion:
        """The version of the flow that a run is of. Raises as :meth:`run_report`."""

    async def abandoned(self) -> Sequence[RunSummary]:
        """The runs that have begun, can go on, and that no engine drives; not those that are parts of others.

        First those whose engine has ended, the oldest first; then those that have waited for what has happened since.
        """

    async def approvals(self, *, run: str | None, undecided: bool) -> Sequence[Approval]:
        """What runs wait for people to decide; of a run, also its subflows. See :mod:`engine.approvals`."""

    async def decide(
        self,
        target: str,
        decision: Decision,
        *,
        pairs: Mapping[str, str],
        comment: str | None,
        values: Mapping[str, Json] | None = None,
    ) -> tuple[Approval, str]:
        """Decide a question, by its id or its run's; gives the id of the run to resume, too.

        ``values`` are those of its form, ``pairs`` the same as they are written on a command line. Raises
        InvalidCallError where there is no such question or not only one, where it is decided, and where they don't fit.
        """

    async def execute(self, snippet: Snippet | ImageSnippet, observer: Observer) -> StepResult:
        """Execute code, or a command of an image, by itself.

        Raises:
            InvalidCallError: an unknown tool, inputs that can't be passed.
            RefusedError: what it asks for can't be had or enforced here.
        """

    async def apply(
        self, flows: Sequence[FlowText], *, dry_run: bool = False, precondition: Precondition | None = None
    ) -> Sequence[AppliedFlow]:
        """Put flows into service, all of them or none, with the subflows beside them. Unchanged ones keep theirs.

        ``precondition`` is for a call with one flow. With ``dry_run`` nothing is kept.

        Raises:
            InvalidFlowError: one or more are not valid; the problems of all of them.
            UnknownFlowError: one starts a flow that is neither among them nor known.
            PreconditionFailedError: the precondition doesn't hold.
        """

    async def flows(self, *, limit: int | None = None, cursor: str | None = None) -> Page[FlowSummary]:
        """The flows that the installation knows, by name."""

    async def flow(self, name: str) -> FlowDetail:
        """A flow with its current version. Raises :class:`engine.runs.UnknownFlowError` where there is none."""

    async def flow_versions(self, name: str, *, limit: int = 50, cursor: str | None = None) -> Page[FlowVersion]:
        """The versions of a flow, the newest first."""

    async def flow_version(self, name: str, number: int) -> FlowVersion:
        """A version of a flow, by its number."""

    async def upcoming(self, name: str, *, count: int) -> Sequence["Upcoming"]:
        """When the schedules of a known flow come due next, the first one first, whether or not it is enabled."""

    async def enable_flow(self, name: str, *, enabled: bool) -> FlowDetail:
        """Let an applied flow start, or not."""

    async def delete_flow(self, name: str) -> None:
        """Forget a flow. Its runs stay, with the versions that they ran."""

    async def runs(
        self, *, flow: str | None, status: RunStatus | None, limit: int, cursor: str | None = None
    ) -> Page[RunSummary]:
        """Runs, the newest first."""

    async def run_report(self, run: str) -> RunReport:
        """A run and its steps, by id or by enough of its beginning. Raises InvalidCallError where there is none."""

    async def run_attempts(self, run: str) -> Sequence[StepRun]:
        """Every attempt of every step of a run, in the order in which they began."""

    async def run_logs(
        self, run: str, *, step: str | None, limit: int | None = None, cursor: str | None = None
    ) -> Page[LogLine]:
        """What the code of a run printed, in order; all of it without a limit."""

    async def run_calls(self, run: str) -> Sequence[ToolCall]:
        """The tool calls of a run, in order."""

    async def run_egress(self, run: str) -> Sequence[EgressRecord]:
        """What the code of a run asked of the network, in order."""

    async def set_secret(self, name: str, value: str, *, keep_old: bool) -> SecretSummary:
        """Set a secret; with ``keep_old`` the value that it had stays live too. See :class:`engine.secrets.Secrets`."""

    async def secrets(self) -> Sequence[SecretSummary]:
        """The secrets by name, without their values."""

    async def delete_secret(self, name: str, *, old_only: bool) -> int:
        """Forget a secret, or the value that it had before; gives how many values are gone."""

    async def run_artifacts(self, run: str) -> Sequence[ArtifactRecord]:
        """What the steps of a run left, by step, item, attempt and path."""

    async def fetch_artifacts(self, artifacts: Sequence[Artifact]) -> Sequence[Path]:
        """Files on this machine with the contents of artifacts, checked, there until the service is closed.

        Raises:
            StepboxError: a content can't be had, or is damaged.
        """

    async def artifact(self, artifact: str) -> ArtifactRecord:
        """The artifact of that id. Raises :class:`UnknownRecordError` where there is none."""

    async def release_artifacts(self, files: Sequence[Path]) -> None:
        """Say that files which :meth:`fetch_artifacts` gave aren't needed any more."""

    async def events(
        self, *, flow: str | None, status: "DeliveryStatus | None", limit: int, cursor: str | None = None
    ) -> Page["Accepted"]:
        """The events that came in, the newest first, with what became of each; see :mod:`engine.events`."""

    async def event(self, event: str) -> "Accepted":
        """The event of an id, or of enough of its beginning, or of a delivery; raises InvalidCallError."""

    async def redrive(self, event: str) -> Sequence["Delivery"]:
        """Try what is dead of an event once more; raises InvalidCallError where nothing is."""

    async def redrive_flow(self, flow: str) -> Sequence["Delivery"]:
        """Try all that is dead of a flow once more; raises InvalidCallError where it isn't in service."""

    async def create_token(self, principal: str, *, expires_at: datetime | None = None) -> "IssuedToken":
        """Make a token of a principal, who is made where there is none of that name."""

    async def tokens(self) -> Sequence[TokenRecord]:
        """All tokens of the workspace, the oldest first."""

    async def revoke_token(self, token: str) -> TokenRecord:
        """Make a token open nothing from now on."""

    async def prune(self, *, older_than: float | None = None, dry_run: bool = False) -> "Pruned":
        """Remove what has been kept for as long as the settings say; or runs that ended ``older_than`` seconds ago.

        With ``dry_run`` only the runs that would be removed are counted.
        """

    async def diagnose(self, notice: "Callable[[Tried], None]", *, runner: "RunnerName | None" = None) -> "Diagnosis":
        """Prove what each runner guarantees where the service runs, by trying to break it; see :mod:`engine.doctor`.

        ``notice`` hears of each guarantee once it is tried; ``runner`` is the only one to examine.
        """


@dataclass(frozen=True, kw_only=True)
class SentRequest:
    """An HTTP request of another system. ``headers`` are as they came; ``query`` is what stands behind the ``?``."""

    method: str
    headers: Sequence[tuple[str, str]]
    query: str
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """Whether a service takes work. ``checks`` are by name None, or what is wrong."""

    checks: Mapping[str, str | None]

    @property
    def is_ready(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.checks.values())


class Serving(Protocol):
    """A service that goes on, as the doors that it serves see it."""

    async def authenticate(self, token: str) -> "Principal":
        """Who is behind a token. Raises :class:`engine.tokens.UnauthenticatedError`."""

    def service(self, principal: "Principal") -> Service:
        """The service, acting for a principal."""

    def largest_body(self, hook: str) -> int:
        """Bytes that the body of a request to the webhook of a path may have.

        Raises:
            RejectedError: there is no such webhook.
        """

    async def take_hook(self, hook: str, request: "SentRequest") -> "HookAnswer":
        """Take a request to a webhook; see :meth:`engine.intake.hooks.Hooks.take`."""

    async def take_events(self, principal: "Principal", request: "SentRequest") -> Sequence["Accepted"]:
        """Take CloudEvents of a principal; see :func:`engine.intake.hooks.take_events`."""

    async def readiness(self) -> Readiness:
        """Whether it takes work."""

    async def metrics(self) -> bytes:
        """What Prometheus reads."""

    def requested(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered; ``route`` is its path with names for what varies."""

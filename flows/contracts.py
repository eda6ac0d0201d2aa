"""The contracts between the language and what plugs into it: step kinds, trigger kinds and tools.

A *kind* is the language's side of a plug-in: the YAML key and the model of its configuration. What executes it is a
:class:`StepExecutor`, built in ``steps`` and looked up by the same key. The language never executes anything.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol, Self

from flows.errors import RefusedError, StepboxError
from flows.masks import Masking
from flows.model import Config, StepConfig, TriggerConfig
from flows.values import Json, StepStatus

Effect = Literal["read", "write"]
OwnApprovals = Literal["allow", "refuse"]
"""Whether who asks for something may decide it."""
Isolation = Literal["container", "jail"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A problem that a kind finds in its own configuration.

    ``path`` leads from the step's (or trigger's) mapping to the place, as written in the YAML:
    ``("limits", "memory")``. ``message`` and ``fix`` are as in :class:`flows.errors.Problem`. ``at`` says whether the
    key of that path is wrong or its value; ``line`` (from 1) and ``column`` (from 0) are a place within a text.
    """

    path: tuple[str | int, ...]
    code: str
    message: str
    fix: str
    at: Literal["key", "value"] = "value"
    line: int | None = None
    column: int = 0


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """A field in which expressions are allowed, beyond those that every step or trigger has.

    ``path`` leads to it from the step's (or trigger's) mapping; everything below it is included. ``condition`` says
    that it is bare CEL, as ``if`` is. ``names`` are root names that only this field sees.
    """

    path: tuple[str, ...]
    condition: bool = False
    names: frozenset[str] = frozenset()
    run: bool = False
    """In a trigger: whether the names of the run (``inputs``, ``steps``, ``run``, ``output``) are there too."""


@dataclass(frozen=True, kw_only=True)
class Nature:
    """What making a call means: whether it changes anything, and whether making it twice is as making it once."""

    effect: Effect
    idempotent: bool


@dataclass(frozen=True, kw_only=True)
class ToolSpec:
    """What a tool takes and gives.

    ``name`` is the full name, ``provider.tool``; ``arguments`` and ``result`` are JSON Schemas (draft 2020-12).
    ``idempotent`` says that making the call twice leaves the world as making it once does. Where that, or the effect,
    depends on the arguments, ``nature_of`` says it of each call; ``effect`` and ``idempotent`` are then of the worst.
    ``in_store`` says that all it changes is in the store (``content`` and ``events`` of
    :class:`steps.tools.contract.ToolServices`), and that it is soon done, so that a call and its record are one
    transaction. ``approval`` says whether a person is asked before each
    call: the run waits meanwhile, and code is executed again after the decision.
    """

    name: str
    description: str
    arguments: Mapping[str, Json]
    result: Mapping[str, Json] = field(default_factory=dict)
    effect: Effect = "read"
    idempotent: bool = False
    nature_of: Callable[[Mapping[str, Json]], Nature] | None = None
    in_store: bool = False
    approval: Literal["never", "always"] = "never"

    def nature(self, arguments: Mapping[str, Json]) -> Nature:
        """What a call with these arguments, which match the schema, means."""
        if self.nature_of is not None:
            return self.nature_of(arguments)
        return Nature(effect=self.effect, idempotent=self.idempotent)

    @property
    def short_name(self) -> str:
        """The part after the last dot, by which code may call it where no other granted tool has the same."""
        return self.name.rpartition(".")[2]


class Catalogue(Protocol):
    """The tools that a flow may name."""

    def names(self) -> Iterable[str]: ...
    def get(self, name: str) -> ToolSpec | None:
        """The tool of that full name, or None."""


@dataclass(frozen=True, kw_only=True)
class StepKind:
    """One kind of step: its YAML key and the pydantic model of the whole step mapping.

    ``check`` finds what the model alone can't: it sees the parsed configuration and the catalogue. ``references``
    gives the places that name another step by id, outside expressions, with that id.
    """

    key: str
    config: type[StepConfig]
    check: Callable[[StepConfig, Catalogue], Iterable[Finding]] = lambda _config, _catalogue: ()
    references: Callable[[StepConfig], Iterable[tuple[tuple[str | int, ...], str]]] = lambda _config: ()
    wiring: tuple[Wiring, ...] = ()
    code: frozenset[str] = frozenset()
    """Keys whose text is executed, so that an expression in them would turn a value into code."""
    secrets: bool = False
    """Whether expressions in ``with`` see ``secrets``."""
    parks: bool = False
    """Whether it waits for people or time, so that ``defaults.retry`` and ``defaults.timeout`` aren't for it."""
    flow: Callable[[StepConfig], str | None] = lambda _config: None
    """The other flow that a step of this kind runs."""
    limits: type[Config] | None = None
    """The model of the key ``limits``, where the kind has one; ``defaults.limits`` are for it."""


@dataclass(frozen=True, kw_only=True)
class TriggerKind:
    """One kind of trigger: its YAML key and the pydantic model of the whole trigger mapping."""

    key: str
    config: type[TriggerConfig]
    check: Callable[[TriggerConfig], Iterable[Finding]] = lambda _config: ()
    wiring: tuple[Wiring, ...] = ()
    unique: Callable[[TriggerConfig], str | None] = lambda _config: None
    """What no two triggers of a flow may share, such as a webhook's path."""
    asks_inputs: bool = False
    """Whether whoever starts the run gives the inputs that ``with`` doesn't."""


@dataclass(frozen=True, kw_only=True)
class Registry:
    """The kinds that a definition may use, by key."""

    steps: Mapping[str, StepKind]
    triggers: Mapping[str, TriggerKind]


@dataclass(frozen=True, kw_only=True)
class StepError:
    """Why a step did not succeed, for a person and for ``${{ steps.ID.error.code }}``.

    ``line`` counts from 1 in the user's own code; ``traceback`` holds only the user's own frames.
    """

    code: str
    message: str
    line: int | None = None
    traceback: str | None = None
    fix: str | None = None

    @classmethod
    def of(cls, problem: StepboxError) -> Self:
        """An error of ours as the reason why a step did not succeed."""
        return cls(code=problem.code, message=problem.message, fix=problem.fix)


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file that a step left, and that is kept. ``path`` is relative, of at most 1,024 bytes in UTF-8.

    Of one item of a for-each its path begins with the item's index: ``3/report.csv``, where it is one of the step's.
    """

    id: str
    path: str
    size: int
    """Bytes."""
    sha256: str
    media_type: str


@dataclass(frozen=True, kw_only=True)
class CollectedFile:
    """A file that a step left, before it is kept: its path as the step had it, and where its content now lies."""

    path: str
    size: int
    sha256: str
    content: Path


@dataclass(frozen=True, kw_only=True)
class WorkFile:
    """A file that a step is to find: its path in the work directory, and where on this machine its content lies."""

    path: str
    size: int
    content: Path


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one attempt of a step came to. ``duration`` in seconds; ``isolation`` None where no code ran."""

    status: StepStatus
    result: Json = None
    error: StepError | None = None
    isolation: Isolation | None = None
    duration: float = 0.0
    tool_calls: int = 0
    egress: int = 0
    stdout: str = ""
    stderr: str = ""
    peak_memory: int | None = None
    """Bytes, as the host observed it; None where it can't be known."""
    cpu_time: float | None = None
    """Seconds of processor time, as the host observed it; None where it can't be known."""
    image: str | None = None
    """The image that its code ran in, by digest; None where there was none."""
    artifacts: tuple[Artifact, ...] = ()
    """The files that it left; of a for-each those of all items."""


@dataclass(frozen=True, kw_only=True)
class EgressDecision:
    """What was decided on one request of a step's code over the network.

    ``host`` is as it was judged, or as the code wrote it where that is no host (``port`` is then 0); ``address`` the
    one that was connected to. ``reason`` says why the request wasn't made: by policy, or for what happened to an
    allowed one.
    """

    host: str
    port: int
    address: str | None = None
    allowed: bool
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a step asks a person, who says yes or no.

    ``details`` is exactly what will happen; ``form`` the JSON Schema of the values that a yes comes with; ``approvers``
    who may decide, by principal or role (empty: whoever may approve); ``own`` whether who asks may be one of them
    (None: as the workspace has it); ``notify`` the names of secrets with the addresses to tell of it; ``timeout`` in
    seconds, None: for ever.
    """

    message: str
    details: Json = None
    form: Mapping[str, Json] | None = None
    approvers: tuple[str, ...] = ()
    own: OwnApprovals | None = None
    notify: tuple[str, ...] = ()
    timeout: float | None = None
    on_timeout: Literal["fail", "reject"] = "fail"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question as it stands: ``decision`` is None while nobody has decided, and its time isn't over."""

    id: str
    decision: Literal["approved", "rejected", "timed_out", "withdrawn"] | None = None
    by: str | None = None
    at: datetime | None = None
    comment: str | None = None
    values: Json = None


@dataclass(frozen=True, kw_only=True)
class Awaited:
    """What a step waits for: ``until`` a time, for so many ``seconds``, or for an ``event``, ``seconds`` at most.

    ``event`` is the type of event, in which ``*`` stands for any text. ``match`` is a condition on it that sees
    ``names`` besides ``event``; None: any event of the type.
    """

    until: datetime | None = None
    seconds: float | None = None
    event: str | None = None
    match: str | None = None
    names: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Waited:
    """A wait as it stands: over once ``ended_at`` is there, by ``event`` where it has one, else since it was time."""

    since: datetime
    until: datetime | None
    ended_at: datetime | None = None
    event: Mapping[str, Json] | None = None


def waiting(message: str, *, fix: str | None = None) -> StepResult:
    """What a step comes to that can't go on yet: the run is parked, and the step attempted again once it goes on."""
    return StepResult(status=StepStatus.WAITING, error=StepError(code="waiting", message=message, fix=fix))


class StepCall(Protocol):
    """One attempt of one step, as the engine hands it to the executor.

    ``inputs`` is the step's ``with`` with every expression resolved.
    """

    @property
    def workspace(self) -> str:
        """The workspace of the run."""

    @property
    def run_id(self) -> str: ...
    @property
    def step_id(self) -> str: ...
    @property
    def attempt(self) -> int:
        """Counts from 1."""

    @property
    def inputs(self) -> Mapping[str, Json]: ...
    @property
    def secrets(self) -> Mapping[str, str]:
        """The values of the secrets that its code is given, by name."""

    @property
    def mask(self) -> Masking | None:
        """What hides the secrets of the run in what the step prints; None where it has none."""

    async def log(self, stream: Literal["stdout", "stderr"], line: str) -> None:
        """Record one line of output, without its line end, as it comes."""

    async def call_tool(self, name: str, arguments: Json) -> Json:
        """Call a tool by full name on behalf of the run.

        Raises:
            flows.errors.StepboxError: the tool is unknown, not granted, its arguments are invalid or it failed.
        """

    async def record_egress(self, decision: EgressDecision) -> str:
        """Record a decision as it is made; gives the record's id. One with a ``reason`` is over with that."""

    async def finish_egress(self, record: str, *, sent: int, received: int, reason: str | None = None) -> None:
        """Record the end of a request that was let through: its bytes each way, and why it broke off, if it did."""

    async def fetch_artifacts(self, names: Sequence[str]) -> Sequence[WorkFile]:
        """The artifacts of earlier steps of those names, as ``files`` has them: ``STEP/NAME``, ``STEP/*``.

        They are there, and complete, until the attempt ends.

        Raises:
            flows.errors.StepboxError: there is none of a name, or its content can't be had.
        """

    def artifact_directory(self) -> Path:
        """A directory, made when first asked for, to write files into that the step leaves; the attempt's alone."""

    async def keep_artifacts(self, files: Sequence[CollectedFile]) -> tuple[Artifact, ...]:
        """Keep files from that directory for good. They are the step's once the attempt's result has them.

        Raises:
            flows.errors.StepboxError: they can't be kept.
        """

    async def ask(self, question: Question) -> Asked:
        """How a question stands; the first attempt of a step (or item) that asks it puts it."""

    async def wait(self, awaited: Awaited) -> Waited:
        """How the wait of a step (or item) stands; the first attempt says what for."""

    async def run_flow(self, name: str, inputs: Mapping[str, Json]) -> StepResult:
        """Run another flow as a child of this run and wait for its end."""


class StepExecutor(Protocol):
    """Executes steps of one kind. Failing user code is a :class:`StepResult`, not an exception."""

    @property
    def isolation(self) -> Isolation | None:
        """What its steps are isolated by; None where no code runs."""

    async def refusal(self, config: StepConfig) -> RefusedError | None:
        """What the step asks for that can't be had or enforced here, so that its flow isn't begun; None: nothing."""

    def expect(self, config: StepConfig, count: int) -> None:
        """A hint that the step is about to be executed this many times, so that what it needs can be made ready."""

    async def execute(self, config: StepConfig, call: StepCall) -> StepResult: ...

"""What a sandbox is to the rest of Stepbox: one protocol, two runners.

A :class:`Runner` starts sandboxes; a :class:`Sandbox` takes one :class:`Job`, once, and is destroyed. Everything a
guest says is hostile: the outcome's status, durations and counts are the host's own observations.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from flows.contracts import CollectedFile, EgressDecision, Isolation, StepError, WorkFile
from flows.errors import RefusedError
from flows.masks import Masking
from flows.values import Json, StepStatus
from steps.addresses import Endpoint, Resolver, resolve
from steps.allowlist import Allowlist
from steps.sandbox.limits import Language, Limits

Enforcement = Literal["hard", "watched", "missing"]
HEAP_SHARE = 0.6
"""Of a JavaScript step's memory, for V8's old space; the rest is for its young space, its code and deno itself."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What must be known when a sandbox starts; a ready sandbox serves only jobs of its own profile.

    ``preload`` names Python modules imported before the sandbox reports ready; ``disk`` and ``memory`` in bytes.
    """

    language: Language
    preload: frozenset[str] = frozenset()
    disk: int
    memory: int
    network: bool = False
    """Whether JavaScript may open connections; other languages always can, and reach nothing without a proxy."""
    runtime: str | None = None
    """The container runtime by name; None: the one that the installation is set to."""
    limits: Limits | None = None
    """Limits to start with, where they can't be set later; None: those of the language."""
    sidecar: bool = False
    """Whether no code runs in it: it prepares and reads the work directory of a container of another image."""


def guest_settings(profile: Profile) -> list[str]:
    """What the supervisor is told at its start (guest/supervisor.py), each ``KEY=VALUE``."""
    if profile.language != "javascript":
        return []
    heap = f"heap={max(int(profile.memory * HEAP_SHARE / 2**20), 16)}"
    return [heap, "network=1"] if profile.network else [heap]


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long the host waits, in seconds, while it makes a request for code."""

    head: float = 30.0
    """For the head of a request, and for the beginning of TLS in a tunnel."""
    look_up: float = 5.0
    connect: float = 10.0
    """For all addresses of a host together."""
    idle: float = 60.0
    """With nothing moving in either direction."""


async def _nothing(host: str) -> str | None:  # noqa: ARG001 - whatever it is
    return None


@dataclass(frozen=True, kw_only=True)
class Network:
    """What a job may reach and how.

    ``internal`` are the destinations that may be reached though not public, where ``allow`` has them too;
    ``authorities`` certificates (PEM) that the code should trust besides the usual ones. ``denied_by`` is asked for
    each request: what denies its host, whatever ``allow`` has; None: nothing does.
    """

    allow: Allowlist
    internal: frozenset[Endpoint] = frozenset()
    resolver: Resolver = resolve
    authorities: bytes = b""
    denied_by: Callable[[str], Awaitable[str | None]] = _nothing
    timeouts: Timeouts = Timeouts()


class Journal(Protocol):
    """Where a job's requests over the network are recorded."""

    async def record_egress(self, decision: EgressDecision) -> str:
        """As :meth:`flows.contracts.StepCall.record_egress`."""

    async def finish_egress(self, record: str, *, sent: int, received: int, reason: str | None = None) -> None:
        """As :meth:`flows.contracts.StepCall.finish_egress`."""


@dataclass(frozen=True, kw_only=True)
class ContainerCommand:
    """What a job runs in a container of an image of its own, beside a sandbox.

    ``image`` is the id of ``reference``, and ``digest`` how records name it for good. ``command`` is a program and its
    arguments, ``directory`` where it starts, and ``stop_signal`` what asks it to end. ``variables`` are the names of
    those that the image sets, ``volumes`` its directories that get file systems in memory.
    """

    reference: str
    image: str
    digest: str
    command: tuple[str, ...]
    directory: str = "/work"
    stop_signal: str = "SIGTERM"
    variables: frozenset[str] = frozenset()
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Job:
    """One execution of user code.

    ``code`` is the user's text; ``filename`` what tracebacks call it; ``tools`` the full names of the granted tools.
    """

    language: Language
    code: str
    inputs: Mapping[str, Json]
    limits: Limits
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By name, the values of the secrets that the code is given."""
    mask: Masking | None = None
    """What nobody may see of its output; None: nothing."""
    tools: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    filename: str = "step"
    network: Network | None = None
    """None: the code reaches nothing."""
    journal: Journal | None = None
    """A job with a network has one."""
    runtime: str | None = None
    """The container runtime that the step asks for by name; None: the one that the installation is set to."""
    files: tuple[WorkFile, ...] = ()
    """What the code finds in its work directory. They fit there (:func:`steps.sandbox.artifacts.misfit`)."""
    artifact_directory: Callable[[], Path] | None = None
    """Makes the directory into which the files are written that the code leaves; None: they aren't collected."""
    container: ContainerCommand | None = None
    """What runs instead of ``code``; ``language`` is then ``shell``, by whose rules the result is read."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the host observed of one job. Times in seconds, memory in bytes; ``exit_status`` as a shell gives it."""

    status: StepStatus
    result: Json = None
    error: StepError | None = None
    isolation: Isolation
    duration: float
    stdout: str = ""
    stderr: str = ""
    truncated: bool = False
    """Whether output beyond the limit was dropped."""
    exit_status: int | None = None
    peak_memory: int | None = None
    cpu_time: float | None = None
    tool_calls: int = 0
    egress: int = 0
    """Requests over the network, made or not."""
    image: str | None = None
    """The image that it ran in, by digest; None where there was none."""
    artifacts: tuple[CollectedFile, ...] = ()
    """The files that it left."""


class LimitUnavailableError(RefusedError):
    """A limit that can't be enforced on this machine."""

    code = "limit_unavailable"


class RuntimeUnavailableError(RefusedError):
    """The container runtime that was asked for can't be had."""

    code = "runtime_unavailable"


class SandboxLostError(Exception):
    """A sandbox ended before it took its job: nothing of the job has run, and another sandbox may take it."""


class SandboxUnfitError(Exception):
    """A sandbox can't be given the limits of its job any more: nothing has run, and one started with them will do."""


class Host(Protocol):
    """What a running job can reach of the host: its log and its tools."""

    async def log(self, stream: Literal["stdout", "stderr"], line: str) -> None: ...
    async def call_tool(self, name: str, arguments: Json) -> Json:
        """Raises :class:`flows.errors.StepboxError`, whose code and message the code sees as an error."""


class Sandbox(Protocol):
    """One started, single-use sandbox, blocked until its job comes."""

    @property
    def profile(self) -> Profile: ...
    @property
    def alive(self) -> bool:
        """Whether it can still take its job, as far as is known."""

    async def ended(self) -> None:
        """Returns once the sandbox has ended, for whatever reason."""

    async def execute(self, job: Job, host: Host) -> Outcome:
        """Run the job to its end and destroy the sandbox. Cancelling this kills the job and destroys it too.

        Raises:
            SandboxLostError: the sandbox ended before it took the job.
            SandboxUnfitError: the job's limits had to be there when the sandbox started.
            flows.errors.RefusedError: a limit of the job can't be enforced here; nothing has run.
        """

    async def close(self) -> None:
        """Destroy an unused sandbox."""


class Runner(Protocol):
    """Starts sandboxes by one isolation technique."""

    @property
    def isolation(self) -> Isolation: ...
    async def enforcement(self) -> Mapping[str, Enforcement]:
        """How each limit is enforced on this machine: timeout, memory, cpu, pids, disk, output, network."""

    async def refusal(self, limits: Limits, runtime: str | None = None) -> RefusedError | None:
        """The limit, or the container runtime, that can't be had on this machine; None: all can.

        ``runtime`` is a name, None for the one that the installation is set to.
        """

    async def start(self, profile: Profile) -> Sandbox:
        """Start a sandbox and wait until it is ready.

        Raises:
            flows.errors.RefusedError: the isolation can't be had on this machine; the message says why and the fix.
        """

    async def close(self) -> None:
        """Destroy what is left and remove what the runner made on the machine (cgroups, directories)."""

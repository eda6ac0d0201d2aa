"""The use cases every door calls, and the values they take and give.

One protocol, so that a command works on this machine's installation or on a remote service alike. Nothing here
imports prefect or the database.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from engine.progress import Observer
from engine.records import ArtifactRecord, EgressRecord, FlowSummary, FlowVersion, LogLine, RunSummary, SecretSummary
from engine.report import RunReport
from flows.contracts import Artifact, StepResult
from flows.definition import Definition
from flows.values import Json, RunStatus
from steps.sandbox.limits import Language as CodeLanguage

if TYPE_CHECKING:
    from engine.diagnosis import Diagnosis, Tried
    from steps.sandbox.select import RunnerName


@dataclass(frozen=True, kw_only=True)
class FlowText:
    """A flow as a caller hands it over. ``directory`` is where its ``file:`` paths and its subflows are looked for."""

    text: bytes
    path: str
    directory: Path


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


class Service(Protocol):
    """What the doors can ask for."""

    def load(self, flow: FlowText) -> Definition:
        """Read a definition without keeping it. Raises :class:`flows.errors.InvalidFlowError`."""

    async def run(
        self, definition: Definition, inputs: Mapping[str, Json], observer: Observer, *, directory: Path
    ) -> RunReport:
        """Run a flow to its end; see :meth:`engine.runs.Runs.run`. ``directory`` is as in :class:`FlowText`."""

    async def definition_of(self, run: str) -> Definition:
        """The definition that a run is of, as it was when the run began. Raises as :meth:`run_report`."""

    async def resume(self, run: str, observer: Observer) -> RunReport:
        """Continue a run whose engine has ended, where it is unfinished; see :meth:`engine.runs.Runs.resume`.

        Raises:
            InvalidCallError: there is no such run, it has ended, an engine drives it, or it is a part of another run.
            RefusedError: a step asks for what can't be had or enforced here; the run stays as it is.
        """

    async def abandoned(self) -> Sequence[RunSummary]:
        """The runs that have begun and that no engine drives, the oldest first; not those that are parts of others."""

    async def execute(self, snippet: Snippet | ImageSnippet, observer: Observer) -> StepResult:
        """Execute code, or a command of an image, by itself.

        Raises:
            InvalidCallError: an unknown tool, inputs that can't be passed.
            RefusedError: what it asks for can't be had or enforced here.
        """

    async def apply(self, flows: Sequence[FlowText]) -> Sequence[FlowVersion]:
        """Keep flows as new versions, all of them or none. An unchanged flow keeps its version.

        Raises:
            InvalidFlowError: one or more are not valid; the problems of all of them.
        """

    async def flows(self) -> Sequence[FlowSummary]:
        """The flows that the installation knows, by name."""

    async def flow(self, name: str) -> FlowVersion:
        """The latest version of a flow. Raises :class:`flows.errors.InvalidCallError` where there is none."""

    async def runs(self, *, flow: str | None, status: RunStatus | None, limit: int) -> Sequence[RunSummary]:
        """Runs, the newest first."""

    async def run_report(self, run: str) -> RunReport:
        """A run and its steps, by id or by enough of its beginning. Raises InvalidCallError where there is none."""

    async def run_logs(self, run: str, *, step: str | None) -> Sequence[LogLine]:
        """What the code of a run printed, in order."""

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

    async def diagnose(self, notice: "Callable[[Tried], None]", *, runner: "RunnerName | None" = None) -> "Diagnosis":
        """Prove what each runner guarantees where the service runs, by trying to break it; see :mod:`engine.doctor`.

        ``notice`` hears of each guarantee once it is tried; ``runner`` is the only one to examine.
        """

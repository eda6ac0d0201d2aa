"""What an attempt of a step calls: it prints, uses tools and the network, asks, waits, and starts flows."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from engine.artifacts import AttemptArtifacts
from engine.asking import Asking
from engine.audit import Target
from engine.policy import ForbiddenError
from engine.progress import LineLogged
from engine.records import LogLine
from engine.run_secrets import (
    Given,
    masked_egress,
    masked_files,
    masked_question,
)
from engine.tool_calls import Caller
from engine.waiting import fits
from flows.contracts import (
    Artifact,
    Asked,
    Awaited,
    CollectedFile,
    EgressDecision,
    Question,
    StepResult,
    Waited,
)
from flows.errors import RefusedError
from flows.model import StepConfig
from flows.values import Json
from steps.code import SandboxConfig
from steps.tool import ToolStep
from steps.tools.contract import NotGrantedError

if TYPE_CHECKING:
    from engine.attempts import Attempts, Origin, Work


class Call:
    """What an executor sees of one attempt (:class:`flows.contracts.StepCall`)."""

    def __init__(self, attempts: "Attempts", work: "Work", origin: "Origin", given: Given) -> None:
        self.secrets = given.values
        self.mask = given.mask
        self._attempts = attempts
        self._work = work
        self._origin = origin
        self.attempt = work.made
        self.asking = Asking(attempts.store, run_id=attempts.run.id, step_id=work.step.id, item=work.item)
        self.artifacts = AttemptArtifacts(attempts.artifacts, attempts.store.artifacts.contents)
        self.fetch_artifacts = self.artifacts.fetch
        self.artifact_directory = self.artifacts.directory
        self._journal = attempts.tools.journal(
            run_id=attempts.run.id,
            step_id=work.step.id,
            item=work.item,
            attempt=work.made,
            one_call=isinstance(work.step, ToolStep),
        )

    @property
    def workspace(self) -> str:
        return self._attempts.run.workspace

    @property
    def run_id(self) -> str:
        return self._attempts.run.id

    @property
    def step_id(self) -> str:
        return self._work.step.id

    @property
    def inputs(self) -> Mapping[str, Json]:
        return self._work.inputs

    async def keep_artifacts(self, files: Sequence[CollectedFile]) -> tuple[Artifact, ...]:
        return await self.artifacts.keep(files if self.mask is None else masked_files(files, self.mask))

    async def log(self, stream: Literal["stdout", "stderr"], line: str) -> None:
        logged = LogLine(
            run_id=self.run_id,
            step_id=self.step_id,
            item=self._work.item,
            attempt=self.attempt,
            stream=stream,
            line=line if self.mask is None else self.mask.text(line),
            at=datetime.now(UTC),
        )
        self._attempts.observer.notice(LineLogged(line=logged))
        await self._attempts.logbook.append(logged)

    async def call_tool(self, name: str, arguments: Json) -> Json:
        owner, step = self._attempts, self._work.step
        self._work.tool_calls += 1
        caller = Caller(
            workspace=owner.run.workspace,
            principal=owner.run.principal,
            flow=owner.run.flow,
            run_id=owner.run.id,
            step_id=step.id,
            item=self._work.item,
            attempt=self.attempt,
            tools_granted=frozenset(_granted(step)),
            host_directories=() if isinstance(step, SandboxConfig) else owner.host_directories,
            journal=self._journal,
            asking=self.asking,
            observer=owner.observer,
            mask=self.mask,
        )
        if isinstance(step, ToolStep) and self.secrets:
            shown, arguments = arguments, self._work.with_secrets(self.secrets)
        else:
            shown = arguments
        try:
            return await self.asking.make(lambda: owner.tools.call(name, arguments, caller, shown=shown))
        except (NotGrantedError, ForbiddenError, RefusedError) as refused:
            await owner.refusals.note_of_run(
                refused, owner.run, action="tool.call", target=Target(kind="tool", id=name)
            )
            raise

    async def record_egress(self, decision: EgressDecision) -> str:
        owner = self._attempts
        decision = decision if self.mask is None else masked_egress(decision, self.mask)
        record = await owner.store.egress.record(
            self.run_id, self.step_id, decision, attempt=self.attempt, item=self._work.item
        )
        return record.id

    async def finish_egress(self, record: str, *, sent: int, received: int, reason: str | None = None) -> None:
        reason = reason if reason is None or self.mask is None else self.mask.text(reason)
        await self._attempts.store.egress.finish(record, sent=sent, received=received, reason=reason)

    async def ask(self, question: Question) -> Asked:
        question = question if self.mask is None else masked_question(question, self.mask)
        return await self._attempts.store.approvals.ask(self.run_id, self.step_id, question, item=self._work.item)

    async def wait(self, awaited: Awaited) -> Waited:
        waits = self._attempts.store.waits
        return await waits.look(self.run_id, self.step_id, awaited, fits=fits, item=self._work.item)

    async def run_flow(self, name: str, inputs: Mapping[str, Json]) -> StepResult:
        return await self._attempts.children.run_child(name, inputs, self._origin)


def _granted(step: StepConfig) -> list[str]:
    """The tools that a step may call: a tool step its tool, code those it names."""
    if isinstance(step, SandboxConfig):
        return step.tools
    return [step.tool] if isinstance(step, ToolStep) else []

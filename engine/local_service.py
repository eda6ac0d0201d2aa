"""The service on this machine's own installation."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine import snippets
from engine.bootstrap.parts import WORKSPACE, Parts
from engine.flow_sources import RecordedFlows, SiblingFlows, StoredFlows
from engine.heartbeat import is_abandoned, looked_after
from engine.progress import Notice, Observer
from engine.records import (
    ArtifactRecord,
    EgressRecord,
    FlowSummary,
    FlowVersion,
    LogLine,
    Run,
    RunSummary,
    SecretSummary,
)
from engine.report import RunReport, report
from engine.runs import NotResumableError, Plan, Runs, UnknownFlowError
from engine.service import FlowText, ImageSnippet, Snippet
from engine.snippets import DirectDriver, snippet_definition
from engine.store.errors import RunDrivenError
from flows.contracts import Artifact, StepResult
from flows.definition import Definition
from flows.errors import InvalidFlowError, Problem
from flows.values import Json, RunStatus, StepStatus
from steps.code import PythonStep
from steps.sandbox import interpreter

if TYPE_CHECKING:
    from engine.diagnosis import Diagnosis, Tried
    from steps.sandbox.select import RunnerName


class LocalService:
    """Everything in this process, on the home directory of the settings. Parts are opened when first needed."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._language = parts.language
        self._driven_by_prefect: Runs | None = None

    async def close(self) -> None:
        """Close what was opened, the last first."""
        await self._parts.close()

    def load(self, flow: FlowText) -> Definition:
        return self._language.load_text(flow.text, path=flow.path, directory=flow.directory)

    async def run(
        self, definition: Definition, inputs: Mapping[str, Json], observer: Observer, *, directory: Path
    ) -> RunReport:
        store = await self._parts.store()
        source = SiblingFlows(directory, self._language, StoredFlows(store, self._language, WORKSPACE))
        runs = await self._runs()
        plan = await runs.plan(definition, inputs, source)
        await _prepare_interpreter(plan, observer)
        own = await asyncio.to_thread(directory.resolve)
        return await runs.run(plan, observer=observer, trigger=_BY_HAND, host_directories=(own,))

    async def definition_of(self, run: str) -> Definition:
        store = await self._parts.store()
        found = await store.runs.find(run, workspace=WORKSPACE)
        return await self._recorded(found)

    async def resume(self, run: str, observer: Observer) -> RunReport:
        store = await self._parts.store()
        found = await store.runs.find(run, workspace=WORKSPACE)
        await self._refuse_to_resume(found)
        runs = await self._runs()
        plan = await runs.plan(await self._recorded(found), found.inputs, RecordedFlows(store, self._language, found))
        await _prepare_interpreter(plan, observer)
        return await runs.resume(plan, found, observer=observer)

    async def abandoned(self) -> Sequence[RunSummary]:
        store = await self._parts.store()
        found: list[RunSummary] = []
        cursor: str | None = None
        while True:
            page = await store.runs.list(workspace=WORKSPACE, status=RunStatus.RUNNING, limit=200, cursor=cursor)
            found += [looked_after(run) for run in page.items if run.parent_id is None]
            cursor = page.next
            if cursor is None:
                return [run for run in reversed(found) if run.abandoned]

    async def _recorded(self, run: Run) -> Definition:
        version = await (await self._parts.store()).flows.get(run.flow_version_id)
        return self._language.load_stored(version.text, dict(version.files), path=f"{run.flow} v{version.number}")

    async def _refuse_to_resume(self, run: Run) -> None:
        if run.ended_at is not None:
            raise NotResumableError(
                f"run {run.id} has already {run.status.value}", fix=f"see it with: stepbox runs show {run.id}"
            )
        if run.parent_id is not None:
            raise NotResumableError(
                f"run {run.id} is a part of run {run.parent_id}", fix=f"stepbox runs resume {run.parent_id}"
            )
        if run.status is RunStatus.RUNNING and not is_abandoned(run):
            raise RunDrivenError(run.id, run.owner)

    async def _runs(self) -> Runs:
        if self._driven_by_prefect is None:
            self._driven_by_prefect = await self._parts.runs(self._parts.orchestrator)
        return self._driven_by_prefect

    async def execute(self, snippet: Snippet | ImageSnippet, observer: Observer) -> StepResult:
        definition = snippet_definition(snippet, self._language)
        driver = DirectDriver()
        runs = await self._parts.runs(driver)
        stored = StoredFlows(await self._parts.store(), self._language, WORKSPACE)
        plan = await runs.plan(definition, snippet.inputs, stored)
        await _prepare_interpreter(plan, observer)
        outcome = await runs.run(plan, observer=observer, trigger=_BY_HAND)
        return driver.result or StepResult(status=StepStatus.FAILED, error=outcome.run.error)

    async def apply(self, flows: Sequence[FlowText]) -> Sequence[FlowVersion]:
        definitions: list[Definition] = []
        problems: list[Problem] = []
        for flow in flows:
            try:
                definitions.append(self.load(flow))
            except InvalidFlowError as invalid:
                problems.extend(invalid.problems)
        if problems:
            raise InvalidFlowError(problems)
        store = await self._parts.store()
        return await store.flows.put_versions(WORKSPACE, definitions)

    async def flows(self) -> Sequence[FlowSummary]:
        summaries = await (await self._parts.store()).flows.list(workspace=WORKSPACE)
        return [summary for summary in summaries if summary.flow != snippets.FLOW]

    async def flow(self, name: str) -> FlowVersion:
        version = await (await self._parts.store()).flows.current(name, workspace=WORKSPACE)
        if version is None:
            raise UnknownFlowError(f"there is no flow '{name}'", fix="see the names with: stepbox flows list")
        return version

    async def runs(self, *, flow: str | None, status: RunStatus | None, limit: int) -> Sequence[RunSummary]:
        store = await self._parts.store()
        page = await store.runs.list(workspace=WORKSPACE, flow=flow, status=status, limit=limit)
        return [looked_after(run) for run in page.items]

    async def run_report(self, run: str) -> RunReport:
        store = await self._parts.store()
        found = await store.runs.find(run, workspace=WORKSPACE)
        return report(looked_after(found), await store.steps.summaries(found.id))

    async def run_logs(self, run: str, *, step: str | None) -> Sequence[LogLine]:
        store = await self._parts.store()
        found = await store.runs.find(run, workspace=WORKSPACE)
        lines: list[LogLine] = []
        cursor: int | None = None
        while True:
            page = await store.logs.list(found.id, step_id=step, cursor=cursor)
            lines.extend(page.items)
            if page.next is None:
                return lines
            cursor = int(page.next)

    async def run_egress(self, run: str) -> Sequence[EgressRecord]:
        store = await self._parts.store()
        found = await store.runs.find(run, workspace=WORKSPACE)
        return await store.egress.list(found.id)

    async def set_secret(self, name: str, value: str, *, keep_old: bool) -> SecretSummary:
        return await (await self._parts.secrets()).put(WORKSPACE, name, value, keep_old=keep_old)

    async def secrets(self) -> Sequence[SecretSummary]:
        return await (await self._parts.secrets()).list(WORKSPACE)

    async def delete_secret(self, name: str, *, old_only: bool) -> int:
        return await (await self._parts.secrets()).delete(WORKSPACE, name, old_only=old_only)

    async def run_artifacts(self, run: str) -> Sequence[ArtifactRecord]:
        store = await self._parts.store()
        found = await store.runs.find(run, workspace=WORKSPACE)
        return await store.artifacts.list(found.id)

    async def fetch_artifacts(self, artifacts: Sequence[Artifact]) -> Sequence[Path]:
        contents = (await self._parts.store()).artifacts.contents
        return await contents.fetch(artifacts, contents.spool.directory)

    async def diagnose(self, notice: "Callable[[Tried], None]", *, runner: "RunnerName | None" = None) -> "Diagnosis":
        from engine.doctor import diagnose  # noqa: PLC0415 - only this use case needs it

        return await diagnose(self._parts.settings, self._parts.runner, notice, only=runner)


_BY_HAND: Mapping[str, Json] = {"trigger": {"kind": "manual"}}


async def _prepare_interpreter(plan: Plan, observer: Observer) -> None:
    """Build the environment of Python steps where the flow has some and it isn't there yet."""
    definitions = (plan.definition, *plan.subflows.values())
    if any(isinstance(step, PythonStep) for one in definitions for step in one.steps.values()):
        await interpreter.ensure(lambda message: observer.notice(Notice(kind="setup", message=message)))

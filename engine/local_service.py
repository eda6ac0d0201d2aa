"""The service on this machine's own installation."""

import asyncio
import importlib
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from engine import snippets
from engine.execution import Execution, RunOutcome
from engine.flow_sources import SiblingFlows, StoredFlows
from engine.language import Language
from engine.orchestrator.environment import prepare
from engine.progress import Notice, Observer
from engine.records import FlowSummary, FlowVersion, LogLine, RunSummary
from engine.report import RunReport, report
from engine.runs import Driver, Plan, Runs, UnknownFlowError
from engine.service import FlowText, Snippet
from engine.settings import Settings
from engine.snippets import DirectDriver, snippet_definition
from engine.store import Store
from engine.tool_calls import ToolCaller
from flows.contracts import StepExecutor, StepResult
from flows.definition import Definition
from flows.errors import InvalidFlowError, Problem
from flows.model import StepConfig
from flows.values import Json, RunStatus
from steps.code import JavaScriptStep, PythonStep, ShellStep
from steps.sandbox import interpreter
from steps.sandbox.executor import CodeExecutor
from steps.sandbox.pool import Sandboxes
from steps.sandbox.select import choose
from steps.subflow import SubflowExecutor, SubflowStep
from steps.tool import ToolExecutor, ToolStep
from steps.tools.contract import ToolServices

WORKSPACE = "default"


class LocalService:
    """Everything in this process, on the home directory of the settings. Parts are opened when first needed."""

    def __init__(self, *, settings: Settings, language: Language) -> None:
        self._settings = settings
        self._language = language
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._open_store: Store | None = None

    async def close(self) -> None:
        """Close what was opened, the last first."""
        await self._stack.aclose()

    def load(self, flow: FlowText) -> Definition:
        return self._language.load_text(flow.text, path=flow.path, directory=flow.directory)

    async def run(self, flow: FlowText, inputs: Mapping[str, Json], observer: Observer) -> RunReport:
        store = await self._store()
        source = SiblingFlows(flow.directory, self._language, StoredFlows(store, self._language, WORKSPACE))
        runs = await self._runs(_Prefect(self._settings, self._stack))
        plan = await runs.plan(self.load(flow), inputs, source)
        await _prepare_interpreter(plan, observer)
        directory = flow.directory.resolve()
        return await runs.run(plan, observer=observer, trigger=_BY_HAND, host_directories=(directory,))

    async def execute(self, snippet: Snippet, observer: Observer) -> StepResult:
        definition = snippet_definition(snippet, self._language)
        driver = DirectDriver()
        runs = await self._runs(driver)
        plan = await runs.plan(definition, snippet.inputs, StoredFlows(await self._store(), self._language, WORKSPACE))
        await _prepare_interpreter(plan, observer)
        await runs.run(plan, observer=observer, trigger=_BY_HAND)
        assert driver.result is not None
        return driver.result

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
        store = await self._store()
        async with store.transaction():
            return [
                await store.flows.put_version(WORKSPACE, one.flow.flow, one.text, one.files, one.digest)
                for one in definitions
            ]

    async def flows(self) -> Sequence[FlowSummary]:
        summaries = await (await self._store()).flows.list(workspace=WORKSPACE)
        return [summary for summary in summaries if summary.flow != snippets.FLOW]

    async def flow(self, name: str) -> FlowVersion:
        version = await (await self._store()).flows.current(name, workspace=WORKSPACE)
        if version is None:
            raise UnknownFlowError(f"there is no flow '{name}'", fix="see the names with: stepbox flows list")
        return version

    async def runs(self, *, flow: str | None, status: RunStatus | None, limit: int) -> Sequence[RunSummary]:
        store = await self._store()
        return (await store.runs.list(workspace=WORKSPACE, flow=flow, status=status, limit=limit)).items

    async def run_report(self, run: str) -> RunReport:
        store = await self._store()
        found = await store.runs.find(run, workspace=WORKSPACE)
        return report(found, await store.steps.list(found.id))

    async def run_logs(self, run: str, *, step: str | None) -> Sequence[LogLine]:
        store = await self._store()
        found = await store.runs.find(run, workspace=WORKSPACE)
        lines: list[LogLine] = []
        cursor: int | None = None
        while True:
            page = await store.logs.list(found.id, step_id=step, cursor=cursor)
            lines.extend(page.items)
            if page.next is None:
                return lines
            cursor = int(page.next)

    async def _store(self) -> Store:
        async with self._opening:
            if self._open_store is None:
                home = self._settings.home
                home.make()
                store = await Store.open(self._settings.database_url, files=home.files)
                self._open_store = await self._stack.enter_async_context(store)
            return self._open_store

    async def _runs(self, driver: Driver) -> Runs:
        store = await self._store()
        sandboxes = Sandboxes(choose(self._settings.runner.runner), concurrency=self._settings.runner.concurrency)
        self._stack.push_async_callback(sandboxes.close)
        code = CodeExecutor(sandboxes, min_isolation=self._settings.runner.min_isolation)
        executors: dict[type[StepConfig], StepExecutor] = {
            PythonStep: code,
            JavaScriptStep: code,
            ShellStep: code,
            ToolStep: ToolExecutor(),
            SubflowStep: SubflowExecutor(),
        }
        services = ToolServices(
            content=store.content,
            shared=str(self._settings.home.shared),
            internal=self._settings.network.internal,
            ca_file=self._settings.network.ca_file,
        )
        tools = ToolCaller(catalogue=self._language.catalogue, services=services, store=store)
        return Runs(workspace=WORKSPACE, store=store, executors=executors, tools=tools, driver=driver)


_BY_HAND: Mapping[str, Json] = {"trigger": {"kind": "manual"}}


class _Prefect:
    """The orchestrator, imported with prefect when the first run needs it, while the sandboxes are starting."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._opening = asyncio.Lock()
        self._orchestrator: Driver | None = None

    async def run(self, execution: Execution) -> RunOutcome:
        async with self._opening:
            if self._orchestrator is None:
                home, api_url = self._settings.home.home, self._settings.prefect.prefect_api_url
                prepare(home, api_url)
                gears: Any = await asyncio.to_thread(importlib.import_module, "engine.orchestrator.prefect_gears")
                orchestrator = gears.Orchestrator(api_url=api_url, cache_dir=home / "cache")
                self._orchestrator = await self._stack.enter_async_context(orchestrator)
        assert self._orchestrator is not None
        return await self._orchestrator.run(execution)


async def _prepare_interpreter(plan: Plan, observer: Observer) -> None:
    """Build the environment of Python steps where the flow has some and it isn't there yet."""
    definitions = (plan.definition, *plan.subflows.values())
    if any(isinstance(step, PythonStep) for one in definitions for step in one.steps.values()):
        await interpreter.ensure(lambda message: observer.notice(Notice(kind="setup", message=message)))

"""The service on this machine's own installation."""

import asyncio
import importlib
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from ulid import ULID

from engine.code_execution import CodeExecution
from engine.flow_sources import SiblingFlows, StoredFlows
from engine.language import Language
from engine.progress import Observer
from engine.records import FlowSummary, FlowVersion, LogLine, RunSummary
from engine.report import RunReport, report
from engine.runs import Driver, Runs
from engine.service import FlowText, Snippet
from engine.settings import Settings
from engine.snippets import execute_snippet
from engine.store import Store
from engine.tool_calls import ToolCaller
from flows.contracts import StepResult
from flows.definition import Definition
from flows.errors import InvalidCallError, InvalidFlowError, Problem
from flows.values import Json, RunStatus

WORKSPACE = "default"


class UnknownFlowError(InvalidCallError):
    """No flow of that name is in the installation."""

    code = "unknown_flow"


class LocalService:
    """Everything in this process, on the home directory of the settings. Parts are opened when first needed."""

    def __init__(self, *, settings: Settings, language: Language) -> None:
        self._settings = settings
        self._language = language
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._opened_store: Store | None = None

    async def close(self) -> None:
        """Close what was opened, the last first."""
        await self._stack.aclose()

    def load(self, flow: FlowText) -> Definition:
        return self._language.load_text(flow.text, path=flow.path, directory=flow.directory)

    async def run(self, flow: FlowText, inputs: Mapping[str, Json], observer: Observer) -> RunReport:
        definition = self.load(flow)
        store = await self._store()
        source = SiblingFlows(flow.directory, self._language, StoredFlows(store, self._language, WORKSPACE))
        code = await self._code(observer)
        ...

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
        return await (await self._store()).flows.list(workspace=WORKSPACE)

    async def flow(self, name: str) -> FlowVersion:
        store = await self._store()
        version = await store.flows.current(name, workspace=WORKSPACE)
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
            cursor = page.items[-1].cursor

    async def _store(self) -> Store:
        async with self._opening:
            if self._opened_store is None:
                self._opened_store = await self._stack.enter_async_context(await Store.open(self._settings.database_url))
            return self._opened_store

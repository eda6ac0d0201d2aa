"""Runs flows through the real store and the real Prefect engine, with steps of a kind of its own: ``probe: NAME``."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Protocol

import pytest

import steps
import triggers
from engine.language import Language
from engine.orchestrator.environment import prepare
from engine.policies import Policies
from engine.principal import LOCAL_ADMIN, Principal
from engine.progress import Progress
from engine.records import StepRun
from engine.report import RunReport
from engine.runs import Runs
from engine.secret_key import KeyFile
from engine.secrets import Secrets
from engine.store import Store
from engine.tool_calls import ToolCaller
from flows.contracts import StepCall, StepError, StepExecutor, StepKind, StepResult
from flows.definition import Definition
from flows.errors import RefusedError
from flows.model import StepConfig
from flows.registry import registry as build_registry
from flows.values import Json, StepStatus
from steps.approval import ApprovalExecutor, ApprovalStep
from steps.subflow import SubflowExecutor, SubflowStep
from steps.tool import ToolExecutor, ToolStep
from steps.tools.catalogue import ToolCatalogue
from steps.tools.contract import ToolServices
from steps.wait import WaitExecutor, WaitStep

Probe = Callable[[StepCall], Awaitable[Json]]


class ProbeStep(StepConfig):
    """A step that calls a function of the test."""

    probe: str


class ProbeError(Exception):
    """Makes a probe's attempt end with a status."""

    def __init__(self, status: StepStatus = StepStatus.FAILED, message: str = "boom") -> None:
        super().__init__(message)
        self.status = status


@dataclass
class ProbeExecutor:
    probes: Mapping[str, Probe]
    calls: list[str] = field(default_factory=list)

    isolation = None

    async def refusal(self, config: StepConfig) -> RefusedError | None:
        return None

    def expect(self, config: StepConfig, count: int) -> None:
        """Nothing to make ready."""

    async def execute(self, config: StepConfig, call: StepCall) -> StepResult:
        assert isinstance(config, ProbeStep)
        self.calls.append(config.id)
        try:
            return StepResult(status=StepStatus.SUCCEEDED, result=await self.probes[config.probe](call))
        except ProbeError as problem:
            return StepResult(status=problem.status, error=StepError(code=problem.status.value, message=str(problem)))


class Recorder:
    """An observer that keeps what it sees."""

    def __init__(self) -> None:
        self.seen: list[Progress] = []

    def notice(self, progress: Progress) -> None:
        self.seen.append(progress)


@dataclass
class Flows:
    """Flows of the test, by name."""

    definitions: Mapping[str, Definition]

    async def find(self, name: str) -> Definition | None:
        return self.definitions.get(name)


@dataclass
class Engine:
    """Runs flows written as YAML."""

    runs: Runs
    store: Store
    secrets: Secrets
    language: Language
    probes: ProbeExecutor
    observer: Recorder
    principal: Principal = LOCAL_ADMIN
    """Whom its runs act for."""

    def load(self, text: str) -> Definition:
        return self.language.load_text(text, path="flow.yaml", directory=Path())

    async def run(self, text: str, *others: str, **inputs: Json) -> RunReport:
        """Run a flow; ``others`` are the flows its subflow steps find."""
        found = {one.flow.flow: one for one in map(self.load, others)}
        plan = await self.runs.plan(self.load(text), inputs, Flows(found), workspace="default")
        return await self.runs.run(plan, observer=self.observer, trigger={}, principal=self.principal)

    async def attempts(self, report: RunReport) -> tuple[StepRun, ...]:
        return await self.store.steps.list(report.run.id)


class RunEngine(Protocol):
    """Gives an engine whose probes are these functions."""

    def __call__(self, **probes: Probe) -> Engine: ...


async def echo(call: StepCall) -> Json:
    return dict(call.inputs)


@asynccontextmanager
async def open_engine(
    directory: Path,
    more: Mapping[type[StepConfig], StepExecutor] | None = None,
    *,
    url: str | None = None,
    plug_ins: Sequence[EntryPoint] | None = None,
) -> AsyncIterator[RunEngine]:
    """Engines on a store and a Prefect of their own.

    ``more`` executes kinds besides probes, tools, approvals and subflows; ``url`` is that of another database than
    SQLite's; ``plug_ins`` are further tools.
    """
    prepare(directory, None)
    from engine.orchestrator.prefect_gears import Orchestrator  # noqa: PLC0415 - after its settings

    registry = build_registry((*steps.KINDS, StepKind(key="probe", config=ProbeStep)), triggers.KINDS)
    async with (
        await Store.open(url or f"sqlite:///{directory}/test.db", files=directory / "files") as store,
        Orchestrator(api_url=None, cache_dir=directory / "cache") as orchestrator,
    ):

        def make(**probes: Probe) -> Engine:
            executor = ProbeExecutor({"echo": echo, **probes})
            executors: dict[type[StepConfig], StepExecutor] = {
                ProbeStep: executor,
                SubflowStep: SubflowExecutor(),
                ToolStep: ToolExecutor(),
                ApprovalStep: ApprovalExecutor(),
                WaitStep: WaitExecutor(),
                **(more or {}),
            }
            catalogue = ToolCatalogue(plug_ins)
            services = ToolServices(content=store.content, shared=str(directory / "shared"))
            policies = Policies.of(store)
            tools = ToolCaller(catalogue=catalogue, services=services, store=store, policies=policies)
            secrets = Secrets(store.secrets, KeyFile(directory / "secret.key"))
            runs = Runs(
                store=store,
                executors=executors,
                tools=tools,
                secrets=secrets,
                driver=orchestrator,
                policies=policies,
            )
            return Engine(
                secrets=secrets,
                runs=runs,
                store=store,
                language=Language(registry=registry, catalogue=catalogue),
                probes=executor,
                observer=Recorder(),
            )

        yield make


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[RunEngine]:
    async with open_engine(tmp_path) as make:
        yield make

"""The parts of a local installation, each opened when it is first needed and closed together."""

import asyncio
import importlib
from contextlib import AsyncExitStack
from typing import Any

from engine.approval_rules import ApprovalRules
from engine.cancellation import Interruption
from engine.code_slots import CodeSlots
from engine.emission import Emission
from engine.execution import Execution, RunOutcome
from engine.intake.receiver import Receiver
from engine.language import Language
from engine.links import PURPOSE, Links
from engine.orchestrator.environment import prepare
from engine.policies import Policies
from engine.progress import NoObserver, Observer
from engine.refusals import Refusals
from engine.run_log import RunLog
from engine.runs import Driver, Runs
from engine.secret_key import KeyFile, KeySource
from engine.secret_key_sources import KeyCommand, KeyVariable
from engine.secrets import Secrets
from engine.settings import Settings
from engine.store import Store
from engine.tool_calls import ToolCaller
from engine.trace_context import Traces, Untraced
from flows.contracts import StepExecutor
from flows.model import StepConfig
from steps.approval import ApprovalExecutor, ApprovalStep
from steps.code import JavaScriptStep, PythonStep, ShellStep
from steps.image import ImageStep
from steps.sandbox.executor import CodeExecutor
from steps.sandbox.image_executor import ImageExecutor
from steps.sandbox.pool import Sandboxes
from steps.sandbox.protocol import Runner
from steps.sandbox.select import RunnerSetting, choose, containers_of
from steps.subflow import SubflowExecutor, SubflowStep
from steps.tool import ToolExecutor, ToolStep
from steps.tools.contract import ToolServices
from steps.wait import WaitExecutor, WaitStep


class Parts:
    """Everything a local service is made of."""

    def __init__(self, *, settings: Settings, language: Language, lasting: bool = False) -> None:
        """``lasting`` says that runs may come at any time, so that sandboxes are kept ready for them."""
        self.language = language
        self._open_sandboxes: Sandboxes | None = None
        self._runs: Runs | None = None
        self._traces: Traces | None = None
        self._refusals: Refusals | None = None
        self.receiver: Receiver | None = None
        """What takes events in this process; None where it is no service."""
        self._settings = settings
        self._lasting = lasting
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._open_store: Store | None = None
        self._secrets: Secrets | None = None
        self.policies = Policies(self.store)
        self._code_slots: CodeSlots | None = None
        self.approval_rules = ApprovalRules(settings.approvals, self.policies, Links(self._link_key))
        self.orchestrator = LateOrchestrator(settings, self._stack)

    async def close(self) -> None:
        """Close what was opened, the last first."""
        await self._stack.aclose()

    async def store(self) -> Store:
        async with self._opening:
            if self._open_store is None:
                home = self._settings.home
                home.make()
                store = await Store.open(
                    self._settings.database_url,
                    files=home.files,
                    artifacts=self._settings.artifacts_url,
                    spool=home.spool,
                    keys=self._key_source(),
                    marks=home.home / "audit",
                )
                self._open_store = await self._stack.enter_async_context(store)
            return self._open_store

    async def refusals(self) -> Refusals:
        """What records refusals, of which there is one, since it counts them."""
        store = await self.store()
        if self._refusals is None:
            self._refusals = Refusals(store)
        return self._refusals

    async def secrets(self) -> Secrets:
        store = await self.store()
        if self._secrets is None:
            self._secrets = Secrets(store.secrets, self._key_source())
        return self._secrets

    def _key_source(self) -> KeySource:
        given = self._settings.secrets
        if given.secret_key is not None:
            return KeyVariable(given.secret_key.get_secret_value())
        if given.secret_key_command is not None:
            return KeyCommand(given.secret_key_command)
        return KeyFile(self._settings.home.secret_key)

    @property
    def settings(self) -> Settings:
        return self._settings

    async def _link_key(self) -> bytes:
        return await (await self.secrets()).derived_key(PURPOSE)

    async def runner(self, setting: RunnerSetting) -> Runner:
        """The runner of that setting; see :func:`steps.sandbox.select.choose`. Whoever asks for it closes it."""
        isolation = self._settings.runner
        return await choose(
            setting,
            docker=self._settings.docker.variables,
            image=isolation.guest_image,
            runtime=isolation.runtime,
            private=(self._settings.home.home,),
        )

    async def sandboxes(self) -> Sandboxes:
        """The pool of sandboxes, of which there is one."""
        async with self._opening:
            if self._open_sandboxes is None:
                isolation = self._settings.runner
                self._open_sandboxes = Sandboxes(
                    await self.runner(isolation.runner),
                    concurrency=isolation.concurrency,
                    floor=isolation.ready_min if self._lasting else 0,
                    ceiling=isolation.ready_max if self._lasting else 0,
                )
                self._stack.push_async_callback(self._open_sandboxes.close)
                self._open_sandboxes.warm()
            return self._open_sandboxes

    async def traces(self) -> Traces:
        """What records spans; nothing does, and nothing of OpenTelemetry is imported, where there is no endpoint."""
        async with self._opening:
            if self._traces is None and self._settings.traces.are_on:
                module: Any = await asyncio.to_thread(importlib.import_module, "engine.tracing")
                tracing = module.Tracing()
                self._stack.push_async_callback(tracing.close)
                self._traces = tracing
            return self._traces or Untraced()

    async def runs(self, driver: Driver | None = None) -> Runs:
        """What sees runs to their end by a driver; by Prefect, of which there is one, where none is given."""
        if driver is not None:
            return await self._make_runs(driver)
        if self._runs is None:
            self._runs = await self._make_runs(self.orchestrator)
        return self._runs

    async def _make_runs(self, driver: Driver) -> Runs:
        traces = await self.traces()
        store = await self.store()
        await store.artifacts.contents.probe()
        sandboxes = await self.sandboxes()
        isolation = self._settings.runner
        network = self._settings.network
        given: dict[str, Any] = {
            "min_isolation": isolation.min_isolation,
            "internal": network.internal,
            "ca_file": network.ca_file,
            "rules": self.policies,
        }
        code = CodeExecutor(sandboxes, **given)
        executors: dict[type[StepConfig], StepExecutor] = {
            PythonStep: code,
            JavaScriptStep: code,
            ShellStep: code,
            ImageStep: ImageExecutor(sandboxes, containers_of(sandboxes.runner), **given),
            ToolStep: ToolExecutor(),
            SubflowStep: SubflowExecutor(),
            ApprovalStep: ApprovalExecutor(),
            WaitStep: WaitExecutor(),
        }
        services = ToolServices(
            content=store.content,
            shared=str(self._settings.home.shared),
            internal=network.internal,
            ca_file=network.ca_file,
            docker=self._settings.docker.variables,
            runtime=isolation.runtime,
            events=Emission(store=store, language=self.language, receiver=lambda: self.receiver),
        )
        tools = ToolCaller(catalogue=self.language.catalogue, services=services, store=store, policies=self.policies)
        observer: Observer = RunLog() if self._lasting else NoObserver()
        self._code_slots = self._code_slots or CodeSlots(store, self.policies)
        return Runs(
            store=store,
            executors=executors,
            tools=tools,
            secrets=await self.secrets(),
            driver=driver,
            traces=traces,
            observer=observer,
            policies=self.policies,
            code_slots=self._code_slots,
            refusals=await self.refusals(),
        )


class LateOrchestrator:
    """The orchestrator, imported with prefect when the first run needs it, while the sandboxes are starting."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._opening = asyncio.Lock()
        self._orchestrator: Driver | None = None

    async def run(self, execution: Execution) -> RunOutcome:
        """See :class:`engine.runs.Driver`. Cancelled while prefect is imported, the run still gets its ``finally``."""
        with Interruption() as interruption:
            orchestrator = await self.open(interruption)
            if interruption.came:
                execution.cancel()
            return await orchestrator.run(execution)

    async def open(self, interruption: Interruption) -> Driver:
        """The orchestrator; a service opens it beforehand."""
        async with self._opening:
            if self._orchestrator is None:
                home, api_url = self._settings.home.home, self._settings.prefect.prefect_api_url
                prepare(home, api_url)
                importing = asyncio.to_thread(importlib.import_module, "engine.orchestrator.prefect_gears")
                gears: Any = await interruption.outlast(importing)
                orchestrator = gears.Orchestrator(api_url=api_url, cache_dir=home / "cache")
                self._orchestrator = await self._stack.enter_async_context(orchestrator)
            assert self._orchestrator is not None
            return self._orchestrator

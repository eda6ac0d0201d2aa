"""Runs: started, waited for, cancelled, continued; and code that is executed by itself."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from engine import audit, full_network, snippets, starts
from engine.continuation import drive_again
from engine.flow_sources import NO_FLOWS, SiblingFlows
from engine.following import FINAL, Position, follow
from engine.heartbeat import is_abandoned
from engine.plans import Plan
from engine.progress import Notice, Observer, Observers
from engine.records import Run, RunSummary
from engine.report import RunReport
from engine.resumption import abandoned_runs, plan_again, prepare_interpreter, refuse_part, refuse_to_resume
from engine.retries import plan_retry
from engine.service import ImageSnippet, Resumption, RunEvent, Snippet, StartedRun, Target
from engine.snippets import DirectDriver, snippet_definition
from engine.store import Store
from engine.store.errors import AlreadyFinishedError, RunDrivenError
from engine.use_cases.acting import Acting
from flows.contracts import StepResult
from flows.definition import Definition
from flows.values import Json, RunStatus, StepStatus

_ENDED_WITHIN = 2.0
"""Seconds in which a service mostly brings a run to its end that it has to take up only for that."""
_BY_HAND: Mapping[str, Json] = {"trigger": {"kind": "manual"}}


class RunUseCases(Acting):
    """Runs: started, waited for, cancelled, continued; and code that is executed by itself."""

    async def run(
        self, definition: Definition, inputs: Mapping[str, Json], observer: Observer, *, directory: Path
    ) -> RunReport:
        self._may("runs.start")
        self._may("code.execute")
        self._may("runs.start", flow=definition.flow.flow)
        source = SiblingFlows(directory, self._language, await self._stored())
        runs = await self._parts.runs()
        plan = await runs.plan(definition, inputs, source, workspace=self._workspace)
        starts.require_subflows(self._principal, plan)
        await prepare_interpreter(plan, observer)
        await self._approve_own(plan, directory, observer)
        own = await asyncio.to_thread(directory.resolve)
        return await runs.run(
            plan, observer=observer, trigger=_BY_HAND, principal=self._principal, host_directories=(own,)
        )

    async def _approve_own(self, plan: Plan, directory: Path, observer: Observer) -> None:
        """Whoever runs a file on this machine decides by that on the `network: full` of it and of those beside it."""
        if self._principal.kind != "local":
            return
        beside = SiblingFlows(directory, self._language, NO_FLOWS)
        store = await self._parts.store()
        for one in (plan.definition, *plan.subflows.values()):
            file = one if one is plan.definition else await beside.find(one.flow.flow)
            is_here = file is not None and file.digest == one.digest
            if is_here and await full_network.approve_own(store, one, self._principal, act="run from a file"):
                message = f"`network: full` of flow '{one.flow.flow}' is approved, since you run it from its file"
                observer.notice(Notice(kind="setup", message=message))

    async def run_known(self, flow: str, inputs: Mapping[str, Json], observer: Observer) -> RunReport:
        self._may("runs.start", flow=flow)
        definition = await starts.known(await self._stored(), flow)
        runs = await self._parts.runs()
        plan = await runs.plan(definition, inputs, await self._stored(), workspace=self._workspace)
        starts.require_subflows(self._principal, plan)
        await prepare_interpreter(plan, observer)
        return await runs.run(plan, observer=observer, trigger=_BY_HAND, principal=self._principal)

    async def start(self, target: Target, inputs: Mapping[str, Json], *, key: str | None = None) -> StartedRun:
        self._may("runs.start", flow=target if isinstance(target, str) else None)
        if not isinstance(target, str):
            self._may("code.execute")
        self._refuse_while_stopping()
        started = await starts.start(self._parts, self._principal, target, inputs, key=key)
        self._wake()
        return started

    async def retry(self, run: str, *, step: str | None, observer: Observer) -> RunReport:
        self._may("runs.start")
        store, found = await self._run(run)
        runs = await self._parts.runs()
        retry = await plan_retry(runs, store, self._language, found, step, by=self._principal, observer=observer)
        return await runs.retry(
            retry.plan, found, observer=observer, trigger=retry.trigger, principal=self._principal, done=retry.done
        )

    async def start_retry(self, run: str, *, step: str | None, key: str | None = None) -> StartedRun:
        self._may("runs.start")
        self._refuse_while_stopping()
        _store, found = await self._run(run)
        started = await starts.start_retry(self._parts, self._principal, found, step, key=key, observer=self._observer)
        self._wake()
        return started

    async def wait(self, run: str, seconds: float) -> Run:
        self._may("runs.read")
        store, found = await self._run(run)
        deadline = asyncio.get_running_loop().time() + seconds
        with self._feed.follower(found.id) as follower:
            while (await store.runs.summary(found.id)).status not in FINAL:
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0:
                    break
                await follower.wait(min(left, 1.0))
        return await store.runs.get(found.id)

    async def cancel(self, run: str) -> Run:
        self._may("runs.cancel")
        store, found = await self._run(run)
        refuse_part(found, "cancel")
        async with store.transaction():
            ended = await store.runs.cancel_queued(found.id)
            if not ended:
                await store.runs.request_cancel(found.id)
            await self._record_of(store, "run.cancel", found)
        if ended:
            return await store.runs.get(found.id)
        undriven = found.status is RunStatus.WAITING or is_abandoned(found)
        if self._dispatcher is not None:
            (await self._parts.runs()).look_for_cancellations()
            self._dispatcher.wake()
            if undriven:
                return await self.wait(found.id, _ENDED_WITHIN)
        elif undriven:
            with suppress(RunDrivenError, AlreadyFinishedError):
                return (await self._go_on(store, found, self._observer, cancel=True)).run
        return await store.runs.get(found.id)

    async def follow(self, run: str, *, after: str | None = None) -> AsyncIterator[RunEvent]:
        self._may("runs.read")
        position = Position.parse(after)
        store, found = await self._run(run)
        return follow(store, self._feed, found.id, position)

    async def resume(self, run: str, observer: Observer) -> RunReport:
        self._may("runs.start")
        store, found = await self._run(run)
        refuse_to_resume(found)
        await self._record_of(store, "run.resume", found)
        return await self._go_on(store, found, observer)

    async def have_resumed(self, run: str) -> Resumption:
        self._may("runs.start")
        store, found = await self._run(run)
        refuse_to_resume(found)
        await plan_again(await self._parts.runs(), store, self._language, found, self._observer)
        await self._record_of(store, "run.resume", found)
        return await drive_again(store, self._dispatcher, self._feed, found)

    async def abandoned(self) -> Sequence[RunSummary]:
        self._may("runs.read")
        store = await self._parts.store()
        due = [await store.runs.summary(run) for run, _ in await store.undriven.due(workspace=self._workspace)]
        found = [*await abandoned_runs(store, self._workspace), *due]
        return [run for run in found if self._reach.covers(run.flow)]

    async def execute(self, snippet: Snippet | ImageSnippet, observer: Observer) -> StepResult:
        self._may("code.execute", flow=snippets.FLOW)
        if snippet.network == "full":
            self._may("network.open")
        definition = snippet_definition(snippet, self._language)
        driver = DirectDriver()
        runs = await self._parts.runs(driver)
        plan = await runs.plan(definition, snippet.inputs, await self._stored(), workspace=self._workspace)
        await prepare_interpreter(plan, observer)
        await full_network.approve_own(await self._parts.store(), definition, self._principal, act="executed by itself")
        outcome = await runs.run(
            plan,
            observer=Observers(observer, self._observer),
            trigger=snippets.BY_ITSELF,
            principal=self._principal,
        )
        status = StepStatus.CANCELLED if outcome.run.status is RunStatus.CANCELLED else StepStatus.FAILED
        return driver.result or StepResult(status=status, error=outcome.run.error)

    async def _record_of(self, store: Store, action: str, run: Run) -> None:
        target = audit.Target(kind="run", id=run.id)
        await store.audit.append(workspace=self._workspace, action=action, target=target, run=run.id)

    async def _go_on(self, store: Store, run: Run, observer: Observer, *, cancel: bool = False) -> RunReport:
        """Continue a run that no engine drives; with ``cancel``, to its end only."""
        refuse_to_resume(run)
        runs = await self._parts.runs()
        plan = await plan_again(runs, store, self._language, run, observer)
        return await runs.resume(plan, run, observer=observer, cancel=cancel)

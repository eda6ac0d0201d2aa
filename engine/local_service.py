"""The service on this machine's own installation."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from engine import flow_changes, snippets, starts
from engine.approvals import Approvals, decider, form_values
from engine.bootstrap.parts import Parts
from engine.continuation import drive_again
from engine.deliveries import Accepted, Delivery, DeliveryStatus
from engine.dispatcher import Dispatcher
from engine.events import Events
from engine.feed import Feed
from engine.flow_sources import SiblingFlows, StoredFlows
from engine.following import FINAL, Position, follow
from engine.heartbeat import is_abandoned, looked_after
from engine.plans import UnknownFlowError
from engine.policy import Action, require
from engine.principal import Principal
from engine.progress import NoObserver, Observer, Observers
from engine.records import (
    Approval,
    ArtifactRecord,
    Decision,
    EgressRecord,
    FlowDetail,
    FlowSummary,
    FlowVersion,
    LogLine,
    Page,
    Run,
    RunSummary,
    SecretSummary,
    StepRun,
    TokenRecord,
    ToolCall,
)
from engine.report import RunReport, report
from engine.resumption import (
    abandoned_runs,
    plan_again,
    prepare_interpreter,
    recorded_definition,
    refuse_part,
    refuse_to_resume,
)
from engine.retries import plan_retry
from engine.service import (
    AppliedFlow,
    FlowText,
    ImageSnippet,
    InvalidPositionError,
    Precondition,
    PreconditionFailedError,
    Resumption,
    RunEvent,
    ShuttingDownError,
    Snippet,
    StartedRun,
    Target,
)
from engine.snippets import DirectDriver, snippet_definition
from engine.starts import unknown_flow
from engine.store import Store
from engine.store.errors import AlreadyFinishedError, RunDrivenError, UnknownRecordError
from flows.contracts import Artifact, StepResult
from flows.definition import Definition
from flows.errors import InvalidCallError
from flows.names import NAME
from flows.values import Json, RunStatus, StepStatus

if TYPE_CHECKING:
    from engine.diagnosis import Diagnosis, Tried
    from engine.retention import Pruned
    from engine.tokens import IssuedToken
    from engine.upcoming import Upcoming
    from steps.sandbox.select import RunnerName

_PAGE = 1000
_ENDED_WITHIN = 2.0
"""Seconds in which a service mostly brings a run to its end that it has to take up only for that."""


class LocalService:
    """Everything in this process, on the home directory of the settings. Parts are opened when first needed.

    With a ``dispatcher``, which drives the runs that are started here. ``feed`` hears of what happens in runs, and
    ``observer`` of code that is executed by itself. ``changed`` is called once flows have changed.
    """

    def __init__(
        self,
        parts: Parts,
        principal: Principal,
        *,
        dispatcher: Dispatcher | None = None,
        feed: Feed | None = None,
        observer: Observer | None = None,
        changed: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._parts = parts
        self._language = parts.language
        self._principal = principal
        self._workspace = principal.workspace
        self._dispatcher = dispatcher
        self._feed = feed or Feed()
        self._observer = observer or NoObserver()
        self._changed = changed

    def load(self, flow: FlowText) -> Definition:
        self._may("flows.read")
        return flow_changes.load(flow, self._language)

    async def run(
        self, definition: Definition, inputs: Mapping[str, Json], observer: Observer, *, directory: Path
    ) -> RunReport:
        self._may("runs.start")
        source = SiblingFlows(directory, self._language, await self._stored())
        runs = await self._parts.runs()
        plan = await runs.plan(definition, inputs, source)
        await prepare_interpreter(plan, observer)
        own = await asyncio.to_thread(directory.resolve)
        return await runs.run(plan, observer=observer, trigger=_BY_HAND, host_directories=(own,))

    async def definition(self, flow: str) -> Definition:
        self._may("flows.read")
        return await starts.known(await self._stored(), flow)

    async def run_known(self, flow: str, inputs: Mapping[str, Json], observer: Observer) -> RunReport:
        self._may("runs.start")
        definition = await starts.known(await self._stored(), flow)
        runs = await self._parts.runs()
        plan = await runs.plan(definition, inputs, await self._stored())
        await prepare_interpreter(plan, observer)
        return await runs.run(plan, observer=observer, trigger=_BY_HAND)

    async def start(self, target: Target, inputs: Mapping[str, Json], *, key: str | None = None) -> StartedRun:
        self._may("runs.start")
        self._refuse_while_stopping()
        started = await starts.start(self._parts, self._principal, target, inputs, key=key)
        self._wake()
        return started

    async def retry(self, run: str, *, step: str | None, observer: Observer) -> RunReport:
        self._may("runs.start")
        store, found = await self._run(run)
        runs = await self._parts.runs()
        retry = await plan_retry(runs, store, self._language, found, step, by=self._principal, observer=observer)
        return await runs.retry(retry.plan, found, observer=observer, trigger=retry.trigger, done=retry.done)

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
        if await store.runs.cancel_queued(found.id):
            return await store.runs.get(found.id)
        await store.runs.request_cancel(found.id)
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

    async def definition_of(self, run: str) -> Definition:
        self._may("runs.read")
        store, found = await self._run(run)
        return await recorded_definition(store, self._language, found)

    async def resume(self, run: str, observer: Observer) -> RunReport:
        self._may("runs.start")
        store, found = await self._run(run)
        return await self._go_on(store, found, observer)

    async def have_resumed(self, run: str) -> Resumption:
        self._may("runs.start")
        store, found = await self._run(run)
        refuse_to_resume(found)
        await plan_again(await self._parts.runs(), store, self._language, found, self._observer)
        return await drive_again(store, self._dispatcher, self._feed, found)

    async def run_flow(self, run: str) -> FlowVersion:
        self._may("runs.read")
        store, found = await self._run(run)
        return await store.flows.get(found.flow_version_id)

    async def approvals(self, *, run: str | None, undecided: bool) -> Sequence[Approval]:
        self._may("runs.read")
        return await Approvals(await self._parts.store(), self._workspace).list(run=run, undecided=undecided)

    async def decide(
        self,
        target: str,
        decision: Decision,
        *,
        pairs: Mapping[str, str],
        comment: str | None,
        values: Mapping[str, Json] | None = None,
    ) -> tuple[Approval, str]:
        self._may("approvals.decide")
        approvals = Approvals(await self._parts.store(), self._workspace)
        asked = await approvals.find(target)
        given = {**(values or {}), **form_values(asked, pairs)}
        decided = await approvals.decide(asked.id, decision, by=decider(self._principal), comment=comment, values=given)
        self._wake()
        return decided, await approvals.resumable(decided)

    async def abandoned(self) -> Sequence[RunSummary]:
        self._may("runs.read")
        store = await self._parts.store()
        due = [await store.runs.summary(run) for run, _ in await store.waits.due(workspace=self._workspace)]
        return [*await abandoned_runs(store, self._workspace), *due]

    async def execute(self, snippet: Snippet | ImageSnippet, observer: Observer) -> StepResult:
        self._may("code.execute")
        definition = snippet_definition(snippet, self._language)
        driver = DirectDriver()
        runs = await self._parts.runs(driver)
        plan = await runs.plan(definition, snippet.inputs, await self._stored())
        await prepare_interpreter(plan, observer)
        outcome = await runs.run(plan, observer=Observers(observer, self._observer), trigger=snippets.BY_ITSELF)
        status = StepStatus.CANCELLED if outcome.run.status is RunStatus.CANCELLED else StepStatus.FAILED
        return driver.result or StepResult(status=status, error=outcome.run.error)

    async def apply(
        self, flows: Sequence[FlowText], *, dry_run: bool = False, precondition: Precondition | None = None
    ) -> Sequence[AppliedFlow]:
        self._may("flows.change")
        definitions = await flow_changes.gather(flows, self._language)
        store = await self._parts.store()

        async def is_known(name: str) -> bool:
            return await store.flows.current(name, workspace=self._workspace) is not None

        changes: list[AppliedFlow] = []
        async with store.transaction():
            await store.flows.lock(self._workspace)
            await flow_changes.refuse_unknown(definitions, is_known)
            for name, one in definitions.items():
                before = await store.flows.detail(name, workspace=self._workspace)
                if precondition is not None:
                    _require(precondition, name, before)
                number: int | None = None
                if not dry_run:
                    version = await store.flows.put_version(
                        self._workspace, name, one.text, one.files, one.digest, apply=True
                    )
                    number = version.number
                changes.append(flow_changes.change(one, before, version=number))
        if not dry_run:
            await self._tell_changed()
        return changes

    async def flows(self, *, limit: int | None = None, cursor: str | None = None) -> Page[FlowSummary]:
        self._may("flows.read")
        if cursor is not None and not NAME.fullmatch(cursor):
            raise _no_cursor(cursor)
        store = await self._parts.store()
        more = None if limit is None else limit + 1
        found = await store.flows.list(workspace=self._workspace, limit=more, after=cursor, hidden=(snippets.FLOW,))
        items = found[:limit]
        return Page(items=items, next=items[-1].flow if len(found) > len(items) else None)

    async def flow(self, name: str) -> FlowDetail:
        self._may("flows.read")
        return await self._detail(name)

    async def flow_versions(self, name: str, *, limit: int = 50, cursor: str | None = None) -> Page[FlowVersion]:
        self._may("flows.read")
        await self._detail(name)
        before = None if cursor is None else _number(cursor)
        store = await self._parts.store()
        return await store.flows.versions(name, workspace=self._workspace, limit=limit, before=before)

    async def flow_version(self, name: str, number: int) -> FlowVersion:
        self._may("flows.read")
        store = await self._parts.store()
        version = await store.flows.version(name, number, workspace=self._workspace)
        if version is None:
            await self._detail(name)
            raise UnknownFlowError(
                f"flow '{name}' has no version {number}", fix=f"see the versions with: stepbox flows versions {name}"
            )
        return version

    async def upcoming(self, name: str, *, count: int) -> Sequence["Upcoming"]:
        from engine.upcoming import upcoming  # noqa: PLC0415 - only this use case needs it

        self._may("flows.read")
        version = (await self._detail(name)).version
        definition = self._language.load_stored(version.text, dict(version.files), path=name)
        return upcoming(definition, workspace=self._workspace, after=datetime.now(UTC), count=count)

    async def enable_flow(self, name: str, *, enabled: bool) -> FlowDetail:
        self._may("flows.change")
        store = await self._parts.store()
        if not await store.flows.enable(name, enabled=enabled, workspace=self._workspace):
            await self._detail(name)
            raise InvalidCallError(f"flow '{name}' was never applied", fix="apply it: stepbox flows apply FILE")
        await self._tell_changed()
        return await self._detail(name)

    async def delete_flow(self, name: str) -> None:
        self._may("flows.change")
        store = await self._parts.store()
        if not await store.flows.delete(name, workspace=self._workspace):
            raise unknown_flow(name)
        await self._tell_changed()

    async def runs(
        self, *, flow: str | None, status: RunStatus | None, limit: int, cursor: str | None = None
    ) -> Page[RunSummary]:
        self._may("runs.read")
        store = await self._parts.store()
        page = await store.runs.list(workspace=self._workspace, flow=flow, status=status, limit=limit, cursor=cursor)
        return Page(items=tuple(looked_after(run) for run in page.items), next=page.next)

    async def run_report(self, run: str) -> RunReport:
        self._may("runs.read")
        store, found = await self._run(run)
        return report(looked_after(found), await store.steps.summaries(found.id))

    async def run_attempts(self, run: str) -> Sequence[StepRun]:
        self._may("runs.read")
        store, found = await self._run(run)
        return await store.steps.list(found.id)

    async def run_logs(
        self, run: str, *, step: str | None, limit: int | None = None, cursor: str | None = None
    ) -> Page[LogLine]:
        self._may("runs.read")
        after = None if cursor is None else _number(cursor)
        store, found = await self._run(run)
        if limit is not None:
            return await store.logs.list(found.id, step_id=step, limit=limit, cursor=after)
        lines: list[LogLine] = []
        while True:
            page = await store.logs.list(found.id, step_id=step, limit=_PAGE, cursor=after)
            lines.extend(page.items)
            if page.next is None:
                return Page(items=tuple(lines))
            after = int(page.next)

    async def run_calls(self, run: str) -> Sequence[ToolCall]:
        self._may("runs.read")
        store, found = await self._run(run)
        return await store.calls.list(found.id)

    async def run_egress(self, run: str) -> Sequence[EgressRecord]:
        self._may("runs.read")
        store, found = await self._run(run)
        return await store.egress.list(found.id)

    async def set_secret(self, name: str, value: str, *, keep_old: bool) -> SecretSummary:
        self._may("secrets.change")
        return await (await self._parts.secrets()).put(self._workspace, name, value, keep_old=keep_old)

    async def secrets(self) -> Sequence[SecretSummary]:
        self._may("secrets.read")
        return await (await self._parts.secrets()).list(self._workspace)

    async def delete_secret(self, name: str, *, old_only: bool) -> int:
        self._may("secrets.change")
        return await (await self._parts.secrets()).delete(self._workspace, name, old_only=old_only)

    async def run_artifacts(self, run: str) -> Sequence[ArtifactRecord]:
        self._may("runs.read")
        store, found = await self._run(run)
        return await store.artifacts.list(found.id)

    async def fetch_artifacts(self, artifacts: Sequence[Artifact]) -> Sequence[Path]:
        self._may("runs.read")
        contents = (await self._parts.store()).artifacts.contents
        return await contents.fetch(artifacts, contents.spool.directory)

    async def artifact(self, artifact: str) -> ArtifactRecord:
        self._may("runs.read")
        return await (await self._parts.store()).artifacts.get(artifact, workspace=self._workspace)

    async def release_artifacts(self, files: Sequence[Path]) -> None:
        self._may("runs.read")
        contents = (await self._parts.store()).artifacts.contents
        await asyncio.to_thread(contents.release, files)

    async def events(
        self, *, flow: str | None, status: DeliveryStatus | None, limit: int, cursor: str | None = None
    ) -> Page[Accepted]:
        self._may("events.read")
        return await (await self._events()).list(flow=flow, status=status, limit=limit, cursor=cursor)

    async def event(self, event: str) -> Accepted:
        self._may("events.read")
        return await (await self._events()).find(event)

    async def redrive(self, event: str) -> Sequence[Delivery]:
        self._may("events.redrive")
        return await (await self._events()).redrive(event)

    async def redrive_flow(self, flow: str) -> Sequence[Delivery]:
        self._may("events.redrive")
        return await (await self._events()).redrive_flow(flow)

    async def _events(self) -> Events:
        return Events(await self._parts.store(), self._workspace)

    async def create_token(self, principal: str, *, expires_at: datetime | None = None) -> "IssuedToken":
        from engine.tokens import issue  # noqa: PLC0415 - argon2, which other use cases don't need

        self._may("tokens.change")
        if not NAME.fullmatch(principal):
            raise InvalidCallError(
                f"{principal[:100]!r} is no name", fix="use lower-case letters, digits and _, from a letter on"
            )
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise InvalidCallError("the token would have expired already", fix="give a time to come")
        store = await self._parts.store()
        return await issue(store, principal=principal, workspace=self._workspace, expires_at=expires_at)

    async def tokens(self) -> Sequence[TokenRecord]:
        self._may("tokens.read")
        return await (await self._parts.store()).tokens.list(workspace=self._workspace)

    async def revoke_token(self, token: str) -> TokenRecord:
        self._may("tokens.change")
        record = await (await self._parts.store()).tokens.revoke(token, workspace=self._workspace)
        if record is None:
            raise UnknownRecordError(f"there is no token {token[:100]!r}", fix="see the ids: stepbox tokens list")
        return record

    async def prune(self, *, older_than: float | None = None, dry_run: bool = False) -> "Pruned":
        from engine.retention import count, prune  # noqa: PLC0415 - only this use case needs it

        self._may("runs.remove")
        keep = self._parts.settings.keep
        if older_than is not None:
            keep = keep.only_runs(older_than)
        store = await self._parts.store()
        return await count(store, keep) if dry_run else await prune(store, keep)

    async def diagnose(self, notice: "Callable[[Tried], None]", *, runner: "RunnerName | None" = None) -> "Diagnosis":
        from engine.doctor import diagnose  # noqa: PLC0415 - only this use case needs it

        self._may("installation.examine")
        return await diagnose(self._parts.settings, self._parts.runner, notice, only=runner)

    def _refuse_while_stopping(self) -> None:
        if self._dispatcher is not None and self._dispatcher.stopping:
            raise ShuttingDownError("the service is shutting down", fix="try again in a moment")

    def _wake(self) -> None:
        """Have what can go on driven, where this is a service."""
        if self._dispatcher is not None:
            self._dispatcher.wake()

    def _may(self, action: Action) -> None:
        require(self._principal, action)

    async def _run(self, run: str) -> tuple[Store, Run]:
        store = await self._parts.store()
        return store, await store.runs.find(run, workspace=self._workspace)

    async def _go_on(self, store: Store, run: Run, observer: Observer, *, cancel: bool = False) -> RunReport:
        """Continue a run that no engine drives; with ``cancel``, to its end only."""
        refuse_to_resume(run)
        runs = await self._parts.runs()
        plan = await plan_again(runs, store, self._language, run, observer)
        return await runs.resume(plan, run, observer=observer, cancel=cancel)

    async def _tell_changed(self) -> None:
        if self._changed is not None:
            await self._changed()

    async def _stored(self) -> StoredFlows:
        return StoredFlows(await self._parts.store(), self._language, self._workspace)

    async def _detail(self, name: str) -> FlowDetail:
        detail = await (await self._parts.store()).flows.detail(name, workspace=self._workspace)
        if detail is None:
            raise unknown_flow(name)
        return detail


_BY_HAND: Mapping[str, Json] = {"trigger": {"kind": "manual"}}


def _require(precondition: Precondition, name: str, before: FlowDetail | None) -> None:
    current = None if before is None else before.tag
    if current != precondition.tag:
        now = "there is one already" if precondition.tag is None else "it has changed, or is gone"
        raise PreconditionFailedError(
            f"flow '{name}' is not as the request expects it: {now}", fix="read it again and decide anew"
        )


def _number(cursor: str) -> int:
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:  # noqa: PLR2004 - within 64 bit
        raise _no_cursor(cursor)
    return int(cursor)


def _no_cursor(cursor: str) -> InvalidPositionError:
    return InvalidPositionError(f"{cursor[:100]!r} is no cursor", fix="give the `next` of the page before")

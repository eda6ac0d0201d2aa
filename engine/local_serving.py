"""A service that goes on, in this process: its dispatcher, who may talk to it, and what it tells of itself."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus

from engine.bootstrap.parts import Parts
from engine.cancellation import Interruption
from engine.deliveries import Accepted, DeliveryStatus
from engine.dispatcher import LOOK_AGAIN, Dispatcher
from engine.execution import why_ended
from engine.feed import Feed
from engine.heartbeat import HandedOverError
from engine.intake.hooks import HookAnswer, Hooks, take_events
from engine.intake.intake import Intake
from engine.intake.sources import consumer_of
from engine.intake.starting import QueuedRuns
from engine.links import InvalidLinkError
from engine.local_service import LocalService
from engine.metrics import Metrics
from engine.notices import Outbox
from engine.policy import ForbiddenError, require
from engine.principal import LOCAL_ADMIN, Principal, local_admin
from engine.progress import Observers
from engine.reach import EVERYTHING
from engine.records import Run
from engine.refusals import Refusals, recorded_or_not
from engine.requests import AnsweredRequest
from engine.resumption import abandoned_runs, plan_again
from engine.retention import keep_pruned
from engine.runs import Runs
from engine.service import Readiness, RejectedError, SentRequest, Service
from engine.sign_ins import SignIns
from engine.store import Store
from engine.store.errors import AlreadyFinishedError, RunDrivenError, SlotsTakenError, StoreUnavailableError
from engine.tokens import PRESET, Authenticator, first_admin, issue
from engine.trace_context import TraceContext, Traces
from engine.waiting import EventWaits
from flows.errors import InvalidCallError, StepboxError
from flows.values import RunStatus
from steps.sandbox.pool import Sandboxes
from triggers.http.request import Request

_log = logging.getLogger(__name__)

LOOK_FOR_ABANDONED = 5.0
"""Seconds between two looks for runs whose engine has ended; a lease lasts six times as long."""
LEAVE_ALONE = 60.0
"""Seconds for which a run that waited, and can't be continued here, is left to other engines."""
ANSWER_WITHIN = 5.0
"""Seconds after which a database that says nothing counts as gone."""


class LocalServing:
    """Implements :class:`engine.service.Serving`. :meth:`open` makes it ready, :meth:`stop` ends it."""

    def __init__(  # noqa: PLR0917 - the parts that are open
        self, parts: Parts, store: Store, runs: Runs, sandboxes: Sandboxes, traces: Traces, refusals: Refusals
    ) -> None:
        self._traces = traces
        self._parts = parts
        self._store = store
        self._runs = runs
        self._feed = Feed()
        self._undriven = Undriven(store, runs)
        self._dispatcher = Dispatcher(
            queue=self._undriven,
            drive=self._drive,
            let_go=runs.hand_over,
            concurrency=parts.settings.serve.concurrent_runs,
        )
        self._metrics = Metrics(
            {
                "stepbox_driven_runs": ("Runs that are driven now.", lambda: self._dispatcher.active),
                "stepbox_ready_sandboxes": ("Sandboxes that wait for a job.", lambda: sandboxes.ready),
                "stepbox_waiting_jobs": ("Jobs that wait for others to end.", lambda: sandboxes.queued),
                "stepbox_schedule_lag_seconds": (
                    "By how much the last time of a schedule was late, or one is that is due.",
                    lambda: self.intake.schedules.lag,
                ),
            }
        )
        self._observer = Observers(self._feed, self._metrics)
        self.intake = Intake(
            store=store,
            language=parts.language,
            starting=QueuedRuns(store=store, language=parts.language, runs=parts.runs, queued=self._dispatcher.wake),
            secrets=self._secret,
            consumer=consumer_of(parts.settings.home.home),
        )
        self._undriven.wake = self._dispatcher.wake
        self.intake.receiver.waits.append(EventWaits(store, self._dispatcher.wake))
        parts.receiver = self.intake.receiver
        self._pruning: asyncio.Task[None] | None = None
        self.outbox = Outbox(store, parts.approval_rules, self._secret)
        self._telling: asyncio.Task[None] | None = None
        self._hooks = Hooks(store=store, intake=self.intake, wait=self._wait)
        self._authenticator = Authenticator(store)
        self._refusals = refusals
        self._sign_ins = SignIns(store, self._authenticator, refusals)
        self._flushing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, parts: Parts) -> "LocalServing":
        """Open what runs need, and begin with those that are queued."""
        runs, sandboxes, traces = await parts.runs(), await parts.sandboxes(), await parts.traces()
        serving = cls(parts, await parts.store(), runs, sandboxes, traces, await parts.refusals())
        with Interruption() as interruption:
            await parts.orchestrator.open(interruption)
        await serving.intake.start()
        serving._dispatcher.start()
        serving._telling = asyncio.create_task(serving.outbox.run())
        serving._pruning = asyncio.create_task(keep_pruned(serving._store, parts.settings.keep))
        serving._flushing = asyncio.create_task(serving._refusals.keep_flushed())
        return serving

    async def first_token(self) -> str | None:
        """The text of an admin token, made because there is none; None where there is one, or it is preset."""
        preset = self._parts.settings.serve.admin_token
        if preset is not None:
            await self._preset(preset.get_secret_value())
            return None
        now = datetime.now(UTC)
        tokens = await self._store.tokens.list()
        if any(token.is_valid(now) and token.role == "admin" for token in tokens):
            return None
        return (await issue(self._store, await first_admin(self._store))).text

    async def _preset(self, text: str) -> None:
        record = await self._store.tokens.find(PRESET)
        if (
            record is not None
            and record.is_valid(datetime.now(UTC))
            and await self._authenticator.is_text_of(text, record)
        ):
            return
        await issue(self._store, await first_admin(self._store), preset=text)

    async def authenticate(self, token: str, address: str | None = None) -> Principal:
        return await self._sign_ins.authenticate(token, address)

    async def open_link(self, approval: str, token: str, address: str | None = None) -> Principal:
        try:
            holder = await self._parts.approval_rules.links.open(approval, token)
            record = await self._store.principals.current(holder.workspace, holder.principal)
            if record is None or not record.is_enabled:
                raise InvalidLinkError(f"{holder.principal} may not act any more", fix="ask an admin")
        except InvalidCallError as invalid:
            await self._sign_ins.invalid_link(invalid, address)
            raise
        return Principal(
            name=holder.principal,
            workspace=holder.workspace,
            role=record.role,
            kind="link",
            granted_flows=record.patterns("flow"),
            door="link",
            address=address,
        )

    def service(self, principal: Principal = LOCAL_ADMIN) -> Service:
        return LocalService(
            self._parts,
            principal,
            dispatcher=self._dispatcher,
            feed=self._feed,
            observer=self._observer,
            changed=self.intake.refresh,
        )

    def largest_body(self, hook: str) -> int:
        return self._hooks.max_body(hook)

    async def take_hook(self, hook: str, request: SentRequest) -> HookAnswer:
        try:
            return await self._hooks.take(hook, _as_request(request))
        except RejectedError as rejected:
            if rejected.status == HTTPStatus.UNAUTHORIZED:
                await self._sign_ins.unverified(hook)
            raise

    async def take_events(self, principal: Principal, request: SentRequest) -> Sequence[Accepted]:
        try:
            require(principal, "events.send")
            require(principal, "events.send", flow=EVERYTHING)
        except ForbiddenError as forbidden:
            with recorded_or_not(forbidden):
                await self._sign_ins.forbidden(principal, "event.send", forbidden)
            raise
        return await take_events(self.intake, principal.workspace, _as_request(request))

    async def _wait(self, workspace: str, run: str, seconds: float) -> Run:
        return await self.service(local_admin(workspace)).wait(run, seconds)

    async def readiness(self) -> Readiness:
        checks: dict[str, str | None] = {"database": None, "dispatcher": None}
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                await self._store.runs.count(RunStatus.QUEUED)
        except (StepboxError, TimeoutError):
            checks["database"] = "the database doesn't answer"
        if self._dispatcher.stopping:
            checks["dispatcher"] = "the service is shutting down"
        elif not self._dispatcher.is_alive:
            checks["dispatcher"] = "runs are not driven any more"
        checks["intake"] = self.intake.trouble
        return Readiness(checks=checks)

    async def metrics(self, principal: Principal) -> bytes:
        require(principal, "installation.watch")
        for status in (RunStatus.QUEUED, RunStatus.WAITING):
            self._metrics.runs_now(status, await self._store.runs.count(status))
        unfinished = (DeliveryStatus.PENDING, DeliveryStatus.DEAD)
        deliveries = await self._store.events.counts(*unfinished)
        for each in unfinished:
            self._metrics.deliveries_now(each, deliveries.get(each, 0))
        self._metrics.code_waiting.set(await self._store.code_slots.waiting())
        return self._metrics.text()

    def trace(self, traceparent: str | None) -> TraceContext | None:
        return self._traces.of_request(traceparent)

    def requested(self, request: AnsweredRequest) -> None:
        self._metrics.requested(request)
        self._traces.requested(request)

    @property
    def active(self) -> int:
        """How many runs are driven now."""
        return self._dispatcher.active

    async def stop(self, *, at_once: bool = False) -> int:
        """Start nothing more and let what runs end, for as long as the settings say; how many were let go of then.

        ``at_once``, also where a stop that has begun was cancelled, lets go of what runs without waiting.
        """
        await self._end_intake()
        return await self._dispatcher.stop(0 if at_once else self._parts.settings.serve.shutdown_grace)

    async def _end_intake(self) -> None:
        """Take no more events, tell nobody any more, remove nothing more that is old, and record what was counted."""
        await self.intake.stop()
        beside = [task for task in (self._pruning, self._telling, self._flushing) if task is not None]
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        try:
            await self._refusals.flush(all_of_them=True)
        except StepboxError:
            _log.warning("what was refused last can't be recorded", exc_info=True)

    async def _secret(self, workspace: str, name: str) -> Sequence[str]:
        return await (await self._parts.secrets()).values(workspace, name)

    async def _drive(self, run_id: str) -> None:
        """Take over a run that no engine drives and see it to its end; where another is faster, it is that one's."""
        run = await self._store.runs.get(run_id)
        if run.cancel_requested_at is not None and await self._store.runs.cancel_queued(run_id):
            return
        try:
            plan = await plan_again(self._runs, self._store, self._parts.language, run, self._observer)
        except StoreUnavailableError:
            raise
        except Exception as problem:
            if run.status is RunStatus.QUEUED:
                await self._store.runs.finish(run_id, RunStatus.FAILED, error=why_ended(problem))
            self._undriven.leave(run_id)
            raise
        try:
            await self._runs.go_on(plan, run, observer=self._observer)
        except HandedOverError as left:
            _log.info("%s", left.message)
        except (RunDrivenError, AlreadyFinishedError, SlotsTakenError) as elsewhere:
            _log.debug("run %s is not for this engine: %s", run_id, elsewhere)


def _as_request(sent: SentRequest) -> Request:
    return Request(method=sent.method, headers=sent.headers, query=sent.query, body=sent.body)


class Undriven:
    """The runs that no engine drives: those that are queued, begun and left, to be cancelled, or parked and due.

    ``wake`` is called when a run that waits becomes due.
    """

    def __init__(self, store: Store, runs: Runs) -> None:
        self._store = store
        self._runs = runs
        self._look_at = 0.0
        self._left_alone: dict[str, float] = {}
        self.wake: Callable[[], None] = lambda: None

    async def queued(self, *, limit: int) -> Sequence[str]:
        """See :class:`engine.dispatcher.Queue`. What is to be cancelled goes first, then what was begun."""
        now = asyncio.get_running_loop().time()
        left: list[str] = []
        if now >= self._look_at:
            self._look_at = now + LOOK_FOR_ABANDONED
            left = [run.id for run in await abandoned_runs(self._store, None)]
        self._left_alone = {run: until for run, until in self._left_alone.items() if until > now}
        found = await self._store.undriven.all(limit=limit, due_limit=limit + len(self._left_alone), within=LOOK_AGAIN)
        return [*found.cancelled, *self._runs.let_go, *left, *self._ready(found.due), *found.queued]

    def leave(self, run_id: str) -> None:
        """Leave a parked run alone for a while that can't be continued here; another engine may be able to."""
        self._left_alone[run_id] = asyncio.get_running_loop().time() + LEAVE_ALONE

    def _ready(self, due: Sequence[tuple[str, float]]) -> Sequence[str]:
        ready: list[str] = []
        for run, left in due:
            if left > 0:
                asyncio.get_running_loop().call_later(left, self.wake)
                break
            if run not in self._left_alone:
                ready.append(run)
        return ready

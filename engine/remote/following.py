"""A run that goes on elsewhere, as progress here."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

import httpx

from engine.progress import AttemptEnded, AttemptStarted, CodeAdmitted, LineLogged, Observer, RunEnded, StepEnded
from engine.records import LogLine, Run, RunSummary, StepRun
from engine.remote import records
from engine.remote.client import Client, ServiceUnreachableError
from engine.service import RunEvent
from flows.values import RunStatus, StepStatus

RECONNECTIONS: Final = 5
"""How often, one after the other, a connection may be lost without an event between."""

ENDED: Final = "-end"
"""How the position of a run's last event ends."""

_FINE: Final = frozenset({StepStatus.SUCCEEDED, StepStatus.SKIPPED})


async def follow(
    client: Client, run_id: str, observer: Observer, *, after: str | None = None, until_parked: bool = True
) -> None:
    """Tell an observer what happens in a run, from a position on, until it has ended, over lost connections.

    With ``until_parked`` no further than to where the run waits, which ends `stepbox run` as well.

    Raises:
        ServiceUnreachableError: the service is gone for good.
    """
    telling = _Telling(observer)
    async with aclosing(events(client, run_id, after)) as happened:
        async for event in happened:
            what = event.what
            if isinstance(what, RunSummary) and what.status is RunStatus.WAITING and until_parked:
                telling.end(what)
                return
            telling.tell(what)


async def events(client: Client, run_id: str, after: str | None) -> AsyncGenerator[RunEvent, None]:
    """What happens in a run, as :meth:`engine.service.Service.follow` has it, over lost connections.

    Raises:
        ServiceUnreachableError: the service is gone for good.
    """
    lost = 0
    while after is None or not after.endswith(ENDED):
        try:
            async with client.stream(f"/runs/{run_id}/events", after=after) as lines:
                async for event in _parse(run_id, lines):
                    after, lost = event.position, 0
                    yield event
            # The service ends: what goes on there is told by the next one.
            problem: httpx.HTTPError | None = None
        except httpx.HTTPError as reason:
            problem = reason
        if after is None or not after.endswith(ENDED):
            lost += 1
            if lost > RECONNECTIONS:
                raise ServiceUnreachableError(
                    f"the connection is lost: {str(problem or '') or type(problem).__name__}",
                    fix=f"the run goes on there: stepbox runs show {run_id}",
                ) from problem
            await asyncio.sleep(0.2 * 2**lost)


async def _parse(run_id: str, lines: AsyncIterator[str]) -> AsyncIterator[RunEvent]:
    """Server-sent events from their lines."""
    fields: dict[str, str] = {}
    async for line in lines:
        if line:
            name, _colon, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            document = json.loads(fields["data"])
            what: RunSummary | StepRun | LogLine
            if fields["event"] == "log":
                what = records.line(run_id, document)
            elif fields["event"] == "step":
                what = records.attempt(run_id, document)
            else:
                what = records.run_summary(document)
            yield RunEvent(position=fields["id"], what=what)
            fields = {}


class _Telling:
    """Makes progress of events.

    Whether a failed attempt is its step's end, or another one follows, only the next event tells.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._told: dict[str, tuple[StepStatus, bool]] = {}
        self._failed: StepRun | None = None

    def tell(self, what: RunSummary | StepRun | LogLine) -> None:
        if isinstance(what, LogLine):
            self._observer.notice(LineLogged(line=what))
        elif isinstance(what, StepRun):
            before, now = self._told.get(what.id), (what.status, what.queued)
            self._told[what.id] = now
            if before == (StepStatus.RUNNING, True) and now == (StepStatus.RUNNING, False):
                self._observer.notice(CodeAdmitted(attempt=what))
            elif before is None or before[0] is not what.status:
                self._attempt(what)
        elif what.ended_at is not None:
            self.end(what)

    def end(self, run: RunSummary) -> None:
        """The run has ended, or waits."""
        self._settle(None)
        ended = {each.name: getattr(run, each.name) for each in dataclasses.fields(run)}
        self._observer.notice(RunEnded(run=Run(**ended, inputs={})))

    def _attempt(self, attempt: StepRun) -> None:
        self._settle(attempt)
        if attempt.status is StepStatus.RUNNING:
            self._observer.notice(AttemptStarted(attempt=attempt))
        elif attempt.item is not None:
            self._observer.notice(AttemptEnded(attempt=attempt, retrying=False))
        elif attempt.status in _FINE or attempt.attempt == 0:
            self._observer.notice(StepEnded(attempt=attempt))
        else:
            self._failed = attempt

    def _settle(self, following: StepRun | None) -> None:
        failed, self._failed = self._failed, None
        if failed is None:
            return
        again = following is not None and following.step_id == failed.step_id and following.attempt > failed.attempt
        self._observer.notice(AttemptEnded(attempt=failed, retrying=True) if again else StepEnded(attempt=failed))

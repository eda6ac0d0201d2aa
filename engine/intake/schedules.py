"""Makes the events of schedules when their times come, each once however many engines there are."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from engine.cancellation import happened
from engine.deliveries import DeliveryStatus, NewEvent, Recipient, TriggerPosition
from engine.intake.subscriptions import Subscription, Subscriptions, fingerprint
from engine.store import Store
from engine.store.errors import StoreError
from engine.store.events import MovedError
from engine.upcoming import plan_of
from flows.events import Event
from triggers.schedule.config import ScheduleTrigger
from triggers.schedule.due import Due, Skipped, due
from triggers.schedule.plan import Plan

_log = logging.getLogger(__name__)

LONGEST_SLEEP: Final = 5.0
"""Seconds after which the clock is looked at again, since it may have been set."""


class Woken(Protocol):
    """Hears that deliveries were added."""

    def wake(self) -> None: ...


class Schedules:
    """Watches the clock for all schedules until it is cancelled.

    Where a schedule stands is kept with the events that it makes. An engine that was away decides, by ``catch_up``, on
    what it missed; of several engines one makes each event.
    """

    def __init__(self, *, store: Store, subscriptions: Subscriptions, deliverer: Woken) -> None:
        self._store = store
        self._subscriptions = subscriptions
        self._deliverer = deliverer
        self._stirred = asyncio.Event()
        self._plans: dict[str, Plan] = {}
        self._next: dict[str, datetime | None] = {}
        self._late = 0.0

    @property
    def lag(self) -> float:
        """Seconds by which the last event came after its time; or by which one is late that hasn't come yet."""
        now = datetime.now(UTC)
        overdue = [(now - moment).total_seconds() for moment in self._next.values() if moment is not None]
        return max([self._late, *overdue])

    def wake(self) -> None:
        """Say that the flows have changed."""
        self._stirred.set()

    async def run(self) -> None:
        """Make what comes due until cancelled. A store that is away is waited for; then it is as if we had been."""
        while True:
            self._stirred.clear()
            try:
                pause = await self.look(datetime.now(UTC))
            except StoreError:
                _log.warning("schedules wait for the database", exc_info=True)
                pause = LONGEST_SLEEP
            await happened(self._stirred, within=pause)

    async def look(self, now: datetime) -> float:
        """Make the events that are due at ``now``; gives the seconds until it is worth to look again."""
        known = {}
        for subscription, trigger in self._subscriptions.of(ScheduleTrigger):
            key = f"{subscription.version.id}/{trigger.id}"
            plan = self._plans.get(key) or plan_of(
                trigger, workspace=subscription.version.workspace, flow=subscription.version.flow
            )
            known[key] = plan
            waits_until = self._next.get(key, now)
            if key in self._plans and (waits_until is None or waits_until > now):
                continue
            self._next[key] = await self._decide(subscription, trigger, plan, now)
        self._plans = known
        self._next = {key: value for key, value in self._next.items() if key in known}
        moments = [moment for moment in self._next.values() if moment is not None]
        return min([LONGEST_SLEEP, *(max(0.0, (moment - datetime.now(UTC)).total_seconds()) for moment in moments)])

    async def _decide(
        self, subscription: Subscription, trigger: ScheduleTrigger, plan: Plan, now: datetime
    ) -> datetime | None:
        """Make a schedule's events; gives when its next one is due, None where there is none."""
        while True:
            position, is_new = await self._position(subscription, trigger, now)
            since = _read(position)
            decided = due(
                plan,
                since=since,
                now=now,
                catch_up=trigger.schedule.catch_up,
                window=timedelta(seconds=trigger.schedule.window),
            )
            if decided.decided == since and not is_new:
                return None if decided.next is None else decided.next.due_at
            with suppress(MovedError):
                await self._keep(subscription, plan, position, decided, now)
            if decided.next is None or decided.next.due_at > now:
                return None if decided.next is None else decided.next.due_at

    async def _position(
        self, subscription: Subscription, trigger: ScheduleTrigger, now: datetime
    ) -> tuple[TriggerPosition, bool]:
        """Where the schedule stands, and whether it begins there: a changed one begins now, as one that is new."""
        version = subscription.version
        found = await self._store.events.position(version.workspace, version.flow, trigger.id)
        value = {"decided": now.isoformat(), "of": fingerprint(trigger.schedule)}
        if found is not None and isinstance(found.value, dict) and found.value.get("of") == value["of"]:
            return found, False
        begins = TriggerPosition(
            workspace=version.workspace,
            flow=version.flow,
            trigger_id=trigger.id,
            moves=0 if found is None else found.moves,
            value=value,
        )
        return begins, True

    async def _keep(
        self, subscription: Subscription, plan: Plan, position: TriggerPosition, decided: Due, now: datetime
    ) -> None:
        moved = replace(position, value={**position.value, "decided": decided.decided.isoformat()})
        events = [_passed_over(subscription, one) for one in decided.skipped]
        events += [(_event(subscription, plan.event(one)), [subscription.recipient]) for one in decided.starts]
        await self._store.events.accept_all(events, move=moved)
        if decided.starts:
            self._late = max(0.0, (now - decided.starts[-1].due_at).total_seconds())
            self._deliverer.wake()


def _read(position: TriggerPosition) -> datetime:
    return datetime.fromisoformat(position.value["decided"])


def _passed_over(subscription: Subscription, skipped: Skipped) -> tuple[NewEvent, list[Recipient]]:
    first, last = skipped.first.isoformat(), skipped.last.isoformat()
    event = Event(
        kind=subscription.kind,
        key=f"{first}/{last}",
        occurred_at=skipped.last,
        data={"first": first, "last": last, "count": skipped.count},
    )
    recipient = replace(subscription.recipient, status=DeliveryStatus.SKIPPED, reason=skipped.reason)
    return _event(subscription, event), [recipient]


def _event(subscription: Subscription, event: Event) -> NewEvent:
    return NewEvent.of(event, workspace=subscription.version.workspace, origin=subscription.origin)

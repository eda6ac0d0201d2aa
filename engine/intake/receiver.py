"""What others send: requests to webhooks, and CloudEvents; and what Stepbox itself tells of."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from engine.deliveries import Accepted, NewEvent, Recipient
from engine.intake.attachments import keep_attachments
from engine.intake.schedules import Woken
from engine.intake.subscriptions import Subscription, Subscriptions
from engine.store import Store
from engine.store.run_ends import Interest
from flows.errors import StepboxError
from flows.events import Event
from triggers.event.config import EventTrigger
from triggers.event.patterns import like
from triggers.http.request import RefusedRequestError, Request
from triggers.webhook.config import Rate, WebhookTrigger
from triggers.webhook.rate import Bucket, take
from triggers.webhook.receive import event_of, verified

_LARGE: Final = 100_000
"""Bytes of a body that is verified and read apart, so that others needn't wait for it."""
UNVERIFIED: Final = Rate(limit=60, per=60.0)
"""How many requests to a webhook that don't prove who they are from are told so, and logged: further ones learn only
that there are too many. Each is verified all the same, so that strangers can't shut out who the webhook is for."""
EVENTS: Final = "events"
"""The origin of CloudEvents that others send."""
OWN: Final = "stepbox"
"""The origin of Stepbox's own, so that no other event can be taken for one."""


class UnknownWebhookError(StepboxError):
    """No active flow has a webhook of that path."""

    code = "unknown_webhook"


class TooManyRequestsError(StepboxError):
    """More requests came to a webhook than its ``rate`` takes. ``after`` is in seconds."""

    code = "too_many_requests"

    def __init__(self, message: str, *, after: float) -> None:
        super().__init__(message)
        self.after = after


@dataclass(frozen=True, kw_only=True)
class Received:
    """A request that was taken, and the webhook that took it."""

    subscription: Subscription
    accepted: Accepted


class Witness(Protocol):
    """Sees events besides the triggers, such as a run that waits for one."""

    async def saw(self, workspace: str, event: Event) -> None:
        """Take note of a CloudEvent, or of one of Stepbox's own, that hasn't come before.

        This is part of the transaction that keeps the event: what is written here is kept with it, or neither is.
        """


class Receiver:
    """Keeps what is sent. What it has given back as accepted is not lost.

    ``secrets`` gives the live values of a workspace's secret. ``witnesses`` see each event that isn't a webhook's.
    """

    def __init__(
        self,
        *,
        store: Store,
        subscriptions: Subscriptions,
        deliverer: Woken,
        secrets: Callable[[str, str], Awaitable[Sequence[str]]],
    ) -> None:
        self._store = store
        self._subscriptions = subscriptions
        self._deliverer = deliverer
        self._secrets = secrets
        self._buckets: dict[str, Bucket] = {}
        self._unverified: dict[str, Bucket] = {}
        self.witnesses: list[Witness] = []
        self.waits: list[Witness] = []
        """Those that need not see events that come while no run waits for any."""

    async def webhook(self, workspace: str, path: str, request: Request) -> Received:
        """Take a request to a webhook.

        Raises:
            UnknownWebhookError: there is none of that path.
            TooManyRequestsError: it has taken too many, or refused too many that weren't verified.
            RefusedRequestError: the request isn't taken; its status says why.
            StepboxError: the webhook can't verify requests, or the store is away.
        """
        subscription = self._subscriptions.webhook(workspace, path)
        if subscription is None:
            raise UnknownWebhookError(f"there is no webhook {path[:200]!r}")
        trigger = subscription.trigger
        assert isinstance(trigger, WebhookTrigger)
        now = datetime.now(UTC)
        secret = trigger.webhook.secret
        values = () if secret is None else await self._secrets(workspace, secret)
        large = len(request.body) > _LARGE
        try:
            identity = (
                await asyncio.to_thread(verified, trigger, request, values, now)
                if large
                else verified(trigger, request, values, now)
            )
        except RefusedRequestError as refused:
            self._count(self._unverified, subscription, UNVERIFIED, now, because=refused)
            raise
        if trigger.webhook.rate is not None:
            self._count(self._buckets, subscription, trigger.webhook.rate, now)
        event = (
            await asyncio.to_thread(event_of, trigger, request, identity, now)
            if large
            else event_of(trigger, request, identity, now)
        )
        await keep_attachments(self._store.artifacts.contents, event.attachments)
        accepted = await self._store.events.accept(
            NewEvent.of(event, workspace=workspace, origin=f"webhook:{path}"), [subscription.recipient]
        )
        self._deliverer.wake()
        return Received(subscription=subscription, accepted=accepted)

    async def events(self, workspace: str, events: Sequence[Event], *, origin: str = EVENTS) -> tuple[Accepted, ...]:
        """Keep CloudEvents, all of them or none, for the triggers whose pattern each one fits.

        An event with the key of an earlier one of the same ``origin`` is that one. Joins the caller's transaction.
        """
        new = [
            (NewEvent.of(event, workspace=workspace, origin=origin), self._recipients(workspace, event))
            for event in events
        ]
        async with self._store.transaction():
            accepted = await self._store.events.accept_all(new)
            for event, one in zip(events, accepted, strict=True):
                if not one.duplicate:
                    await self._show(workspace, event)
            self._store.once_committed(self._deliverer.wake)
        return accepted

    async def tell(self, workspace: str, event: Event) -> Accepted | None:
        """Keep an event of Stepbox's own where a trigger is for it; joins the caller's transaction."""
        recipients = self._recipients(workspace, event)
        if not recipients and not self.witnesses and not self.waits:
            return None
        accepted: Accepted | None = None
        async with self._store.transaction():
            if recipients:
                new = NewEvent.of(event, workspace=workspace, origin=OWN)
                accepted = await self._store.events.accept(new, recipients)
            if accepted is None or not accepted.duplicate:
                await self._show(workspace, event)
            self._store.once_committed(self._deliverer.wake)
        return accepted

    def interest(self, type_: str) -> Interest:
        """For which events of that type there may be somebody."""
        triggers = self._subscriptions.of(EventTrigger)
        if self.witnesses or any(like(trigger.event.type, type_) for _, trigger in triggers):
            return "each"
        return "awaited" if self.waits else "none"

    def _recipients(self, workspace: str, event: Event) -> list[Recipient]:
        return [each.recipient for each in self._subscriptions.matching(workspace, event)]

    async def _show(self, workspace: str, event: Event) -> None:
        for witness in (*self.witnesses, *self.waits):
            await witness.saw(workspace, event)

    def _count(
        self,
        buckets: dict[str, Bucket],
        subscription: Subscription,
        rate: Rate,
        now: datetime,
        *,
        because: RefusedRequestError | None = None,
    ) -> None:
        buckets[subscription.name], wait = take(rate, buckets.get(subscription.name), now)
        if wait > 0:
            what = "requests" if because is None else "requests that aren't verified"
            message = f"more than {rate.limit} {what} in {rate.per:g} s came to {_path(subscription)}"
            raise TooManyRequestsError(message, after=wait) from because


def _path(subscription: Subscription) -> str:
    assert isinstance(subscription.trigger, WebhookTrigger)
    return subscription.trigger.webhook.path

"""What a request to a webhook is answered: accepted, or with what the run that it starts comes to."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from engine.deliveries import Accepted, Delivery, DeliveryStatus
from engine.intake.intake import Intake
from engine.intake.receiver import TooManyRequestsError, UnknownWebhookError
from engine.intake.subscriptions import Subscription
from engine.names import Names
from engine.records import DEFAULT_WORKSPACE, Run
from engine.service import RejectedError
from engine.store import Store
from engine.store.errors import StoreError
from flows.contracts import StepResult
from flows.errors import StepboxError
from flows.expressions import ExpressionError, resolve
from flows.values import Json, RunStatus
from triggers.event.cloudevents import InvalidEventError, read_events
from triggers.http.request import RefusedRequestError, Request
from triggers.webhook.config import Respond, WebhookTrigger

_log = logging.getLogger(__name__)

STARTED_WITHIN: Final = 1.0
"""Seconds that an answer waits for the delivery, so that it can name the run."""
RESULT_WITHIN: Final = 30.0
"""Seconds that an answer waits for the run to end, where the webhook answers with what it comes to."""
_ANSWERED: Final = frozenset({400, 405, 413, 415, 431})
"""Statuses whose reason the sender learns; of what isn't verified it learns only that."""


@dataclass(frozen=True, kw_only=True)
class HookAnswer:
    """An HTTP answer; ``body`` is sent as JSON."""

    status: int
    body: Json
    headers: Mapping[str, str] = field(default_factory=dict)


class Hooks:
    """The webhooks as requests find them. ``wait`` gives a workspace's run once it has ended, or as it is by then."""

    def __init__(self, *, store: Store, intake: Intake, wait: Callable[[str, str, float], Awaitable[Run]]) -> None:
        self._store = store
        self._intake = intake
        self._wait = wait

    def max_body(self, path: str) -> int:
        """Bytes that the body of a request to a path may have.

        Raises:
            RejectedError: there is no webhook of that path.
        """
        return _trigger(self._find(path)[2]).webhook.max_body

    async def take(self, path: str, request: Request) -> HookAnswer:
        """Take a request to ``/hooks/<path>``, and answer it once it is kept.

        Raises:
            RejectedError: it isn't taken.
            StoreError: it could not be kept.
        """
        self._intake.refuse_when_stopping()
        workspace, hook, _subscription = self._find(path)
        try:
            received = await self._intake.receiver.webhook(workspace, hook, request)
        except RefusedRequestError as refused:
            raise _refusal(refused, self._find(path)[2]) from None
        except TooManyRequestsError as many:
            headers = {"Retry-After": str(max(1, -int(-many.after // 1)))}
            raise RejectedError(many.message, status=429, reason=many.code, headers=headers) from None
        except UnknownWebhookError as unknown:
            raise RejectedError(unknown.message, status=404, reason=unknown.code) from None
        except StoreError:
            raise
        except StepboxError as problem:
            _log.error("webhook %s can't take requests: %s", path, problem)
            message = "the webhook can't take requests: the service's log says why"
            raise RejectedError(message, status=503, reason="webhook_unavailable") from None
        return await self._answer(received.subscription, received.accepted)

    def _find(self, path: str) -> tuple[str, str, Subscription]:
        """The workspace, the webhook's path in it, and the webhook.

        Paths that begin with a workspace's name are that one's, so that nobody in the default one takes its requests.
        """
        subscriptions = self._intake.subscriptions
        workspace, _, rest = path.partition("/")
        is_another = workspace != DEFAULT_WORKSPACE and subscriptions.is_workspace(workspace)
        for named, hook in ((workspace, rest),) if is_another else ((DEFAULT_WORKSPACE, path), (workspace, rest)):
            found = subscriptions.webhook(named, hook)
            if found is not None:
                return named, hook, found
        raise RejectedError(f"there is no webhook {path[:200]!r}", status=404, reason="unknown_webhook")

    async def _answer(self, subscription: Subscription, accepted: Accepted) -> HookAnswer:
        delivery = accepted.deliveries[0]
        if delivery.status is DeliveryStatus.PENDING:
            delivery = await self._intake.deliverer.ended(delivery, within=STARTED_WITHIN)
        respond = _trigger(subscription).webhook.respond
        if respond != "accepted" and delivery.run_id is not None:
            run = await self._wait(delivery.workspace, delivery.run_id, RESULT_WITHIN)
            if run.status is RunStatus.SUCCEEDED:
                return await self._result(respond, run)
            if run.ended_at is not None:
                message = f"run {run.id} {run.status.value}"
                raise RejectedError(message, status=500, reason=f"run_{run.status.value}", headers=_location(run.id))
        return _accepted(accepted, delivery)

    async def _result(self, respond: str | Respond, run: Run) -> HookAnswer:
        if not isinstance(respond, Respond):
            return HookAnswer(status=200, body=run.output, headers=_location(run.id))
        names = Names(run)
        for step in await self._store.steps.summaries(run.id):
            end = step.final
            ended = StepResult(status=end.status, result=end.result, error=end.error, artifacts=step.artifacts)
            names.add_step(end.step_id, ended)
        try:
            body = resolve(respond.body, {**names.of_step(), "output": run.output})
        except ExpressionError as problem:
            _log.error("the answer to the webhook of run %s can't be made: %s", run.id, problem)
            message = f"run {run.id} succeeded, but the answer can't be made of it"
            raise RejectedError(message, status=500, reason="invalid_expression", headers=_location(run.id)) from None
        return HookAnswer(status=respond.status, body=body, headers=_location(run.id))


async def take_events(intake: Intake, workspace: str, request: Request) -> Sequence[Accepted]:
    """Take the CloudEvents of a request, all of them or none.

    Raises:
        RejectedError: it holds none, or one of them isn't right.
    """
    intake.refuse_when_stopping()
    try:
        events = read_events(request, datetime.now(UTC))
    except InvalidEventError as invalid:
        raise RejectedError(invalid.message, status=invalid.status, reason=invalid.code, fix=invalid.fix) from None
    return await intake.receiver.events(workspace, events)


def _accepted(accepted: Accepted, delivery: Delivery) -> HookAnswer:
    body: Json = {"event": accepted.event.id, "status": delivery.status.value, "run": delivery.run_id}
    return HookAnswer(status=202, body=body, headers={} if delivery.run_id is None else _location(delivery.run_id))


def _location(run: str) -> dict[str, str]:
    return {"Location": f"/api/v1/runs/{run}"}


def _refusal(refused: RefusedRequestError, subscription: Subscription) -> RejectedError:
    webhook = _trigger(subscription).webhook
    headers = {}
    if refused.status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(webhook.methods)
    if refused.status == HTTPStatus.UNAUTHORIZED:
        _log.info("a request to webhook %s isn't verified: %s", webhook.path, refused.message)
        headers["WWW-Authenticate"] = f'Webhook verify="{webhook.verify}"'
    known = refused.status in _ANSWERED
    message = refused.message if known else "the request isn't verified"
    reason = refused.code if known else "unverified"
    return RejectedError(message, status=refused.status, reason=reason, headers=headers)


def _trigger(subscription: Subscription) -> WebhookTrigger:
    assert isinstance(subscription.trigger, WebhookTrigger)
    return subscription.trigger

"""What is sent is kept, verified, and kept once."""

import hashlib
import hmac
import json
from datetime import UTC, datetime

import pytest

from engine.deliveries import DeliveryStatus
from engine.intake.receiver import UNVERIFIED, TooManyRequestsError, UnknownWebhookError
from flows.events import Event
from tests.unit.engine.intake.conftest import STEPS, Intake
from triggers.http.request import RefusedRequestError, Request

KEY = "a-github-secret"
HOOK = f"""
flow: pushes
inputs:
  branch: {{type: string}}
triggers:
  - id: push
    webhook: {{path: github/push, verify: github, secret: hook_key}}
    with: {{branch: "${{{{ event.body.ref }}}}"}}
{STEPS}"""


def push(ref: str = "main", delivery: str = "1", key: str = KEY) -> Request:
    body = json.dumps({"ref": ref}).encode()
    signature = hmac.digest(key.encode(), body, hashlib.sha256).hex()
    headers = [
        ("Content-Type", "application/json"),
        ("X-Hub-Signature-256", f"sha256={signature}"),
        ("X-GitHub-Delivery", delivery),
    ]
    return Request(method="POST", headers=headers, body=body)


async def test_a_verified_request_starts_a_run(intake: Intake) -> None:
    intake.secrets["hook_key"] = [KEY]
    await intake.apply(HOOK)
    received = await intake.receiver.webhook("default", "github/push", push())
    assert [each.status for each in received.accepted.deliveries] == [DeliveryStatus.PENDING]
    await intake.deliverer.deliver_due()
    assert [run.inputs for run in await intake.runs()] == [{"branch": "main"}]


async def test_a_request_that_comes_again_starts_nothing_and_gets_the_same_answer(intake: Intake) -> None:
    intake.secrets["hook_key"] = [KEY]
    await intake.apply(HOOK)
    await intake.receiver.webhook("default", "github/push", push())
    await intake.deliverer.deliver_due()
    again = await intake.receiver.webhook("default", "github/push", push())
    await intake.deliverer.deliver_due()
    (run,) = await intake.runs()
    assert again.accepted.duplicate
    assert [each.run_id for each in again.accepted.deliveries] == [run.id]
    await intake.receiver.webhook("default", "github/push", push(delivery="2"))
    await intake.deliverer.deliver_due()
    assert len(await intake.runs()) == 2


async def test_what_is_not_verified_leaves_nothing(intake: Intake) -> None:
    intake.secrets["hook_key"] = [KEY]
    await intake.apply(HOOK)
    with pytest.raises(RefusedRequestError) as refused:
        await intake.receiver.webhook("default", "github/push", push(key="guessed"))
    assert refused.value.status == 401
    assert await intake.deliveries() == []


@pytest.mark.parametrize("path", ["github", "github/push/", "GITHUB/PUSH", ""])
async def test_another_path_is_unknown(intake: Intake, path: str) -> None:
    intake.secrets["hook_key"] = [KEY]
    await intake.apply(HOOK)
    with pytest.raises(UnknownWebhookError):
        await intake.receiver.webhook("default", path, push())
    with pytest.raises(UnknownWebhookError):
        await intake.receiver.webhook("other", "github/push", push())


async def test_either_of_two_live_secrets_will_do(intake: Intake) -> None:
    intake.secrets["hook_key"] = ["new", KEY]
    await intake.apply(HOOK)
    await intake.receiver.webhook("default", "github/push", push(delivery="1"))
    await intake.receiver.webhook("default", "github/push", push(delivery="2", key="new"))
    assert len(await intake.deliveries()) == 2


async def test_more_than_its_rate_is_not_taken(intake: Intake) -> None:
    intake.secrets["hook_key"] = [KEY]
    await intake.apply(HOOK.replace("secret: hook_key", "secret: hook_key, rate: {limit: 2, per: 1h}"))
    for number in range(2):
        await intake.receiver.webhook("default", "github/push", push(delivery=str(number)))
    with pytest.raises(TooManyRequestsError) as refused:
        await intake.receiver.webhook("default", "github/push", push(delivery="3"))
    assert 0 < refused.value.after <= 1800
    assert len(await intake.deliveries()) == 2


async def test_strangers_do_not_use_up_the_rate_of_the_sender(intake: Intake) -> None:
    intake.secrets["hook_key"] = [KEY]
    await intake.apply(HOOK.replace("secret: hook_key", "secret: hook_key, rate: {limit: 2, per: 1h}"))
    for number in range(UNVERIFIED.limit):
        with pytest.raises(RefusedRequestError) as unverified:
            await intake.receiver.webhook("default", "github/push", push(delivery=str(number), key="guessed"))
        assert unverified.value.status == 401
    with pytest.raises(TooManyRequestsError) as refused:
        await intake.receiver.webhook("default", "github/push", push(key="guessed"))
    assert 0 < refused.value.after <= 1
    for number in range(2):
        await intake.receiver.webhook("default", "github/push", push(delivery=str(number)))
    with pytest.raises(TooManyRequestsError, match="more than 2 requests"):
        await intake.receiver.webhook("default", "github/push", push(delivery="3"))
    assert len(await intake.deliveries()) == 2


def cloud_event(type_: str, identity: str, **data: object) -> Event:
    attributes = {"id": identity, "source": "/shop", "type": type_, "data": data}
    return Event(kind="event", key=f"/shop {identity}", occurred_at=datetime.now(UTC), data=attributes)


async def test_events_go_to_every_trigger_that_is_for_them(intake: Intake) -> None:
    for name, pattern in (("one", "order.*"), ("two", "order.created"), ("three", "invoice.*")):
        await intake.apply(f"flow: {name}\ntriggers:\n  - id: t\n    event: {{type: {pattern}}}\n{STEPS}")
    accepted = await intake.receiver.events(
        "default", [cloud_event("order.created", "1"), cloud_event("order.paid", "2"), cloud_event("other", "3")]
    )
    assert [[each.flow for each in one.deliveries] for one in accepted] == [["one", "two"], ["one"], []]
    again = await intake.receiver.events("default", [cloud_event("order.created", "1")])
    assert again[0].duplicate
    while await intake.deliverer.deliver_due():
        pass
    assert sorted(run.flow for run in await intake.runs()) == ["one", "one", "two"]


async def test_what_stepbox_tells_of_is_kept_only_where_someone_listens(intake: Intake) -> None:
    event = cloud_event("stepbox.run.failed", "1")
    assert await intake.receiver.tell("default", event) is None
    await intake.apply(f'flow: alarm\ntriggers:\n  - id: t\n    event: {{type: "stepbox.run.*"}}\n{STEPS}')
    told = await intake.receiver.tell("default", event)
    assert told is not None
    assert [each.flow for each in told.deliveries] == ["alarm"]

"""From a request to an event; how many requests are taken; what a flow may write about webhooks."""

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.contracts import Finding
from flows.events import Event
from triggers.http.request import RefusedRequestError, Request
from triggers.webhook.config import Rate, Webhook, WebhookTrigger, check_webhook
from triggers.webhook.rate import Bucket, take
from triggers.webhook.receive import event_of, verified

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


def receive(of: WebhookTrigger, request: Request, secrets: list[str], now: datetime) -> Event:
    return event_of(of, request, verified(of, request, secrets, now), now)


def trigger(**more: Any) -> WebhookTrigger:
    return WebhookTrigger(id="hook", webhook=Webhook.model_validate({"path": "orders/new", "verify": "none", **more}))


def test_a_request_becomes_an_event() -> None:
    request = Request(
        method="post",
        headers=[
            ("Content-Type", "application/json"),
            ("X-Message", "7"),
            ("X-Many", "a"),
            ("x-many", "b"),
            ("Cookie", "session=s3cret"),
            ("Authorization", "Basic s3cret"),
            ("Proxy-Authorization", "s3cret"),
        ],
        query="a=1&b=2&b=3",
        body=b'{"kind": "close"}',
    )
    event = receive(trigger(id="X-Message"), request, [], NOW)
    assert (event.kind, event.key, event.occurred_at, event.attachments) == ("webhook", "7", NOW, ())
    assert event.data == {
        "body": {"kind": "close"},
        "body_encoding": "json",
        "files": [],
        "headers": {"content-type": "application/json", "x-message": "7", "x-many": "a, b"},
        "query": {"a": "1", "b": ["2", "3"]},
        "method": "POST",
        "path": "orders/new",
        "id": "7",
    }


def test_a_token_is_no_part_of_the_event() -> None:
    ours = trigger(verify="token", secret="key", header="X-Token")
    event = receive(ours, Request(method="POST", headers=[("x-token", "s3cret"), ("x-other", "y")]), ["s3cret"], NOW)
    assert event.data["headers"] == {"x-other": "y"}
    assert "s3cret" not in json.dumps(event.data)
    assert event.key is None


def test_files_are_described_in_the_event_and_kept_apart() -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\nhello\r\n--x--\r\n'
    request = Request(method="POST", headers=[("Content-Type", "multipart/form-data; boundary=x")], body=body)
    event = receive(trigger(), request, [], NOW)
    (attachment,) = event.attachments
    assert attachment.content.read() == b"hello"
    attachment.content.close()
    digest = hashlib.sha256(b"hello").hexdigest()
    described = {
        "field": "f",
        "filename": "a.txt",
        "path": "0/a.txt",
        "content_type": "application/octet-stream",
        "size": 5,
        "sha256": digest,
    }
    assert event.data["files"] == [described]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (Request(method="GET"), 405),
        (Request(method="DELETE"), 405),
        (Request(method="POST", body=b"x" * 1_000_001), 413),
        (Request(method="POST", headers=[("X-Y", "z" * 40_000)]), 431),
        (Request(method="POST", headers=[("X-Y", "z")] * 20_000), 431),
        (Request(method="POST", headers=[("Content-Encoding", "gzip")], body=b"x"), 415),
        (Request(method="POST", headers=[("Content-Type", "text/plain")] * 2, body=b"x"), 400),
        (Request(method="POST", query="&".join(["a=1"] * 1001)), 400),
        (Request(method="POST", query="a=%ff"), 400),
    ],
)
def test_what_is_not_taken_has_its_status(request_: Request, status: int) -> None:
    with pytest.raises(RefusedRequestError) as caught:
        receive(trigger(), request_, [], NOW)
    assert caught.value.status == status


def test_nothing_is_parsed_before_it_is_verified() -> None:
    request = Request(method="POST", headers=[("Content-Type", "application/json")], query="a=%ff", body=b"{")
    with pytest.raises(RefusedRequestError) as caught:
        receive(trigger(verify="hmac", secret="key"), request, ["k"], NOW)
    assert caught.value.status == 401
    headers = [("X-Signature", hmac.new(b"k", b"{", "sha256").hexdigest()), ("Content-Type", "application/json")]
    with pytest.raises(RefusedRequestError, match="not JSON"):
        receive(trigger(verify="hmac", secret="key"), Request(method="POST", headers=headers, body=b"{"), ["k"], NOW)


def test_a_very_long_id_has_a_short_key() -> None:
    headers = [("X-Id", "é" * 10_000)]
    event = receive(trigger(id="X-Id"), Request(method="POST", headers=headers), [], NOW)
    assert event.key is not None
    assert len(event.key) == 71


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_every_method_can_be_taken(method: str) -> None:
    event = receive(trigger(methods=[method]), Request(method=method), [], NOW)
    assert (event.data["method"], event.data["body"]) == (method, None)


# Rates


def test_a_rate_takes_its_limit_at_once_and_then_evenly() -> None:
    rate, bucket, now = Rate(limit=3, per=60.0), None, NOW
    for _ in range(3):
        bucket, wait = take(rate, bucket, now)
        assert wait == 0
    bucket, wait = take(rate, bucket, now)
    assert wait == pytest.approx(20)
    bucket, wait = take(rate, bucket, now + timedelta(seconds=19))
    assert wait == pytest.approx(1)
    bucket, wait = take(rate, bucket, now + timedelta(seconds=20, milliseconds=1))
    assert wait == 0


def test_a_clock_that_is_set_back_gives_nothing() -> None:
    rate = Rate(limit=1, per=10.0)
    bucket, _ = take(rate, None, NOW)
    for _ in range(5):
        bucket, wait = take(rate, bucket, NOW - timedelta(days=1))
        assert wait == pytest.approx(10)
    assert take(rate, bucket, NOW + timedelta(seconds=10))[1] == 0


@given(st.integers(1, 50), st.floats(0.1, 1000), st.lists(st.floats(0, 100), max_size=80))
def test_no_stretch_of_time_has_more_than_its_share(limit: int, per: float, waits: list[float]) -> None:
    rate, bucket, now = Rate(limit=limit, per=per), None, NOW
    taken: list[datetime] = []
    for wait in waits:
        now += timedelta(seconds=wait)
        result: tuple[Bucket, float] = take(rate, bucket, now)
        bucket = result[0]
        if result[1] == 0:
            taken.append(now)
        assert 0 <= bucket.tokens <= limit
    for position, first in enumerate(taken):
        for count, last in enumerate(taken[position:], start=1):
            assert count <= limit + (last - first).total_seconds() * limit / per + 1e-6


# The model


def problems(**webhook: Any) -> list[Finding]:
    given = {"path": "p", "verify": "hmac", "secret": "key", **webhook}
    return list(check_webhook(WebhookTrigger(id="t", webhook=Webhook.model_validate(given))))


@pytest.mark.parametrize(
    "webhook",
    [
        {},
        {"prefix": "sha256=", "algorithm": "sha512", "encoding": "base64", "id": "X-Id"},
        {"timestamp": "X-Time", "signed": "v0:{timestamp}:{body}"},
        {"verify": "token", "header": "X-Token", "prefix": "Token "},
        {"verify": "none", "secret": None, "id": "X-Id"},
        {"rate": {"limit": 10}},
        {"max_body": 100_000_000},
    ],
)
def test_a_webhook_that_is_right(webhook: dict[str, Any]) -> None:
    assert problems(**webhook) == []


@pytest.mark.parametrize(
    ("webhook", "code", "path"),
    [
        ({"path": "Orders New"}, "invalid_path", "path"),
        ({"path": "/orders"}, "invalid_path", "path"),
        ({"path": "a//b"}, "invalid_path", "path"),
        ({"path": ".."}, "invalid_path", "path"),
        ({"verify": "github", "header": "X"}, "conflicting_keys", "header"),
        ({"verify": "github", "id": "X"}, "conflicting_keys", "id"),
        ({"verify": "standard", "algorithm": "sha1"}, "conflicting_keys", "algorithm"),
        ({"verify": "token", "encoding": "hex"}, "conflicting_keys", "encoding"),
        ({"header": "X Y"}, "invalid_value", "header"),
        ({"id": ""}, "invalid_value", "id"),
        ({"prefix": "ü"}, "invalid_value", "prefix"),
        ({"signed": "x"}, "invalid_value", "signed"),
        ({"signed": "{body}{body}"}, "invalid_value", "signed"),
        ({"signed": "{timestamp}.{body}"}, "invalid_value", "signed"),
        ({"timestamp": "X-Time"}, "invalid_value", "signed"),
        ({"max_body": 100_000_001}, "invalid_value", "max_body"),
        ({"rate": {"limit": 5, "per": 0}}, "invalid_value", "rate"),
    ],
)
def test_what_is_wrong_with_a_webhook(webhook: dict[str, Any], code: str, path: str) -> None:
    (finding,) = problems(**webhook)
    assert (finding.code, finding.path[1]) == (code, path)
    assert finding.fix

"""CloudEvents in, as the specification writes them and as it doesn't; patterns; our own events; loops."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.contracts import StepError
from flows.events import Event
from triggers.event.causes import ATTRIBUTE, MAX_CAUSES, caused_by, loop, read_causes, write_causes
from triggers.event.cloudevents import MAX_BATCH, MAX_EVENT, InvalidEventError, read_events
from triggers.event.config import EventPattern
from triggers.event.own import SCHEMAS, Origin, RunOutcome, approval_requested, run_ended, trigger_dead
from triggers.event.patterns import matches
from triggers.http.request import Request

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
# The example of the specification (JSON format, section 4).
EXAMPLE = {
    "specversion": "1.0",
    "type": "com.example.someevent",
    "source": "/mycontext",
    "id": "A234-1234-1234",
    "time": "2018-04-05T17:31:00Z",
    "comexampleextension1": "value",
    "comexampleothervalue": 5,
    "datacontenttype": "application/json",
    "data": {"appinfoA": "abc", "appinfoB": 123, "appinfoC": True},
}


def send(body: Any, content_type: str = STRUCTURED, headers: dict[str, str] | None = None) -> tuple[Event, ...]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    pairs = [("Content-Type", content_type), *(headers or {}).items()]
    return read_events(Request(method="POST", headers=pairs, body=content), NOW)


def test_a_structured_event() -> None:
    (event,) = send(EXAMPLE)
    assert event.data == EXAMPLE
    assert (event.kind, event.key, event.causes) == ("event", "/mycontext A234-1234-1234", ())
    assert event.occurred_at == datetime(2018, 4, 5, 17, 31, tzinfo=UTC)


def test_a_binary_event_is_the_same() -> None:
    headers = {f"CE-{name}": str(value) for name, value in EXAMPLE.items() if name not in {"data", "datacontenttype"}}
    (event,) = send(EXAMPLE["data"], "application/json", headers)
    # In a header every attribute is text.
    assert event.data == {**EXAMPLE, "comexampleothervalue": "5"}


def test_a_header_may_hold_any_characters() -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/x",
        "ce-type": "t",
        "ce-subject": "Euro%20%E2%82%AC%20%F0%9F%98%80",
    }
    (event,) = send(b"", "application/json", headers)
    assert event.data["subject"] == "Euro € 😀"
    assert event.data["data"] is None


def test_a_batch() -> None:
    events = send([EXAMPLE, {**EXAMPLE, "id": "2"}], BATCH)
    assert [event.key for event in events] == ["/mycontext A234-1234-1234", "/mycontext 2"]
    assert send([], BATCH) == ()


@pytest.mark.parametrize("data", [None, 1, "text", [1], {"a": None}])
def test_data_may_be_any_json(data: Any) -> None:
    assert send({**EXAMPLE, "data": data})[0].data["data"] == data


def test_binary_data_stays_base64() -> None:
    body = {name: value for name, value in EXAMPLE.items() if name != "data"} | {"data_base64": "AP8="}
    assert send(body)[0].data["data_base64"] == "AP8="
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/x", "ce-type": "t"}
    (event,) = send(b"\x00\xff", "application/octet-stream", headers)
    assert event.data["data_base64"] == "AP8="


def test_a_time_is_kept_in_utc_and_one_that_is_missing_is_now() -> None:
    (event,) = send({**EXAMPLE, "time": "2026-05-04T14:00:00.5+02:00"})
    assert event.data["time"] == "2026-05-04T12:00:00.500000Z"
    (event,) = send({name: value for name, value in EXAMPLE.items() if name != "time"})
    assert "time" not in event.data
    assert event.occurred_at == NOW


@pytest.mark.parametrize(
    ("change", "match"),
    [
        *(({name: None}, f"`{name}` is missing") for name in ("specversion", "id", "source", "type")),
        *(({name: ""}, name) for name in ("id", "source", "type", "subject", "dataschema")),
        *(({name: 5}, name) for name in ("specversion", "id", "source", "type", "subject", "time")),
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": "2.0"}, "specversion"),
        ({"time": "yesterday"}, "."),
        ({"time": "2026-05-04T12:00:00"}, "timezone"),
        ({"time": "0001-01-01T00:00:00+23:00"}, "out of range"),
        ({"Upper": "x"}, "lowercase"),
        ({"with-dash": "x"}, "lowercase"),
        ({"nested": {"a": 1}}, "`nested`"),
        ({"list": []}, "`list`"),
        ({"float": 1.5}, "`float`"),
        ({"big": 2**31}, "`big`"),
        ({"long": "x" * 2001}, "`long`"),
        ({"control": "a\u0000b"}, "control characters"),
        ({"data_base64": "AP8="}, "both"),
        ({"data": None, "data_base64": "not base64"}, "not base64"),
        ({"data": None, "data_base64": 5}, "not base64"),
        ({ATTRIBUTE: "nonsense"}, "stepboxcauses"),
        ({ATTRIBUTE: "UPPER/1"}, "stepboxcauses"),
        ({ATTRIBUTE: 5}, "."),
    ],
)
def test_what_is_no_event(change: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidEventError, match=match) as caught:
        send({**EXAMPLE, **change})
    assert caught.value.status == 400
    assert caught.value.fix
    with pytest.raises(InvalidEventError, match="event 1: "):
        send([EXAMPLE, {**EXAMPLE, **change}], BATCH)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", STRUCTURED, 400),
        (b'{"id": "1", "id": "2"}', STRUCTURED, 400),
        (b"1e999", STRUCTURED, 400),
        (b"[]", STRUCTURED, 400),
        (b"null", STRUCTURED, 400),
        (b"{}", BATCH, 400),
        (json.dumps([EXAMPLE] * (MAX_BATCH + 1)).encode(), BATCH, 413),
        (json.dumps({**EXAMPLE, "data": "x" * MAX_EVENT}).encode(), STRUCTURED, 413),
        (b"<event/>", "application/cloudevents+xml", 415),
        (b"{}", "application/json", 400),
        (b"", "text/plain", 400),
    ],
)
def test_what_is_not_taken_has_its_status(body: bytes, content_type: str, status: int) -> None:
    with pytest.raises(InvalidEventError) as caught:
        send(body, content_type)
    assert caught.value.status == status


@pytest.mark.parametrize("content", [b"{", b"1e999", b'{"a":1,"a":2}'])
def test_data_that_is_not_what_it_is_said_to_be_is_refused(content: bytes) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/x", "ce-type": "t"}
    with pytest.raises(InvalidEventError):
        send(content, "application/json", headers)


@pytest.mark.parametrize(
    "headers", [{"ce-time": "x"}, {"ce-specversion": "0.3"}, {"ce-x_y": "1"}, {"CE-ID": "2"}, {"ce-a": "%00"}]
)
def test_wrong_headers_are_refused(headers: dict[str, str]) -> None:
    right = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/x", "ce-type": "t"}
    with pytest.raises(InvalidEventError):
        send(b"{}", "application/json", right | headers)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 2**65) | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from([*EXAMPLE, "data_base64", ATTRIBUTE, "x"]), JSON),
    st.sampled_from([STRUCTURED, BATCH, "application/json"]),
)
def test_whatever_comes_is_an_event_or_refused(change: dict[str, Any], content_type: str) -> None:
    with suppress(InvalidEventError):
        send({**EXAMPLE, **change}, content_type)


# Patterns


def event(**attributes: Any) -> Event:
    return Event(
        kind="event",
        key="k",
        occurred_at=NOW,
        data={"type": "com.example.order.created", "source": "/shop", **attributes},
    )


@pytest.mark.parametrize(
    ("pattern", "attributes", "expected"),
    [
        ({"type": "com.example.order.created"}, {}, True),
        ({"type": "com.example.order"}, {}, False),
        ({"type": "com.example.*"}, {}, True),
        ({"type": "*"}, {}, True),
        ({"type": "*.created"}, {}, True),
        ({"type": "com.*.order.*"}, {}, True),
        ({"type": "com*order*deleted"}, {}, False),
        ({"type": "com?example.order.created"}, {}, False),
        ({"type": "com.example.[o]rder.created"}, {}, False),
        ({"type": "*", "source": "/shop"}, {}, True),
        ({"type": "*", "source": "/sho"}, {}, False),
        ({"type": "*", "subject": "*"}, {}, False),
        ({"type": "*", "subject": "order-*"}, {"subject": "order-5"}, True),
        ({"type": "a*a"}, {"type": "a"}, False),
        ({"type": "*x*x*"}, {"type": "x\nx"}, True),
    ],
)
def test_patterns(pattern: dict[str, str], attributes: dict[str, str], expected: bool) -> None:  # noqa: FBT001
    assert matches(EventPattern.model_validate(pattern), event(**attributes)) is expected


def test_no_pattern_takes_long() -> None:
    text = "a" * 1999
    assert not matches(EventPattern(type="*a" * 140 + "b"), event(type=text))
    assert matches(EventPattern(type="*a" * 140), event(type=text))


@given(st.text("ab*", min_size=1, max_size=8), st.text("ab", max_size=10))
def test_a_star_is_any_text(pattern: str, text: str) -> None:
    def like(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return any(like(pattern[1:], text[start:]) for start in range(len(text) + 1))
        return text[:1] == pattern[0] and like(pattern[1:], text[1:])

    assert matches(EventPattern(type=pattern), event(type=text)) is like(pattern, text)


# Our own


def ours(causes: tuple[str, ...] = ("notify/r1",)) -> list[Event]:
    origin = Origin(workspace="default", flow="notify", causes=causes)
    error = StepError(code="error", message="it broke", line=3)
    ended: list[Event] = []
    outcomes: tuple[RunOutcome, ...] = get_args(RunOutcome)
    for status in outcomes:
        failed = error if status == "failed" else None
        ended.append(
            run_ended(
                origin, run="r1", version=2, status=status, started_at=NOW, ended_at=NOW, trigger="hook", error=failed
            )
        )
    return [
        *ended,
        approval_requested(origin, run="r1", step="ask", approval="a1", message="May I?", at=NOW, expires_at=None),
        approval_requested(origin, run="r1", step="ask", approval="a1", message="May I?", at=NOW, expires_at=NOW),
        trigger_dead(origin, trigger="hook", event="e1", attempts=5, at=NOW, error=error),
    ]


def test_our_own_events_are_cloudevents_of_their_schemas() -> None:
    for event in ours():
        schema = SCHEMAS[str(event.data["type"])]
        jsonschema.validate(event.data["data"], schema, format_checker=jsonschema.FormatChecker())
        (read,) = send(event.data)
        assert read == event
        assert event.data["source"] == "/workspaces/default/flows/notify"
    assert {event.data["type"] for event in ours()} == set(SCHEMAS)


def test_the_same_happening_has_the_same_key() -> None:
    keys = [event.key for event in ours()]
    assert keys == [event.key for event in ours()]
    assert len(set(keys)) == 5


# Loops


def test_causes_travel_with_an_event() -> None:
    causes = ("a/r1", "b/r2")
    assert read_causes(write_causes(causes)) == causes
    assert read_causes(None) == ()
    (read,) = send({**EXAMPLE, ATTRIBUTE: "a/r1,b/r2"})
    assert read.causes == causes
    assert caused_by(read.causes, flow="c", run="r3") == (*causes, "c/r3")
    assert caused_by((), flow="c", run="r3") == ("c/r3",)


Kind = Literal["own", "other"]


@pytest.mark.parametrize(
    ("type_", "causes", "flow", "match"),
    [
        ("stepbox.run.failed", ("a/1",), "b", None),
        ("stepbox.run.failed", ("a/1",), "a", "a run of `a` itself"),
        ("stepbox.run.failed", ("a/1", "b/2"), "a", "a run that `a` led to"),
        ("com.example.next", ("a/1",), "a", None),
        ("com.example.next", ("a/1",) * (MAX_CAUSES - 1), "a", None),
        ("com.example.next", ("a/1",) * MAX_CAUSES, "a", "16 runs"),
        ("com.example.next", ("a/1",) * MAX_CAUSES, "b", "16 runs"),
        ("com.example.next", (), "a", None),
    ],
)
def test_flows_that_start_each_other_come_to_an_end(
    type_: str, causes: tuple[str, ...], flow: str, match: str | None
) -> None:
    happening = Event(kind="event", key="k", occurred_at=NOW, data={"type": type_}, causes=causes)
    reason = loop(flow, happening)
    assert (reason is None) is (match is None)
    assert match is None or match in str(reason)


def test_two_flows_that_watch_everything_that_fails_stop() -> None:
    """Each starts on the failure of the other, and fails."""
    causes: tuple[str, ...] = ("broken/0",)
    started = 0
    waiting = [causes]
    while waiting:
        causes = waiting.pop()
        happening = Event(kind="event", key="k", occurred_at=NOW, data={"type": "stepbox.run.failed"}, causes=causes)
        for flow in ("watch_one", "watch_two"):
            if loop(flow, happening) is None:
                started += 1
                waiting.append(caused_by(happening.causes, flow=flow, run=str(started)))
    assert started == 4

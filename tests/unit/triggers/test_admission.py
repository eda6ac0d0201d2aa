"""Which events start a run, and with which inputs."""

from datetime import UTC, datetime
from typing import Any

import pytest

from flows.events import Event
from flows.model import TriggerConfig
from triggers.admission import Admitted, Filtered, admit

NOW = datetime(2026, 5, 4, tzinfo=UTC)


def decide(if_: str | bool | None = None, with_: dict[str, Any] | None = None, **event: Any) -> Admitted | Filtered:  # noqa: FBT001
    trigger = TriggerConfig.model_validate({"id": "hook", "if": if_, "with": with_ or {}})
    happening = Event(kind="webhook", key=None, occurred_at=NOW, data=event.pop("data", {}), **event)
    return admit(trigger, happening, flow="f", kind="webhook")


def test_without_a_condition_every_event_starts_a_run() -> None:
    assert decide() == Admitted(inputs={})


def test_inputs_come_of_the_event() -> None:
    given = {
        "status": "${{ event.body.status }}",
        "count": "${{ size(event.body.rows) }}",
        "by": "${{ trigger.kind }}/${{ trigger.id }}",
    }
    decision = decide(
        "event.body.kind == 'close'", given, data={"body": {"kind": "close", "status": "old", "rows": [1, 2]}}
    )
    assert decision == Admitted(inputs={"status": "old", "count": 2, "by": "webhook/hook"})


@pytest.mark.parametrize("condition", ["event.body == 1", "${{ event.body == 1 }}", False])
def test_a_condition_that_says_no_is_the_reason(condition: str | bool) -> None:  # noqa: FBT001
    decision = decide(condition, data={"body": 2})
    assert isinstance(decision, Filtered)
    assert (decision.by, decision.error) == ("if", False)
    assert decision.reason == f"`if: {str(condition).lower() if condition is False else condition}` says no"


@pytest.mark.parametrize(
    "condition", ["event.body.kind == 1", "event.body", "event.body + 1 == 'x'", "event.body.x.y.z == 1"]
)
def test_a_condition_that_fails_filters_with_the_error(condition: str) -> None:
    decision = decide(condition, data={"body": {"a": 1}})
    assert isinstance(decision, Filtered)
    assert (decision.by, decision.error) == ("if", True)
    assert condition.split(maxsplit=1)[0] in decision.reason


def test_inputs_that_can_not_be_made_filter_with_the_error() -> None:
    decision = decide(with_={"a": "${{ event.body.missing }}"}, data={"body": {}})
    assert isinstance(decision, Filtered)
    assert (decision.by, decision.error) == ("with", True)
    assert "event.body.missing" in decision.reason


def test_a_loop_is_the_first_thing_to_be_found() -> None:
    decision = decide("event.body.x == 1", data={"type": "stepbox.run.failed"}, causes=("f/r1",))
    assert isinstance(decision, Filtered)
    assert (decision.by, decision.error) == ("loop", False)


def test_an_event_is_never_an_expression() -> None:
    text = "${{ trigger.id }}"
    assert decide(with_={"a": "${{ event.body }}"}, data={"body": text}) == Admitted(inputs={"a": text})

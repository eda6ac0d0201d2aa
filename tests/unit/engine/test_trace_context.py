"""What a ``traceparent`` says, and which spans follow from it."""

import pytest

from engine import trace_context
from engine.trace_context import TraceContext, kept, span_id, within

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("header", "sampled"),
    [(HEADER, True), (f" {HEADER} ", True), (f"00-{TRACE}-{SPAN}-00", False), (f"01-{TRACE}-{SPAN}-03-more", True)],
)
def test_a_traceparent_is_read(header: str, *, sampled: bool) -> None:
    found = TraceContext.parse(header)
    assert found == TraceContext(trace_id=TRACE, span_id=SPAN, sampled=sampled)
    assert found.header == f"00-{TRACE}-{SPAN}-{'01' if sampled else '00'}"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        7,
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}",
        f"{HEADER}\nX-Evil: 1",
    ],
)
def test_what_is_no_traceparent_begins_a_trace_of_its_own(header: object) -> None:
    assert TraceContext.parse(header) is None


def test_spans_below_one_of_anothers_are_not_made_up() -> None:
    outside = TraceContext(trace_id=TRACE, span_id=SPAN, sampled=True)
    assert outside.below("run") is outside
    own = TraceContext(trace_id=TRACE, span_id=SPAN, sampled=True, own=True).below("run", "step", None, 1)
    assert (own.trace_id, own.span_id) == (TRACE, span_id("run", "step", None, 1))
    assert own.span_id != span_id("run", "step", None, 2)


def test_a_run_keeps_what_it_is_started_for_and_nothing_of_the_run_that_it_repeats() -> None:
    trigger = {"trigger": {"kind": "retry"}, "traceparent": "that of the run before"}
    assert kept(trigger) == {"trigger": {"kind": "retry"}}
    with within(TraceContext.parse(HEADER)):
        assert kept(trigger)["traceparent"] == HEADER
    assert trace_context.current() is None

"""What results may grow to where they are put together: lists of items, inputs, outputs, expressions."""

import json
from collections.abc import Callable

import pytest

from flows.contracts import StepCall
from flows.values import MAX_COMPOSED, Json, RunStatus, StepStatus, json_size
from tests.unit.engine.conftest import RunEngine

MEGABYTE = 1_000_000


async def text(call: StepCall) -> Json:
    """Text of so many bytes of JSON."""
    return "x" * (call.inputs["bytes"] - 2)


async def measure(call: StepCall) -> Json:
    return json_size(dict(call.inputs))


ITEMS = """
flow: items
inputs: {sizes: {type: array}}
steps:
  - id: each
    probe: text
    for_each: {in: "${{ inputs.sizes }}", concurrency: 3, on_item_error: POLICY}
    with: {bytes: "${{ item }}"}
finally:
  - {id: last, probe: echo, with: {seen: "${{ steps.each.error }}"}}
output: ${{ steps.each.result }}
"""


def sizes(total: int) -> list[int]:
    """Of items whose list has that many bytes of JSON: brackets and commas count."""
    each = [MEGABYTE] * (total // MEGABYTE - 1)
    return [*each, total - 2 - sum(each) - len(each)]


@pytest.mark.parametrize("policy", ["fail", "continue"])
async def test_a_list_of_exactly_the_limit_is_given(engine: RunEngine, policy: str) -> None:
    report = await engine(text=text).run(ITEMS.replace("POLICY", policy), sizes=sizes(MAX_COMPOSED))
    assert report.run.status is RunStatus.SUCCEEDED
    assert json_size(report.run.output) == MAX_COMPOSED
    assert [len(one) + 2 for one in report.run.output] == sizes(MAX_COMPOSED)


@pytest.mark.parametrize("policy", ["fail", "continue"])
async def test_a_list_of_one_byte_more_exceeds_the_limit(engine: RunEngine, policy: str) -> None:
    probed = engine(text=text)
    report = await probed.run(ITEMS.replace("POLICY", policy), sizes=sizes(MAX_COMPOSED + 1))
    each = report.steps["each"].final
    assert (each.status, each.result) == (StepStatus.LIMIT_EXCEEDED, None)
    assert each.error is not None
    assert each.error.code == "result_too_large"
    assert "10,000,000" in each.error.message
    assert report.run.status is RunStatus.FAILED
    assert report.steps["last"].final.result["seen"]["code"] == "result_too_large"


async def test_beyond_the_limit_no_item_is_begun(engine: RunEngine) -> None:
    probed = engine(text=text)
    report = await probed.run(ITEMS.replace("POLICY", "continue"), sizes=[MEGABYTE] * 1000)
    assert report.steps["each"].final.status is StepStatus.LIMIT_EXCEEDED
    # The tenth goes beyond the limit; two others were at work beside it.
    assert 10 <= probed.probes.calls.count("each") <= 12
    assert report.steps["each"].attempts == probed.probes.calls.count("each")
    assert all(row.ended_at for row in await probed.attempts(report))
    assert len(json.dumps(report.document())) < 10_000


def composing(field: Callable[[str], str], extra: int) -> str:
    """A flow in which ten results of a megabyte meet, of which the last has so many bytes more."""
    steps = "\n".join(
        f"  - {{id: s{n}, probe: text, needs: [], with: {{bytes: {MEGABYTE + (extra if n == 9 else 0)}}}}}"
        for n in range(10)
    )
    needs = ", ".join(f"s{n}" for n in range(10))
    together = ", ".join(f'k{n}: "${{{{ steps.s{n}.result }}}}"' for n in range(10))
    return f"flow: composed\nsteps:\n{steps}\n" + field(together).replace("NEEDS", f"[{needs}]")


def as_inputs(together: str) -> str:
    return f'  - {{id: b, probe: measure, needs: NEEDS, with: {{{together}}}}}\noutput: "${{{{ steps.b.result }}}}"'


def as_output(together: str) -> str:
    return f"output: {{{together}}}"


async def test_inputs_of_exactly_the_limit_are_given(engine: RunEngine) -> None:
    report = await engine(text=text, measure=measure).run(composing(as_inputs, 0))
    # The expressions' values count; what is written around them in the flow doesn't.
    assert report.run.output == MAX_COMPOSED + KEYS


async def test_inputs_of_one_byte_more_exceed_the_limit(engine: RunEngine) -> None:
    probed = engine(text=text, measure=measure)
    report = await probed.run(composing(as_inputs, 1))
    b = report.steps["b"].final
    assert b.status is StepStatus.LIMIT_EXCEEDED
    assert b.error is not None
    assert b.error.code == "too_large"
    assert b.error.fix is not None
    assert "`steps.s9.result`" in b.error.message
    assert report.steps["b"].attempts == 0
    assert "b" not in probed.probes.calls


# The keys of an output count.
KEYS = len('{"k0":}') + 9 * len(',"k1":')


async def test_an_output_of_exactly_the_limit_is_given(engine: RunEngine) -> None:
    report = await engine(text=text).run(composing(as_output, -KEYS))
    assert report.run.status is RunStatus.SUCCEEDED
    assert json_size(report.run.output) == MAX_COMPOSED


async def test_an_output_of_one_byte_more_fails_the_run(engine: RunEngine) -> None:
    probed = engine(text=text)
    report = await probed.run(composing(as_output, 1 - KEYS) + "\nfinally: [{id: z, probe: echo}]")
    assert report.run.status is RunStatus.FAILED
    assert report.run.error is not None
    assert report.run.error.code == "too_large"
    assert "10,000,001" in report.run.error.message
    assert report.run.output is None
    assert report.steps["z"].final.status is StepStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("size(steps.a.result)", MEGABYTE - 2),
        ("steps.a.result == steps.a.result", True),
        ("size(steps.a.result + steps.a.result)", 2 * MEGABYTE - 4),
        ("steps.a.result.substring(0, 3)", "xxx"),
        ("steps.a.result.contains('y')", False),
        ("size([steps.a.result, steps.a.result])", 2),
    ],
)
async def test_expressions_read_a_result_at_the_limit(engine: RunEngine, expression: str, value: Json) -> None:
    report = await engine(text=text).run(
        f"flow: f\nsteps: [{{id: a, probe: text, with: {{bytes: {MEGABYTE}}}}}]\noutput: ${{{{ {expression} }}}}"
    )
    assert report.run.error is None
    assert report.run.output == value


async def test_text_with_a_result_in_it_is_bounded_too(engine: RunEngine) -> None:
    flow = 'flow: f\nsteps: [{id: a, probe: text, with: {bytes: 1000000}}]\noutput: "TEXT"'
    whole = await engine(text=text).run(flow.replace("TEXT", "<${{ steps.a.result }}>" * 9))
    assert len(whole.run.output) == 9 * MEGABYTE
    beyond = await engine(text=text).run(flow.replace("TEXT", "<${{ steps.a.result }}>" * 11))
    assert beyond.run.error is not None
    assert beyond.run.error.code == "too_large"


async def test_a_small_flow_can_not_make_a_huge_value(engine: RunEngine) -> None:
    many = ", ".join(['"${{ steps.a.result }}"'] * 5000)
    report = await engine(text=text).run(
        f"flow: f\nsteps: [{{id: a, probe: text, with: {{bytes: {MEGABYTE}}}}}, {{id: b, probe: echo, with: {{all: [{many}]}}}}]"
    )
    assert report.steps["b"].final.status is StepStatus.LIMIT_EXCEEDED


async def test_a_subflow_gives_as_much_as_a_flow(engine: RunEngine) -> None:
    parent = 'flow: parent\nsteps: [{id: s, flow: child}]\noutput: "${{ steps.s.result }}"'
    child = composing(as_output, -KEYS).replace("flow: composed", "flow: child")
    report = await engine(text=text).run(parent, child)
    assert report.run.error is None
    assert json_size(report.run.output) == MAX_COMPOSED
    beyond = await engine(text=text).run(parent, composing(as_output, 1 - KEYS).replace("composed", "child"))
    assert beyond.steps["s"].final.error is not None
    assert beyond.steps["s"].final.error.code == "subflow_failed"
    assert "10,000,001" in beyond.steps["s"].final.error.message

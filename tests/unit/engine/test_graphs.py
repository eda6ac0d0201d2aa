"""Any graph of steps with any outcomes ends as docs/flows.md says: the engine against a small oracle of that page."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.report import RunReport
from flows.contracts import StepCall
from flows.values import Json, RunStatus, StepStatus
from tests.unit.engine.conftest import ProbeError, RunEngine

Condition = Literal["none", "true", "false", "of_need", "broken"]


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One step: what it needs (by position), and how it behaves.

    ``fails`` is how many of its attempts fail, for each item where there are ``items``; ``condition`` ``of_need`` asks
    whether the first need has succeeded.
    """

    needs: tuple[int, ...] | None
    condition: Condition
    fails: int
    attempts: int
    continues: bool
    items: tuple[int, ...] | None
    items_continue: bool


@dataclass(frozen=True, kw_only=True)
class Expected:
    status: str
    blocks: bool
    attempts: int
    result: Json


def specs(count: int) -> st.SearchStrategy[list[Spec]]:
    """Lists of steps whose needs, in an order that need not be the written one, have no circle."""

    def build(order: Sequence[int]) -> st.SearchStrategy[list[Spec]]:
        rank = {position: place for place, position in enumerate(order)}
        return st.tuples(*(spec(position, rank) for position in range(count))).map(list)

    def spec(position: int, rank: Mapping[int, int]) -> st.SearchStrategy[Spec]:
        before = [other for other in rank if rank[other] < rank[position]]
        some = st.lists(st.sampled_from(before), unique=True, max_size=3).map(tuple) if before else st.just(())
        default = position > 0 and rank[position - 1] < rank[position]
        return st.builds(
            Spec,
            needs=st.one_of(st.none(), some) if default else some,
            condition=st.sampled_from(["none", "none", "none", "true", "false", "of_need", "broken"]),
            fails=st.sampled_from([0, 0, 0, 1, 2]),
            attempts=st.sampled_from([1, 1, 2, 3]),
            continues=st.booleans(),
            items=st.one_of(st.none(), st.lists(st.sampled_from([0, 0, 1, 2]), max_size=4).map(tuple)),
            items_continue=st.booleans(),
        )

    return st.permutations(range(count)).flatmap(build)


def needs_of(position: int, spec: Spec) -> tuple[int, ...]:
    if spec.needs is not None:
        return spec.needs
    return (position - 1,) if position else ()


def expect(steps: Sequence[Spec]) -> dict[int, Expected]:
    """The documented outcome of each step."""
    ends: dict[int, Expected] = {}
    while len(ends) < len(steps):
        for position, spec in enumerate(steps):
            needs = needs_of(position, spec)
            if position not in ends and all(need in ends for need in needs):
                ends[position] = expect_one(spec, [ends[need] for need in needs])
    return ends


def expect_one(spec: Spec, needs: list[Expected]) -> Expected:
    if any(need.blocks for need in needs):
        return Expected(status="skipped", blocks=True, attempts=0, result=None)
    if spec.condition == "broken":
        return Expected(status="failed", blocks=not spec.continues, attempts=0, result=None)
    if spec.condition == "false" or (spec.condition == "of_need" and needs and needs[0].status != "succeeded"):
        return Expected(status="skipped", blocks=False, attempts=0, result=None)
    if spec.items is None:
        succeeds = spec.fails < spec.attempts
        made = spec.fails + 1 if succeeds else spec.attempts
        result = [need.status for need in needs] if succeeds else None
        status = "succeeded" if succeeds else "failed"
        return Expected(status=status, blocks=not succeeds and not spec.continues, attempts=made, result=result)
    made, results = 0, []
    for index, fails in enumerate(spec.items):
        succeeds = fails < spec.attempts
        made += fails + 1 if succeeds else spec.attempts
        results.append(index if succeeds else None)
        if not succeeds and not spec.items_continue:
            return Expected(status="failed", blocks=not spec.continues, attempts=made, result=None)
    return Expected(status="succeeded", blocks=False, attempts=made, result=results)


def document(steps: Sequence[Spec]) -> str:
    return json.dumps(
        {
            "flow": "graph",
            "steps": [step_document(f"s{position}", position, spec) for position, spec in enumerate(steps)],
            "on_failure": [{"id": "tell", "probe": "echo", "with": {"why": "${{ run.error.message }}"}}],
            "finally": [
                {"id": "all", "probe": "echo", "with": {f"s{n}": f"${{{{ steps.s{n} }}}}" for n in range(len(steps))}},
                {"id": "told", "probe": "echo", "with": {"status": "${{ steps.tell.status }}"}},
            ],
            "output": {f"s{n}": f"${{{{ steps.s{n}.status }}}}" for n in range(len(steps))},
        }
    )


def step_document(step_id: str, position: int, spec: Spec) -> dict[str, Json]:
    needs = needs_of(position, spec)
    told = {f"need_{n}": f"${{{{ steps.s{need}.status }}}}" for n, need in enumerate(needs)}
    step: dict[str, Json] = {"id": step_id, "probe": "act", "with": {**told, "fails": spec.fails}}
    if spec.needs is not None:
        step["needs"] = [f"s{need}" for need in spec.needs]
    conditions = {"true": True, "false": "1 > 2", "broken": "1 + 'a' == 2"}
    if spec.condition in conditions:
        step["if"] = conditions[spec.condition]
    elif spec.condition == "of_need" and needs:
        step["if"] = f"steps.s{needs[0]}.status == 'succeeded'"
    if spec.attempts > 1:
        step["retry"] = {"attempts": spec.attempts, "delay": "0s"}
    if spec.continues:
        step["on_error"] = "continue"
    if spec.items is not None:
        step["for_each"] = {"in": list(spec.items), "on_item_error": "continue" if spec.items_continue else "fail"}
        step["with"] |= {"fails": "${{ item }}", "index": "${{ index }}"}
    return step


def order_holds(steps: Sequence[Spec], moments: Sequence[tuple[str, str]]) -> None:
    """No step began before all that it needs had ended."""
    last_end = {step: place for place, (what, step) in enumerate(moments) if what == "end"}
    for place, (what, step) in enumerate(moments):
        if what == "begin":
            position = int(step[1:])
            for need in needs_of(position, steps[position]):
                assert last_end.get(f"s{need}", -1) < place


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=st.integers(1, 9).flatmap(specs))
async def test_any_graph_ends_as_documented(engine: RunEngine, steps: list[Spec]) -> None:
    moments: list[tuple[str, str]] = []

    async def act(call: StepCall) -> Json:
        moments.append(("begin", call.step_id))
        await asyncio.sleep(0)
        moments.append(("end", call.step_id))
        if call.attempt <= call.inputs["fails"]:
            raise ProbeError
        if "index" in call.inputs:
            return call.inputs["index"]
        return [value for name, value in call.inputs.items() if name.startswith("need_")]

    report = await engine(act=act).run(document(steps))
    expected = expect(steps)
    order_holds(steps, moments)
    for position, end in expected.items():
        step = report.steps[f"s{position}"]
        seen = (step.final.status.value, step.attempts, step.final.result)
        assert seen == (end.status, end.attempts, end.result), f"s{position}"
        assert len([one for one in moments if one == ("begin", f"s{position}")]) == end.attempts
    examine_run(report, expected)


def examine_run(report: RunReport, expected: Mapping[int, Expected]) -> None:
    statuses = {f"s{position}": end.status for position, end in sorted(expected.items())}
    failed = [step for step, status in statuses.items() if status == "failed" and expected[int(step[1:])].blocks]
    seen = report.steps["all"].final.result
    assert {step: seen[step]["status"] for step in statuses} == statuses
    assert {step: seen[step]["result"] for step in statuses} == {f"s{n}": end.result for n, end in expected.items()}
    if not failed:
        assert report.run.status is RunStatus.SUCCEEDED
        assert report.run.output == statuses
        assert "tell" not in report.steps
        assert report.steps["told"].final.result == {"status": "skipped"}
        return
    assert report.run.status is RunStatus.FAILED
    assert report.run.output is None
    assert report.run.error is not None
    assert report.run.error.code == "step_failed"
    assert f"step '{failed[0]}' failed" in report.run.error.message
    assert report.steps["tell"].final.result == {"why": report.run.error.message}
    assert report.steps["told"].final.result == {"status": "succeeded"}
    assert all(report.steps[step].final.status is StepStatus.SUCCEEDED for step in ("tell", "all", "told"))

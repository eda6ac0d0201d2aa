"""Flows of many steps and for-each over many items: what one costs doesn't grow with how many there are."""

import asyncio
import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from engine.snippets import DirectDriver
from flows.contracts import StepCall, StepExecutor, StepResult
from flows.model import StepConfig
from flows.values import Json, RunStatus, StepStatus
from tests.unit.engine.conftest import Engine, ProbeExecutor, ProbeStep, RunEngine


def chain(count: int) -> str:
    steps = [
        f"  - {{id: s{n}, probe: echo, with: {{n: '${{{{ steps.s{n - 1}.result.n + 1 }}}}'}}}}" for n in range(1, count)
    ]
    return "\n".join(["flow: chain", "steps:", "  - {id: s0, probe: echo, with: {n: 0}}", *steps])


def fan(count: int) -> str:
    steps = [f"  - {{id: s{n}, probe: echo, needs: [s0], if: steps.s0.result.n == 0}}" for n in range(1, count)]
    return "\n".join(["flow: fan", "steps:", "  - {id: s0, probe: echo, with: {n: 0}}", *steps])


def items(count: int) -> str:
    return f"""
flow: items
steps:
  - {{id: rows, probe: echo, with: {{rows: "${{{{ lists.range({count}).map(n, {{'a': n, 'b': 'text'}}) }}}}"}}}}
  - id: each
    probe: echo
    for_each: {{in: "${{{{ lists.range({count}) }}}}", concurrency: 10}}
    with: {{row: "${{{{ steps.rows.result.rows[index] }}}}", next: "${{{{ steps.rows.result.rows[item].a + 1 }}}}"}}
"""


async def calls(engine: Engine, text: str) -> int:
    """How many functions are called in this thread while a flow runs, without Prefect: its share is the same."""
    definition = engine.load(text)
    plan = await engine.runs.plan(definition, {}, _NoFlows(), workspace="default")
    engine.runs._driver = DirectDriver()
    count = 0

    def profile(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        if event == "call":
            count += 1

    sys.setprofile(profile)
    try:
        report = await engine.runs.run(plan, observer=engine.observer, trigger={}, principal=engine.principal)
    finally:
        sys.setprofile(None)
    assert report.run.status is RunStatus.SUCCEEDED
    return count


class _NoFlows:
    async def find(self, name: str) -> None:
        return None


@pytest.mark.parametrize("flow", [chain, fan, items])
async def test_a_step_costs_the_same_among_many(engine: RunEngine, flow: Callable[[int], str]) -> None:
    for count in (20, 60, 260):  # compile every expression before
        await calls(engine(), flow(count))
    few, some, many = [await calls(engine(), flow(count)) for count in (20, 60, 260)]
    assert (many - some) / 200 < 1.15 * (some - few) / 40


async def test_all_that_need_not_wait_run_at_once(engine: RunEngine) -> None:
    crowd = asyncio.Barrier(198)
    order: list[str] = []

    async def work(call: StepCall) -> Json:
        if call.step_id.startswith("side"):
            await asyncio.wait_for(crowd.wait(), 60)
        order.append(call.step_id)
        return call.step_id

    sides = [f"side{n}" for n in range(198)]
    steps = "\n".join(f"  - {{id: {side}, probe: work, needs: [top]}}" for side in sides)
    probed = engine(work=work)
    report = await probed.run(f"""
flow: diamond
steps:
  - {{id: top, probe: work}}
{steps}
  - {{id: bottom, probe: work, needs: [{", ".join(sides)}], with: {{first: "${{{{ steps.side0.result }}}}"}}}}
output: ${{{{ steps.bottom.result }}}}
""")
    assert report.run.output == "bottom"
    assert (order[0], order[-1], len(order)) == ("top", "bottom", 200)
    assert list(report.steps) == ["top", *sides, "bottom"]
    assert {step.attempts for step in report.steps.values()} == {1}


async def test_two_hundred_diamonds_one_behind_the_other(engine: RunEngine) -> None:
    began: list[str] = []

    async def work(call: StepCall) -> Json:
        began.append(call.step_id)
        await asyncio.sleep(0)
        return len(began)

    steps = ["  - {id: t0, probe: work, needs: []}"]
    for n in range(66):
        steps += [
            f"  - {{id: l{n}, probe: work, needs: [t{n}]}}",
            f"  - {{id: r{n}, probe: work, needs: [t{n}], if: {'true' if n % 2 else 'false'}}}",
            f"  - {{id: t{n + 1}, probe: work, needs: [l{n}, r{n}]}}",
        ]
    report = await engine(work=work).run("flow: diamonds\nsteps:\n" + "\n".join(steps))
    assert report.run.status is RunStatus.SUCCEEDED
    statuses = {step_id: step.final.status for step_id, step in report.steps.items()}
    skipped = {f"r{n}" for n in range(0, 66, 2)}
    assert {step_id for step_id, status in statuses.items() if status is StepStatus.SKIPPED} == skipped
    place = {step: position for position, step in enumerate(began)}
    assert all(place[f"t{n}"] < place[f"l{n}"] < place[f"t{n + 1}"] for n in range(66))
    assert len(began) == len(place) == 199 - len(skipped)


class Chatty(ProbeExecutor):
    """Prints a megabyte."""

    async def execute(self, config: StepConfig, call: StepCall) -> StepResult:
        return StepResult(status=StepStatus.SUCCEEDED, result=1, stdout="x" * 1_000_000, stderr="y" * 1_000_000)


async def test_the_output_of_steps_does_not_pile_up(engine: RunEngine) -> None:
    probed = engine()
    executors: dict[type[StepConfig], StepExecutor] = {**probed.runs._executors}
    executors[ProbeStep] = Chatty({})
    probed.runs._executors = executors
    await probed.run("flow: warm\nsteps: [{id: a, probe: echo}]")
    tracemalloc.start()
    try:
        report = await probed.run(
            "flow: loud\nsteps:\n  - {id: e, probe: echo, for_each: {in: '${{ lists.range(40) }}', concurrency: 4}}\n"
            + "\n".join(f"  - {{id: s{n}, probe: echo}}" for n in range(20))
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert report.run.status is RunStatus.SUCCEEDED
    # Four at once print two megabytes each; what is done with them may need a copy.
    assert peak < 30_000_000

"""For-each under stress: many items, failures in the middle, retries, timeouts, subflows, caches, little things."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import pytest

from engine.progress import AttemptStarted, StepEnded
from engine.records import StepRun
from flows.contracts import StepCall
from flows.values import Json, RunStatus, StepStatus
from tests.unit.engine.conftest import Engine, ProbeError, RunEngine

THOUSAND = """
flow: thousand
inputs: {{numbers: {{type: array}}}}
steps:
  - id: each
    probe: work
    for_each: {{in: "${{{{ inputs.numbers }}}}", as: number, concurrency: {concurrency}, on_item_error: {policy}}}
    with: {{n: "${{{{ number }}}}", i: "${{{{ index }}}}"}}
    {more}
  - {{id: after, probe: echo, with: {{count: "${{{{ size(steps.each.result) }}}}"}}}}
finally:
  - {{id: last, probe: echo, with: {{status: "${{{{ steps.each.status }}}}", error: "${{{{ steps.each.error }}}}"}}}}
output: ${{{{ steps.each.result }}}}
"""


@dataclass
class Crowd:
    """Counts who is at work at once, and how often each was. The first wait until ``reach`` are there together."""

    fails: frozenset[int] = frozenset()
    reach: int = 1
    times: Counter[int] = field(default_factory=Counter)
    now: int = 0
    most: int = 0
    gathered: asyncio.Event = field(default_factory=asyncio.Event)

    async def work(self, call: StepCall) -> Json:
        number = call.inputs["n"]
        self.times[number] += 1
        self.now += 1
        self.most = max(self.most, self.now)
        if self.now >= self.reach:
            self.gathered.set()
        try:
            await asyncio.wait_for(self.gathered.wait(), 30)
            await asyncio.sleep(0.002 if number % 7 else 0.005)
        finally:
            self.now -= 1
        if number in self.fails:
            raise ProbeError(message=f"number {number}")
        return number + call.inputs["i"]


def items(rows: tuple[StepRun, ...]) -> list[StepRun]:
    return [row for row in rows if row.item is not None]


async def test_a_thousand_items_some_of_which_fail(engine: RunEngine) -> None:
    crowd = Crowd(fails=frozenset(range(400, 600, 3)), reach=20)
    probed = engine(work=crowd.work)
    text = THOUSAND.format(concurrency=20, policy="continue", more="")
    report = await probed.run(text, numbers=list(range(1000)))
    assert report.run.status is RunStatus.SUCCEEDED
    assert report.run.output == [None if n in crowd.fails else 2 * n for n in range(1000)]
    assert crowd.times == Counter(range(1000))
    assert crowd.most == 20
    assert report.steps["after"].final.result == {"count": 1000}
    each = report.steps["each"]
    assert (each.final.status, each.attempts) == (StepStatus.SUCCEEDED, 1000)
    assert 1000 / 20 * 0.002 <= each.final.duration < 60
    rows = items(await probed.attempts(report))
    assert sorted(row.item or 0 for row in rows) == list(range(1000))
    assert {row.item for row in rows if row.status is StepStatus.FAILED} == crowd.fails
    for row in rows:
        assert row.ended_at is not None
        assert row.attempt == 1
        assert row.duration >= 0.002
        if row.item in crowd.fails:
            assert row.error is not None
            assert row.error.message == f"number {row.item}"
    assert len([seen for seen in probed.observer.seen if isinstance(seen, AttemptStarted)]) == 1002
    assert len([seen for seen in probed.observer.seen if isinstance(seen, StepEnded)]) == 3


@pytest.mark.parametrize("concurrency", [1, 10])
async def test_a_failure_in_the_middle_ends_a_thousand_items(engine: RunEngine, concurrency: int) -> None:
    crowd = Crowd(fails=frozenset({200, 203}), reach=concurrency)
    probed = engine(work=crowd.work)
    report = await probed.run(
        THOUSAND.format(concurrency=concurrency, policy="fail", more=""), numbers=list(range(1000))
    )
    assert report.run.status is RunStatus.FAILED
    each = report.steps["each"]
    assert each.final.status is StepStatus.FAILED
    assert each.final.result is None
    assert each.final.error is not None
    assert each.final.error.message == "item 200: number 200"
    assert report.run.error is not None
    assert report.run.error.message == "step 'each' failed: item 200: number 200"
    assert report.steps["after"].final.status is StepStatus.SKIPPED
    last = report.steps["last"].final.result
    assert last == {"status": "failed", "error": {"code": "failed", "message": "item 200: number 200", "line": None}}
    assert crowd.most == concurrency
    rows = items(await probed.attempts(report))
    # Whatever ran beside it came to its end; nothing was begun after it.
    assert {row.item for row in rows} == set(range(len(rows)))
    assert 201 <= len(rows) <= 200 + concurrency
    assert {row.status for row in rows} <= {StepStatus.SUCCEEDED, StepStatus.FAILED}
    assert crowd.times == Counter(row.item for row in rows)


async def test_concurrency_beyond_the_items(engine: RunEngine) -> None:
    together = asyncio.Barrier(5)

    async def meet(call: StepCall) -> Json:
        await asyncio.wait_for(together.wait(), 30)
        return call.inputs["n"]

    report = await engine(work=meet).run(
        THOUSAND.format(concurrency=1000, policy="fail", more=""), numbers=[5, 4, 3, 2, 1]
    )
    assert report.run.output == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(("numbers", "output"), [([], []), ([7], [7])])
@pytest.mark.parametrize("concurrency", [1, 8])
async def test_no_item_and_one(engine: RunEngine, numbers: list[int], output: list[int], concurrency: int) -> None:
    probed = engine(work=Crowd().work)
    report = await probed.run(THOUSAND.format(concurrency=concurrency, policy="fail", more=""), numbers=numbers)
    assert report.run.output == output
    each = report.steps["each"]
    assert (each.final.status, each.attempts) == (StepStatus.SUCCEEDED, len(numbers))
    assert probed.probes.calls.count("each") == len(numbers)


async def test_each_item_has_retries_of_its_own(engine: RunEngine) -> None:
    tries: Counter[int] = Counter()

    async def work(call: StepCall) -> Json:
        number = call.inputs["n"]
        tries[number] += 1
        assert call.attempt == tries[number]
        if tries[number] <= number % 4:
            raise ProbeError(message=f"{number} for the {tries[number]}. time")
        return number

    probed = engine(work=work)
    text = THOUSAND.format(concurrency=5, policy="continue", more="retry: {attempts: 3, delay: 1ms}")
    report = await probed.run(text, numbers=list(range(40)))
    assert report.run.output == [None if n % 4 == 3 else n for n in range(40)]
    assert tries == {n: min(n % 4 + 1, 3) for n in range(40)}
    assert report.steps["each"].attempts == sum(tries.values())
    rows = items(await probed.attempts(report))
    for number in range(40):
        own = [row for row in rows if row.item == number]
        assert [row.attempt for row in own] == list(range(1, tries[number] + 1))
        failures = [row.error.message for row in own if row.error is not None]
        assert failures == [f"{number} for the {n}. time" for n in range(1, min(number % 4, 3) + 1)]


async def test_a_failed_for_each_may_be_continued_from(engine: RunEngine) -> None:
    probed = engine(work=Crowd(fails=frozenset({2})).work)
    more = "on_error: continue\n    retry: {attempts: 2, delay: 1ms}"
    report = await probed.run(THOUSAND.format(concurrency=2, policy="fail", more=more), numbers=[0, 1, 2])
    # `after` asks for the size of null.
    assert report.steps["each"].final.status is StepStatus.FAILED
    assert report.steps["each"].attempts == 4
    assert report.steps["after"].final.status is StepStatus.FAILED
    assert report.run.error is not None
    assert "step 'after'" in report.run.error.message
    assert report.steps["last"].final.result["status"] == "failed"


async def test_the_timeout_is_that_of_an_attempt_of_an_item(engine: RunEngine) -> None:
    async def work(call: StepCall) -> Json:
        if call.inputs["n"] == 2:
            await asyncio.sleep(60)
        await asyncio.sleep(0.06)
        return call.inputs["n"]

    probed = engine(work=work)
    more = "timeout: 600ms\n    retry: {attempts: 2, delay: 1ms, on: [timeout]}"
    report = await probed.run(THOUSAND.format(concurrency=1, policy="continue", more=more), numbers=list(range(12)))
    assert report.run.output == [None if n == 2 else n for n in range(12)]
    rows = items(await probed.attempts(report))
    assert [row.status for row in rows if row.item == 2] == [StepStatus.TIMED_OUT] * 2
    assert report.steps["each"].attempts == 13
    assert report.steps["each"].final.duration > 11 * 0.06 + 2 * 0.6


async def test_an_item_whose_inputs_can_not_be_made_fails_alone(engine: RunEngine) -> None:
    text = """
flow: rows
inputs: {rows: {type: array}}
steps:
  - id: each
    probe: echo
    for_each: {in: "${{ inputs.rows }}", on_item_error: POLICY}
    with: {name: "${{ item.name }}"}
output: ${{ steps.each.result }}
"""
    rows: list[Json] = [{"name": "a"}, {}, {"name": "c"}]
    probed = engine()
    report = await probed.run(text.replace("POLICY", "continue"), rows=rows)
    assert report.run.output == [{"name": "a"}, None, {"name": "c"}]
    assert report.steps["each"].attempts == 2
    (row,) = [row for row in await probed.attempts(report) if row.item == 1]
    assert (row.status, row.attempt, row.error and row.error.code) == (StepStatus.FAILED, 0, "expression_error")
    failed = await probed.run(text.replace("POLICY", "fail"), rows=rows)
    error = failed.steps["each"].final.error
    assert error is not None
    assert error.message.startswith("item 1: `item.name`")
    assert failed.steps["each"].attempts == 1


async def test_an_if_is_asked_once_for_all_items(engine: RunEngine) -> None:
    text = THOUSAND.format(concurrency=3, policy="fail", more="if: size(inputs.numbers) > 3")
    probed = engine(work=Crowd().work)
    skipped = await probed.run(text, numbers=[1, 2])
    assert skipped.steps["each"].final.status is StepStatus.SKIPPED
    assert skipped.steps["each"].attempts == 0
    assert skipped.steps["after"].final.status is StepStatus.FAILED
    assert (await probed.run(text, numbers=[1, 2, 3, 4])).run.output == [1, 3, 5, 7]


async def test_items_with_equal_inputs_are_answered_from_the_cache(engine: RunEngine) -> None:
    calls: list[Json] = []

    async def work(call: StepCall) -> Json:
        calls.append(call.inputs["n"])
        return call.inputs["n"] * 10

    text = """
flow: cached
inputs: {numbers: {type: array}}
steps:
  - {id: each, probe: work, for_each: {in: "${{ inputs.numbers }}"}, cache: {ttl: 1h}, with: {n: "${{ item }}"}}
output: ${{ steps.each.result }}
"""
    probed = engine(work=work)
    first = await probed.run(text, numbers=[1, 2, 1, 3])
    assert (first.run.output, first.steps["each"].attempts, calls) == ([10, 20, 10, 30], 3, [1, 2, 3])
    again = await probed.run(text, numbers=[3, 2, 1, 4])
    assert (again.run.output, again.steps["each"].attempts, calls) == ([30, 20, 10, 40], 1, [1, 2, 3, 4])
    rows = items(await probed.attempts(again))
    assert [(row.item, row.attempt) for row in rows] == [(0, 0), (1, 0), (2, 0), (3, 1)]


async def children(engine: Engine, parent: str) -> list[str]:
    runs = [run for run in (await engine.store.runs.list(limit=500)).items if run.parent_id == parent]
    return [run.id for run in reversed(runs)]


async def test_each_item_is_a_run_of_a_subflow(engine: RunEngine) -> None:
    parent = """
flow: parent
steps:
  - {id: each, flow: middle, for_each: {in: [0, 1, 2, 3, 4], concurrency: 2, on_item_error: continue},
     with: {n: "${{ item }}"}}
output: ${{ steps.each.result }}
"""
    middle = """
flow: middle
inputs: {n: {type: integer}}
steps:
  - {id: pair, flow: inner, for_each: {in: ["${{ inputs.n }}", 10], concurrency: 2}, with: {n: "${{ item }}"}}
output: ${{ steps.pair.result }}
"""
    inner = """
flow: inner
inputs: {n: {type: integer}}
steps: [{id: a, probe: work, with: {n: "${{ inputs.n }}"}}]
finally: [{id: z, probe: echo}]
output: ${{ steps.a.result }}
"""

    async def work(call: StepCall) -> Json:
        await asyncio.sleep(0.001)
        if call.inputs["n"] == 3:
            raise ProbeError(message="three")
        return call.inputs["n"] + 1

    probed = engine(work=work)
    report = await probed.run(parent, middle, inner)
    assert report.run.output == [[1, 11], [2, 11], [3, 11], None, [5, 11]]
    middles = await children(probed, report.run.id)
    assert len(middles) == 5
    inners = [run for one in middles for run in await children(probed, one)]
    assert len(inners) == 10
    statuses = [(await probed.store.runs.get(run)).status for run in inners]
    assert Counter(statuses) == {RunStatus.SUCCEEDED: 9, RunStatus.FAILED: 1}
    for run in inners:
        ends = {row.step_id: row.status for row in await probed.store.steps.list(run)}
        assert ends["z"] is StepStatus.SUCCEEDED
    (row,) = [row for row in await probed.attempts(report) if row.item == 3]
    assert row.error is not None
    assert row.error.code == "subflow_failed"
    assert "three" in row.error.message

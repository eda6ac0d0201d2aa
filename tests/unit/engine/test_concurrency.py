"""Flows that limit how many of their runs go on at once."""

import asyncio
from dataclasses import dataclass, field

import pytest

from engine.progress import Notice
from engine.report import RunReport
from engine.slots import slot_of
from engine.starts import queue
from engine.store.errors import SlotsTakenError
from flows.contracts import StepCall
from flows.errors import InvalidFlowError
from flows.expressions import ExpressionError
from flows.values import Json, RunStatus
from tests.unit.engine.conftest import Engine, Flows, RunEngine

FLOW = """
flow: limited
inputs: {{key: {{type: string, default: a}}}}
concurrency: {concurrency}
steps: [{{id: one, probe: gate}}]
"""


@dataclass
class Gate:
    """A probe that waits until it is let through."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    inside: int = 0
    most: int = 0

    async def __call__(self, call: StepCall) -> Json:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self.open.wait()
        self.inside -= 1
        return call.run_id


async def until_inside(gate: Gate, count: int) -> None:
    async with asyncio.timeout(60):
        while gate.inside < count:  # noqa: ASYNC110 - the probe's own count
            await asyncio.sleep(0.01)


async def begin(made: Engine, gate: Gate, text: str) -> asyncio.Task[RunReport]:
    """A run that holds its slot until the gate is opened."""
    running = asyncio.create_task(made.run(text))
    await until_inside(gate, 1)
    return running


async def test_a_run_waits_for_its_turn_and_says_so_once(engine: RunEngine) -> None:
    gate = Gate()
    made = engine(gate=gate)
    text = FLOW.format(concurrency="{limit: 1}")
    first = await begin(made, gate, text)
    second = asyncio.create_task(made.run(text))
    await asyncio.sleep(1.2)
    assert gate.inside == 1
    assert len((await made.store.runs.list()).items) == 1
    gate.open.set()
    assert (await first).run.status is (await second).run.status is RunStatus.SUCCEEDED
    assert gate.most == 1
    told = [one.message for one in made.observer.seen if isinstance(one, Notice)]
    assert len(told) == 1
    assert "waiting for its turn: a run of `limited` at once" in told[0]


async def test_one_that_waits_can_be_cancelled_and_leaves_nothing(engine: RunEngine) -> None:
    gate = Gate()
    made = engine(gate=gate)
    text = FLOW.format(concurrency="{limit: 1}")
    first = await begin(made, gate, text)
    second = asyncio.create_task(made.run(text))
    await asyncio.sleep(0.2)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.open.set()
    await first
    assert len((await made.store.runs.list()).items) == 1


async def test_one_that_is_to_be_skipped_is_refused(engine: RunEngine) -> None:
    gate = Gate()
    made = engine(gate=gate)
    text = FLOW.format(concurrency="{limit: 1, policy: skip}")
    first = await begin(made, gate, text)
    with pytest.raises(SlotsTakenError):
        await made.run(text)
    gate.open.set()
    await first
    await made.run(text)


async def test_keys_have_limits_of_their_own(engine: RunEngine) -> None:
    gate = Gate()
    made = engine(gate=gate)
    text = FLOW.format(concurrency="{limit: 1, key: '${{ inputs.key }}', policy: skip}")
    runs = [asyncio.create_task(made.run(text, key=key)) for key in ("a", "b")]
    await until_inside(gate, 2)
    with pytest.raises(SlotsTakenError):
        await made.run(text, key="b")
    gate.open.set()
    await asyncio.gather(*runs)


async def test_a_later_run_takes_the_place_of_those_that_are_queued(engine: RunEngine) -> None:
    made = engine(gate=Gate())
    definition = made.load(FLOW.format(concurrency="{limit: 1, policy: cancel_running}"))
    plan = await made.runs.plan(definition, {}, Flows({}), workspace="default")
    version = await made.store.flows.put_version("default", "limited", "text", {}, definition.digest)
    for _ in range(3):
        async with made.store.transaction():
            await queue(made.store, version, plan, {}, principal="local")
    statuses = [run.status for run in (await made.store.runs.list()).items]
    assert statuses == [RunStatus.QUEUED, RunStatus.CANCELLED, RunStatus.CANCELLED]


async def test_what_a_subflow_starts_counts_with_the_run_that_it_is_a_part_of(engine: RunEngine) -> None:
    gate = Gate()
    gate.open.set()
    inner = FLOW.format(concurrency="{limit: 1, policy: skip}")
    outer = "flow: outer\nsteps: [{id: all, flow: limited, for_each: {in: [1, 2, 3], concurrency: 3}}]\n"
    assert (await engine(gate=gate).run(outer, inner)).run.status is RunStatus.SUCCEEDED


def test_a_key_sees_what_started_the_run(engine: RunEngine) -> None:
    flow = engine().load(FLOW.format(concurrency="{key: '${{ event.body.id }}/${{ trigger.kind }}'}")).flow
    trigger: Json = {"event": {"body": {"id": 7}}, "trigger": {"kind": "webhook"}}
    found = slot_of(flow, {}, trigger)
    assert found is not None
    assert (found.key, found.limit) == ('"7/webhook"', 1)
    long = slot_of(flow, {}, {**trigger, "event": {"body": {"id": "x" * 1000}}})
    assert long is not None
    assert len(long.key) == 64
    with pytest.raises(ExpressionError, match="event"):
        slot_of(flow, {}, {"trigger": {"kind": "manual"}})


def test_a_key_does_not_see_the_run_which_is_another_each_time(engine: RunEngine) -> None:
    with pytest.raises(InvalidFlowError, match="run"):
        engine().load(FLOW.format(concurrency="{key: '${{ run.id }}'}"))

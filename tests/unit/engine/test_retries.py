"""Runs that are made again: what had ended well is not done again, and what comes after something that is done again is."""

import asyncio

import pytest

from engine.flow_sources import RecordedFlows
from engine.principal import LOCAL_ADMIN
from engine.records import Run, Slot
from engine.report import RunReport
from engine.resumption import PartOfRunError
from engine.retries import NotRetryableError, UnknownStepError, plan_retry, queue_retry
from engine.service import FlowDisabledError
from flows.contracts import StepCall
from flows.errors import StepboxError
from flows.values import Json, RunStatus
from tests.unit.engine.conftest import Engine, Flows, ProbeError, RunEngine
from tests.unit.engine.test_parking import statuses

FLOW = """
flow: twice
inputs: {n: {type: integer, default: 1}}
steps:
  - {id: left, probe: count, needs: []}
  - {id: left_after, probe: count, needs: [left]}
  - {id: unwanted, probe: count, needs: [], if: "false"}
  - {id: shaky, probe: boom, needs: [], on_error: continue}
  - {id: fails, probe: once, needs: [unwanted, shaky], with: {n: "${{ inputs.n }}"}}
  - {id: after, probe: count, needs: [fails], with: {was: "${{ steps.fails.result }}", shaky: "${{ steps.shaky.error.code }}"}}
output: ${{ steps.after.result }}
on_failure:
  - {id: tell, probe: echo}
finally:
  - {id: tidy, probe: count}
"""


class Broken:
    """A probe that fails until it is repaired."""

    def __init__(self) -> None:
        self.repaired = False

    async def __call__(self, call: StepCall) -> Json:
        if not self.repaired and call.inputs.get("n", 1) == 1:
            raise ProbeError
        return f"{call.step_id} {call.inputs.get('n', '')}"


async def count(call: StepCall) -> Json:
    return {"in": call.run_id, **call.inputs}


async def boom(call: StepCall) -> Json:
    raise ProbeError


def engine_of(make: RunEngine) -> tuple[Engine, Broken]:
    broken = Broken()
    return make(once=broken, count=count, boom=boom), broken


async def again(made: Engine, run: Run, step: str | None = None) -> RunReport:
    retry = await plan_retry(made.runs, made.store, made.language, run, step, by=LOCAL_ADMIN, observer=made.observer)
    made.probes.calls.clear()
    return await made.runs.retry(
        retry.plan,
        run,
        observer=made.observer,
        trigger=retry.trigger,
        principal=made.principal,
        done=retry.done,
    )


async def refused(made: Engine, run: Run, step: str | None = None) -> StepboxError:
    with pytest.raises(StepboxError) as caught:
        await again(made, run, step)
    return caught.value


async def test_it_goes_on_where_the_run_had_failed(engine: RunEngine) -> None:
    made, broken = engine_of(engine)
    first = await made.run(FLOW)
    assert first.run.status is RunStatus.FAILED
    broken.repaired = True
    second = await again(made, first.run)
    assert second.run.status is RunStatus.SUCCEEDED
    assert made.probes.calls == ["fails", "after", "tidy"]
    assert second.run.id != first.run.id
    assert (second.run.flow_version_id, second.run.inputs) == (first.run.flow_version_id, {"n": 1})
    assert second.run.output == {
        "in": second.run.id,
        "was": "fails 1",
        "shaky": "failed",
    }
    assert statuses(second) == {
        "left": "succeeded",
        "left_after": "succeeded",
        "unwanted": "skipped",
        "shaky": "failed",
        "fails": "succeeded",
        "after": "succeeded",
        "tidy": "succeeded",
    }
    assert {name: step.attempts for name, step in second.steps.items() if step.attempts} == {
        "fails": 1,
        "after": 1,
        "tidy": 1,
    }
    assert (await made.store.runs.get(first.run.id)).status is RunStatus.FAILED


async def test_its_trigger_says_of_which_run_it_is_made_and_keeps_the_event(engine: RunEngine) -> None:
    made, _broken = engine_of(engine)
    plan = await made.runs.plan(made.load(FLOW), {}, Flows({}), workspace="default")
    trigger: dict[str, Json] = {"trigger": {"kind": "webhook", "id": "hook"}, "event": {"body": 1}}
    first = await made.runs.run(plan, observer=made.observer, trigger=trigger, principal=made.principal)
    second = await again(made, first.run)
    by = {"id": "hook", "kind": "retry", "first": "webhook", "principal": "local"}
    assert second.run.trigger == {"trigger": {**by, "run": first.run.id}, "event": {"body": 1}}
    third = await again(made, second.run)
    assert third.run.trigger == {"trigger": {**by, "run": second.run.id}, "event": {"body": 1}}
    assert made.probes.calls == ["fails", "tell", "tidy"], "what the second run had taken over stands for the third too"


async def test_from_a_step_on_what_comes_after_it_is_done_again_and_what_is_independent_stands(
    engine: RunEngine,
) -> None:
    made, broken = engine_of(engine)
    broken.repaired = True
    first = await made.run(FLOW)
    assert first.run.status is RunStatus.SUCCEEDED
    second = await again(made, first.run, "left")
    assert sorted(made.probes.calls) == ["left", "left_after", "tidy"]
    assert second.run.output == first.run.output
    await again(made, first.run, "fails")
    assert made.probes.calls == ["fails", "after", "tidy"]
    await again(made, first.run, "shaky")
    assert made.probes.calls == ["shaky", "fails", "after", "tidy"]


async def test_what_had_not_ended_well_is_done_again_whatever_the_step(engine: RunEngine) -> None:
    made, broken = engine_of(engine)
    first = await made.run(FLOW)
    broken.repaired = True
    await again(made, first.run, "left_after")
    assert sorted(made.probes.calls) == ["after", "fails", "left_after", "tidy"]


EACH = """
flow: each
steps:
  - id: each
    probe: once
    for_each: {in: [0, 1, 2]}
    with: {n: "${{ item }}"}
  - {id: then, probe: echo, for_each: {in: [a]}}
output: ${{ steps.each.result }}
"""


async def test_the_items_that_had_succeeded_stand_unless_their_step_is_named(engine: RunEngine) -> None:
    made, broken = engine_of(engine)
    first = await made.run(EACH.replace("in: [0, 1, 2]", "in: [0, 1, 2], concurrency: 3"))
    assert first.run.status is RunStatus.FAILED
    broken.repaired = True
    second = await again(made, first.run)
    assert (second.run.output, made.probes.calls) == (["each 0", "each 1", "each 2"], ["each", "then"])
    whole = await again(made, first.run, "each")
    assert (whole.run.output, made.probes.calls) == (second.run.output, ["each"] * 3 + ["then"])
    assert second.steps["each"].attempts == 1


async def test_a_cancelled_run_is_made_again_from_what_was_cut_off(engine: RunEngine) -> None:
    made, _broken = engine_of(engine)
    begun = asyncio.Event()

    async def long(call: StepCall) -> Json:
        begun.set()
        await asyncio.sleep(600)

    made.probes.probes = {**made.probes.probes, "long": long}
    flow = (
        "flow: cut\nsteps: [{id: a, probe: count}, {id: b, probe: long, on_error: continue}, {id: c, probe: count}]\n"
    )
    driving = asyncio.create_task(made.run(flow))
    await asyncio.wait_for(begun.wait(), 60)
    driving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await driving
    run = await made.store.runs.get((await made.store.runs.list()).items[0].id)
    made.probes.probes = {**made.probes.probes, "long": count}
    report = await again(made, run)
    assert (report.run.status, made.probes.calls) == (RunStatus.SUCCEEDED, ["b", "c"])


async def test_one_whose_finally_alone_had_failed_does_only_that_again(engine: RunEngine) -> None:
    made, broken = engine_of(engine)
    flow = "flow: end\nsteps: [{id: a, probe: count}]\noutput: done\nfinally: [{id: tidy, probe: once}]\n"
    first = await made.run(flow)
    assert first.run.status is RunStatus.FAILED
    broken.repaired = True
    second = await again(made, first.run)
    assert (second.run.status, second.run.output, made.probes.calls) == (RunStatus.SUCCEEDED, "done", ["tidy"])


async def test_a_queued_one_is_driven_by_any_engine_with_what_stands(engine: RunEngine) -> None:
    made, broken = engine_of(engine)
    first = await made.run(FLOW)
    broken.repaired = True
    retry = await plan_retry(
        made.runs, made.store, made.language, first.run, None, by=LOCAL_ADMIN, observer=made.observer
    )
    async with made.store.transaction():
        queued = await queue_retry(made.store, retry)
    assert (queued.status, queued.owner) == (RunStatus.QUEUED, None)
    made.probes.calls.clear()
    report = await made.runs.resume(retry.plan, queued, observer=made.observer)
    assert (report.run.status, made.probes.calls) == (RunStatus.SUCCEEDED, ["fails", "after", "tidy"])
    assert report.run.id == queued.id


@pytest.mark.parametrize(
    ("step", "says", "fix"),
    [
        ("fail", "no step 'fail'", "did you mean `fails`?"),
        ("x" * 300, "no step 'xxx", "name one of `left`, "),
        ("tidy", "not one of `steps`", "name one of `left`, "),
        ("tell", "on_failure", "`fails`"),
    ],
)
async def test_a_step_that_it_cannot_be_made_again_from_is_refused(
    engine: RunEngine, step: str, says: str, fix: str
) -> None:
    made, _broken = engine_of(engine)
    first = await made.run(FLOW)
    problem = await refused(made, first.run, step)
    assert isinstance(problem, UnknownStepError)
    assert says in problem.message
    assert problem.fix is not None
    assert fix in problem.fix
    assert len((await made.store.runs.list()).items) == 1


async def test_one_that_has_not_ended_or_has_succeeded_is_refused(engine: RunEngine) -> None:
    made, broken = engine_of(engine)
    waiting = await made.run("flow: waits\nsteps: [{id: ask, approval: {message: Go on?}}]\n")
    problem = await refused(made, waiting.run)
    assert isinstance(problem, NotRetryableError)
    assert problem.fix == f"wait for its end, or cancel it: stepbox runs cancel {waiting.run.id}"
    broken.repaired = True
    done = await made.run(FLOW)
    problem = await refused(made, done.run)
    assert isinstance(problem, NotRetryableError)
    assert "--from" in str(problem.fix)


MAIN = "flow: main\nsteps: [{id: sub, flow: part}, {id: then, probe: count}]\n"
PART = "flow: part\nsteps: [{id: a, probe: count}, {id: b, probe: once}]\n"


async def test_a_subflow_is_made_again_with_its_run_and_by_its_version(engine: RunEngine) -> None:
    made, broken = engine_of(engine)
    first = await made.run(MAIN, PART)
    (part,) = await made.store.runs.children(first.run.id)
    problem = await refused(made, await made.store.runs.get(part.id))
    assert isinstance(problem, PartOfRunError)
    assert problem.fix == f"stepbox runs retry {first.run.id}"
    await made.store.flows.put_version("default", "part", PART.replace("count", "boom"), {}, "another")
    broken.repaired = True
    second = await again(made, first.run)
    assert (second.run.status, made.probes.calls) == (RunStatus.SUCCEEDED, ["a", "b", "then"])
    (other,) = await made.store.runs.children(second.run.id)
    assert (other.id == part.id, other.flow_version_id) == (False, part.flow_version_id)
    assert await RecordedFlows(made.store, made.language, second.run).find("part") == made.load(PART)


async def test_a_disabled_flow_starts_nothing_this_way_either(engine: RunEngine) -> None:
    made, _broken = engine_of(engine)
    first = await made.run(FLOW)
    version = await made.store.flows.get(first.run.flow_version_id)
    await made.store.flows.put_version("default", "twice", version.text, version.files, version.digest, apply=True)
    await made.store.flows.enable("twice", enabled=False)
    assert isinstance(await refused(made, first.run), FlowDisabledError)


async def test_it_takes_a_slot_of_its_flow(engine: RunEngine) -> None:
    made, broken = engine_of(engine)
    flow = FLOW.replace("flow: twice", "flow: twice\nconcurrency: {limit: 1, policy: skip}")
    first = await made.run(flow)
    broken.repaired = True
    version = await made.store.flows.get(first.run.flow_version_id)
    slot = Slot(key="", limit=1, policy="skip")
    other = await made.store.runs.create(version, {}, running=True, slot=slot)
    assert (await refused(made, first.run)).code == "too_many_runs"
    assert {run.id for run in (await made.store.runs.list()).items} == {first.run.id, other.id}
    await made.store.runs.finish(other.id, RunStatus.SUCCEEDED)
    assert (await again(made, first.run)).run.status is RunStatus.SUCCEEDED

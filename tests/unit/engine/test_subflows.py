"""Runs within runs: nested, at once, retried, timed out, cancelled, cached."""

import asyncio
from contextlib import AsyncExitStack
from contextvars import Context
from pathlib import Path

import pytest

from engine.records import Run
from flows.contracts import StepCall
from flows.values import Json, RunStatus, StepStatus
from tests.unit.engine.conftest import Engine, ProbeError, RunEngine, open_engine


async def family(engine: Engine) -> dict[str, Run]:
    """The newest run of each flow, by the flow's name."""
    runs = (await engine.store.runs.list(limit=100)).items
    return {one.flow: await engine.store.runs.get(one.id) for one in reversed(runs)}


async def ends(engine: Engine, run: Run) -> dict[str, str]:
    return {row.step_id: row.status.value for row in await engine.store.steps.list(run.id)}


async def test_subflows_ten_deep(engine: RunEngine) -> None:
    flows = [
        f"""
flow: f{level}
inputs: {{n: {{type: integer}}}}
steps: [{{id: s, flow: f{level + 1}, with: {{n: "${{{{ inputs.n + 1 }}}}"}}}}]
finally: [{{id: z, probe: echo}}]
output: ${{{{ steps.s.result }}}}
"""
        for level in range(9)
    ]
    flows.append(
        'flow: f9\ninputs: {n: {type: integer}}\nsteps: [{id: a, probe: echo, with: {n: "${{ inputs.n }}"}}]\n'
        "output: ${{ steps.a.result.n }}"
    )
    probed = engine()
    report = await probed.run(flows[0], *flows[1:], n=0)
    assert report.run.output == 9
    runs = await family(probed)
    assert len(runs) == 10
    for level in range(1, 10):
        assert runs[f"f{level}"].parent_id == runs[f"f{level - 1}"].id
        started_by = {"run": runs[f"f{level - 1}"].id, "step": "s", "item": None, "attempt": 1}
        assert runs[f"f{level}"].trigger == {"trigger": {"kind": "flow", **started_by}}


async def test_a_diamond_of_subflows_runs_its_sides_at_once(engine: RunEngine) -> None:
    both = asyncio.Barrier(2)
    order: list[str] = []

    async def side(call: StepCall) -> Json:
        await asyncio.wait_for(both.wait(), 30)
        order.append("side")
        return call.inputs["n"]

    async def tip(call: StepCall) -> Json:
        order.append("tip")
        return dict(call.inputs)

    report = await engine(side=side, tip=tip).run(
        """
flow: diamond
steps:
  - {id: top, probe: tip}
  - {id: left, flow: half, needs: [top], with: {n: 1}}
  - {id: right, flow: half, needs: [top], with: {n: 2}}
  - {id: bottom, probe: tip, needs: [left, right], with: {sum: "${{ steps.left.result + steps.right.result }}"}}
output: ${{ steps.bottom.result.sum }}
""",
        """
flow: half
inputs: {n: {type: integer}}
steps: [{id: a, probe: side, with: {n: "${{ inputs.n }}"}}]
output: ${{ steps.a.result }}
""",
    )
    assert report.run.output == 3
    assert order == ["tip", "side", "side", "tip"]


async def test_each_attempt_of_a_subflow_is_a_run_of_its_own(engine: RunEngine) -> None:
    tries = 0

    async def second_time(call: StepCall) -> Json:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ProbeError(message="not yet")
        return tries

    probed = engine(work=second_time)
    report = await probed.run(
        "flow: parent\nsteps: [{id: s, flow: child, retry: {attempts: 3, delay: 1ms}}]\noutput: ${{ steps.s.result }}",
        "flow: child\nsteps: [{id: a, probe: work}]\nfinally: [{id: z, probe: echo}]\noutput: ${{ steps.a.result }}",
    )
    assert report.run.output == 2
    assert report.steps["s"].attempts == 2
    children = [run.status for run in (await probed.store.runs.list()).items if run.parent_id == report.run.id]
    assert children == [RunStatus.SUCCEEDED, RunStatus.FAILED]
    assert probed.probes.calls == ["a", "z", "a", "z"]


async def test_results_in_a_subflow_that_fails_are_cached_all_the_same(engine: RunEngine) -> None:
    calls = 0

    async def count(call: StepCall) -> Json:
        nonlocal calls
        calls += 1
        return calls

    async def boom(call: StepCall) -> Json:
        raise ProbeError

    probed = engine(count=count, boom=boom)
    parent = "flow: parent\nsteps: [{id: s, flow: child, on_error: continue}]"
    child = "flow: child\nsteps: [{id: a, probe: count, cache: {ttl: 1h}}, {id: b, probe: boom}]"
    for _again in range(3):
        await probed.run(parent, child)
    assert calls == 1


async def wait(call: StepCall) -> Json:
    await asyncio.sleep(60)


async def test_the_timeout_of_a_step_ends_the_run_that_it_started(engine: RunEngine) -> None:
    probed = engine(wait=wait)
    report = await probed.run(
        "flow: parent\nsteps: [{id: s, flow: child, timeout: 300ms, on_error: continue}, {id: b, probe: echo}]",
        "flow: child\nsteps: [{id: a, probe: wait}, {id: n, probe: echo}]\nfinally: [{id: z, probe: echo}]",
    )
    assert report.run.status is RunStatus.SUCCEEDED
    assert report.steps["s"].final.status is StepStatus.TIMED_OUT
    child = (await family(probed))["child"]
    assert child.status is RunStatus.CANCELLED
    assert await ends(probed, child) == {"a": "cancelled", "n": "skipped", "z": "succeeded"}


async def test_the_timeout_of_a_subflow_is_its_own_failure(engine: RunEngine) -> None:
    probed = engine(wait=wait)
    report = await probed.run(
        "flow: parent\ntimeout: 30s\nsteps: [{id: s, flow: child, timeout: 20s}]",
        "flow: child\ntimeout: 100ms\nsteps: [{id: a, probe: wait}]",
    )
    error = report.steps["s"].final.error
    assert report.steps["s"].final.status is StepStatus.FAILED
    assert error is not None
    assert error.code == "subflow_failed"
    assert "timeout of 0.1 s" in error.message
    assert (await family(probed))["child"].status is RunStatus.FAILED


NESTED = (
    "flow: top\nsteps: [{id: m, flow: middle}, {id: n, probe: echo}]\nfinally: [{id: z, probe: tidy}]",
    "flow: middle\nsteps: [{id: i, flow: inner}]\nfinally: [{id: z, probe: tidy}]",
    "flow: inner\nsteps: [{id: a, probe: STEP}]\nfinally: [{id: y, probe: FINALLY}, {id: z, probe: tidy}]",
)


def nested(step: str, cleaning: str) -> list[str]:
    return [text.replace("STEP", step).replace("FINALLY", cleaning) for text in NESTED]


async def cancelled(engine: Engine, flows: list[str], *begun: asyncio.Event) -> dict[str, Run]:
    """Cancel a run at each of these; the runs as they are then, by flow."""
    task = asyncio.create_task(engine.run(*flows))
    async with asyncio.timeout(30):
        for event in begun:
            await event.wait()
            event.clear()
            task.cancel()
        await asyncio.wait({task})
    assert task.cancelled()
    runs = await family(engine)
    assert {run.status for run in runs.values()} == {RunStatus.CANCELLED}
    return runs


async def test_cancelled_within_nested_subflows_each_cleans_up(engine: RunEngine) -> None:
    begun = asyncio.Event()

    async def hang(call: StepCall) -> Json:
        begun.set()
        await asyncio.sleep(60)

    async def tidy(call: StepCall) -> Json:
        await asyncio.sleep(0.02)

    probed = engine(hang=hang, tidy=tidy)
    runs = await cancelled(probed, nested("hang", "tidy"), begun)
    assert await ends(probed, runs["inner"]) == {"a": "cancelled", "y": "succeeded", "z": "succeeded"}
    assert await ends(probed, runs["middle"]) == {"i": "cancelled", "z": "succeeded"}
    assert await ends(probed, runs["top"]) == {"m": "cancelled", "n": "skipped", "z": "succeeded"}
    assert probed.probes.calls == ["a", "y", "z", "z", "z"]


async def test_cancelled_again_while_a_nested_subflow_cleans_up_all_end_at_once(engine: RunEngine) -> None:
    begun, cleaning = asyncio.Event(), asyncio.Event()

    async def hang(call: StepCall) -> Json:
        begun.set()
        await asyncio.sleep(60)

    async def clean(call: StepCall) -> Json:
        cleaning.set()
        await asyncio.sleep(60)

    probed = engine(hang=hang, clean=clean, tidy=clean)
    runs = await cancelled(probed, nested("hang", "clean"), begun, cleaning)
    assert await ends(probed, runs["inner"]) == {"a": "cancelled", "y": "cancelled", "z": "skipped"}
    assert await ends(probed, runs["middle"]) == {"i": "cancelled", "z": "skipped"}
    assert await ends(probed, runs["top"]) == {"m": "cancelled", "n": "skipped", "z": "skipped"}
    assert probed.probes.calls == ["a", "y"]


@pytest.mark.parametrize("times", [1, 2])
async def test_cancelled_while_finally_runs_it_goes_on_the_first_time(engine: RunEngine, times: int) -> None:
    cleaning = asyncio.Event()

    async def clean(call: StepCall) -> Json:
        cleaning.set()
        await asyncio.sleep(0.3 if times == 1 else 60)

    probed = engine(clean=clean)
    task = asyncio.create_task(
        probed.run("flow: f\nsteps: [{id: a, probe: echo}]\nfinally: [{id: y, probe: clean}, {id: z, probe: echo}]")
    )
    async with asyncio.timeout(30):
        await cleaning.wait()
        for _time in range(times):
            task.cancel()
            await asyncio.sleep(0.02)
        await asyncio.wait({task})
    assert task.cancelled()
    run = (await family(probed))["f"]
    assert run.status is RunStatus.CANCELLED
    wanted = {"y": "succeeded", "z": "succeeded"} if times == 1 else {"y": "cancelled", "z": "skipped"}
    assert await ends(probed, run) == {"a": "succeeded", **wanted}


async def test_every_task_of_every_run_uses_the_one_client_of_the_orchestrator(tmp_path: Path) -> None:
    clients: list[object] = []

    async def look(call: StepCall) -> Json:
        from prefect.context import AsyncClientContext  # noqa: PLC0415 - after its settings

        clients.append(AsyncClientContext.get())

    opened = AsyncExitStack()
    # Opened, used and closed by different tasks, none of which knows what the others have set.
    make = await asyncio.create_task(opened.enter_async_context(open_engine(tmp_path)), context=Context())
    parent = "flow: parent\nsteps: [{id: a, probe: look}, {id: s, flow: child}]"
    child = "flow: child\nsteps: [{id: b, probe: look}]"
    for _again in range(2):
        probed = make(look=look)
        report = await asyncio.create_task(probed.run(parent, child), context=Context())
        assert report.run.status is RunStatus.SUCCEEDED
    await asyncio.create_task(opened.aclose(), context=Context())
    assert len(clients) == 4
    assert clients[0] is not None
    assert all(client is clients[0] for client in clients)

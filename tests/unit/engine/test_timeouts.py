"""Timeouts of attempts and of runs: together, with retries, and at the very moment of the end."""

import asyncio

import pytest

from engine.report import RunReport
from flows.contracts import StepCall
from flows.values import Json, RunStatus, StepStatus
from tests.unit.engine.conftest import ProbeError, RunEngine


def statuses(report: RunReport) -> dict[str, str]:
    return {step_id: step.final.status.value for step_id, step in report.steps.items()}


def code(report: RunReport, step: str) -> str | None:
    error = report.steps[step].final.error
    return None if error is None else error.code


async def sleep(call: StepCall) -> Json:
    await asyncio.sleep(60)


async def boom(call: StepCall) -> Json:
    raise ProbeError


HANDLED = """
on_failure:
  - {id: tell, probe: echo, with: {code: "${{ run.error.code }}", status: "${{ steps.a.status }}"}}
finally:
  - {id: last, probe: echo, with: {code: "${{ run.error.code }}", b: "${{ steps.b.status }}"}}
"""


async def test_the_steps_timeout_comes_first(engine: RunEngine) -> None:
    probed = engine(sleep=sleep)
    report = await probed.run(
        "flow: f\ntimeout: 30s\nsteps: [{id: a, probe: sleep, timeout: 50ms}, {id: b, probe: echo}]" + HANDLED
    )
    assert statuses(report) == {"a": "timed_out", "b": "skipped", "tell": "succeeded", "last": "succeeded"}
    assert report.run.error is not None
    assert report.run.error.code == "step_failed"
    assert report.steps["last"].final.result == {"code": "step_failed", "b": "skipped"}
    assert 0.05 <= report.steps["a"].final.duration < 30


async def test_the_runs_timeout_comes_first(engine: RunEngine) -> None:
    probed = engine(sleep=sleep)
    report = await probed.run(
        "flow: f\ntimeout: 200ms\nsteps: [{id: a, probe: sleep, timeout: 30s}, {id: b, probe: echo}]" + HANDLED
    )
    assert statuses(report) == {"a": "cancelled", "b": "skipped", "tell": "succeeded", "last": "succeeded"}
    assert report.run.error is not None
    assert report.run.error.code == "run_timed_out"
    assert code(report, "b") == "run_timed_out"
    assert report.steps["tell"].final.result == {"code": "run_timed_out", "status": "cancelled"}
    assert report.steps["last"].final.result == {"code": "run_timed_out", "b": "skipped"}
    assert [row.step_id for row in await probed.attempts(report)] == ["a", "b", "tell", "last"]


async def test_what_handles_a_timeout_is_not_under_it(engine: RunEngine) -> None:
    async def slowly(call: StepCall) -> Json:
        await asyncio.sleep(0.3)

    report = await engine(sleep=sleep, slowly=slowly).run("""
flow: f
timeout: 100ms
steps: [{id: a, probe: sleep}]
on_failure: [{id: tell, probe: slowly}]
finally: [{id: last, probe: slowly}]
""")
    assert statuses(report) == {"a": "cancelled", "tell": "succeeded", "last": "succeeded"}


async def test_a_run_times_out_between_two_attempts(engine: RunEngine) -> None:
    probed = engine(boom=boom)
    flow = (
        "flow: f\ntimeout: 300ms\nsteps: [{id: a, probe: boom, retry: {attempts: 9, delay: 1m}}, {id: b, probe: echo}]"
    )
    report = await probed.run(flow + HANDLED)
    assert statuses(report) == {"a": "cancelled", "b": "skipped", "tell": "succeeded", "last": "succeeded"}
    assert report.steps["a"].attempts == 1
    assert [(row.attempt, row.status.value) for row in await probed.attempts(report) if row.step_id == "a"] == [
        (1, "failed"),
        (0, "cancelled"),
    ]
    assert code(report, "a") == "run_timed_out"


async def test_attempts_go_on_until_the_run_times_out(engine: RunEngine) -> None:
    probed = engine(boom=boom)
    flow = (
        "flow: f\ntimeout: 400ms\nsteps: [{id: a, probe: boom, retry: {attempts: 100, delay: 20ms, backoff: constant}}]"
    )
    report = await probed.run(flow)
    assert statuses(report) == {"a": "cancelled"}
    made = [row for row in await probed.attempts(report) if row.attempt]
    assert 2 <= len(made) == report.steps["a"].attempts < 100
    assert [row.attempt for row in made] == list(range(1, len(made) + 1))
    assert probed.probes.calls == ["a"] * len(made) or probed.probes.calls == ["a"] * (len(made) - 1)


async def test_a_run_times_out_within_a_for_each(engine: RunEngine) -> None:
    async def work(call: StepCall) -> Json:
        await asyncio.sleep(60 if call.inputs["n"] > 3 else 0.001)
        return call.inputs["n"]

    probed = engine(work=work)
    report = await probed.run("""
flow: f
timeout: 1s
steps:
  - id: a
    probe: work
    for_each: {in: [1, 2, 3, 4, 5, 6, 7], concurrency: 2, on_item_error: continue}
    with: {n: "${{ item }}"}
finally: [{id: z, probe: echo, with: {seen: "${{ steps.a }}"}}]
""")
    assert statuses(report) == {"a": "cancelled", "z": "succeeded"}
    assert report.steps["a"].attempts == 5
    assert report.steps["z"].final.result["seen"]["result"] is None
    rows = [row for row in await probed.attempts(report) if row.item is not None]
    assert [row.status.value for row in rows] == ["succeeded"] * 3 + ["cancelled"] * 2


async def test_each_attempt_has_its_timeout_anew(engine: RunEngine) -> None:
    async def third_time(call: StepCall) -> Json:
        await asyncio.sleep(60 if call.attempt < 3 else 0)
        return "done"

    report = await engine(work=third_time).run(
        "flow: f\nsteps: [{id: a, probe: work, timeout: 100ms, retry: {attempts: 3, delay: 150ms, jitter: false}}]"
    )
    assert statuses(report) == {"a": "succeeded"}
    assert report.steps["a"].attempts == 3


async def test_an_attempt_that_ends_as_its_time_does_has_one_outcome(engine: RunEngine) -> None:
    completed: set[str] = set()

    async def just(call: StepCall) -> Json:
        await asyncio.sleep(0.1 + 0.0005 * call.inputs["n"])
        completed.add(call.step_id)
        return call.step_id

    probed = engine(just=just)
    steps = "\n".join(
        f"  - {{id: s{n}, probe: just, needs: [], timeout: 100ms, on_error: continue, with: {{n: {n - 20}}}}}"
        for n in range(40)
    )
    report = await probed.run(f"flow: race\nsteps:\n{steps}")
    assert report.run.status is RunStatus.SUCCEEDED
    for step_id, step in report.steps.items():
        assert step.final.status in {StepStatus.SUCCEEDED, StepStatus.TIMED_OUT}
        assert (step.final.status is StepStatus.SUCCEEDED) == (step_id in completed)
        assert step.final.result == (step_id if step_id in completed else None)
        assert step.attempts == 1
    assert len(await probed.attempts(report)) == 40


@pytest.mark.parametrize("late", [-4, -2, 0, 2, 4])
async def test_a_run_that_ends_as_its_time_does_has_one_outcome(engine: RunEngine, late: int) -> None:
    completed: list[str] = []

    async def just(call: StepCall) -> Json:
        await asyncio.sleep(0.05 + 0.001 * late)
        completed.append(call.run_id)

    for _again in range(5):
        probed = engine(just=just)
        report = await probed.run("""
flow: race
timeout: 50ms
steps: [{id: a, probe: just}]
on_failure: [{id: tell, probe: echo}]
finally: [{id: last, probe: echo, with: {status: "${{ steps.a.status }}"}}]
""")
        a = report.steps["a"].final
        assert (a.status is StepStatus.SUCCEEDED) == (report.run.id in completed)
        assert a.status in {StepStatus.SUCCEEDED, StepStatus.CANCELLED, StepStatus.SKIPPED}
        assert (report.run.status is RunStatus.FAILED) == ("tell" in report.steps)
        if report.run.status is RunStatus.SUCCEEDED:
            assert a.status is StepStatus.SUCCEEDED
        else:
            assert report.run.error is not None
            assert report.run.error.code == "run_timed_out"
        assert report.steps["last"].final.result == {"status": a.status.value}
        assert probed.probes.calls.count("last") == 1

"""Endings that are not the ordinary one: cancellation at every stage, bugs, lost stores, caches and retries together."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.flow_sources import MisnamedFlowError, SiblingFlows, StoredFlows
from engine.logbook import Logbook
from engine.records import LogLine
from engine.report import RunReport, report
from engine.store import Store
from engine.store.errors import StoreUnavailableError
from flows.contracts import StepCall
from flows.values import Json, RunStatus
from tests.unit.engine.conftest import Engine, ProbeError, RunEngine


def statuses(outcome: RunReport) -> dict[str, str]:
    return {step_id: step.final.status.value for step_id, step in outcome.steps.items()}


def code(outcome: RunReport, step: str) -> str | None:
    error = outcome.steps[step].final.error
    return None if error is None else error.code


async def boom(call: StepCall) -> Json:
    raise ProbeError


async def sleep(call: StepCall) -> Json:
    await asyncio.sleep(60)


async def last(engine: Engine) -> RunReport:
    """The newest run that no other started."""
    run = next(run for run in (await engine.store.runs.list()).items if run.parent_id is None)
    return report(await engine.store.runs.get(run.id), await engine.store.steps.list(run.id))


async def cancelled_when(engine: Engine, begun: asyncio.Event, text: str, *others: str) -> RunReport:
    """Cancel a run as soon as ``begun`` is set."""
    task = asyncio.create_task(engine.run(text, *others))
    await asyncio.wait_for(begun.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return await last(engine)


async def test_a_cached_result_is_data_and_never_called(engine: RunEngine, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    hostile = {"__class__": "subprocess.getoutput", "data": {"cmd": f"touch {touched}"}, "__exc_type__": "x"}

    async def give(call: StepCall) -> Json:
        return hostile

    probed = engine(give=give)
    flow = 'flow: hostile\nsteps: [{id: a, probe: give, cache: {ttl: 1h}}]\noutput: "${{ steps.a.result }}"'
    first, again = await probed.run(flow), await probed.run(flow)
    assert again.steps["a"].attempts == 0
    assert first.run.output == again.run.output == hostile
    assert not touched.exists()


async def test_prefect_settings_of_the_user_do_not_add_attempts(engine: RunEngine) -> None:
    from prefect.settings import PREFECT_TASK_DEFAULT_RETRIES, temporary_settings  # noqa: PLC0415 - after `prepare`

    with temporary_settings({PREFECT_TASK_DEFAULT_RETRIES: 2}):
        outcome = await engine(boom=boom).run("flow: once\nsteps: [{id: a, probe: boom}]")
    assert outcome.steps["a"].attempts == 1


async def test_a_retry_that_the_cache_answers_has_succeeded(engine: RunEngine) -> None:
    calls = 0

    async def first_call_fails(call: StepCall) -> Json:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ProbeError
        return "done"

    outcome = await engine(work=first_call_fails).run("""
flow: both
steps:
  - id: a
    probe: work
    for_each: {in: [0, 1], concurrency: 2}
    cache: {ttl: 1h}
    retry: {attempts: 2, delay: 300ms}
output: ${{ steps.a.result }}
""")
    assert outcome.run.status is RunStatus.SUCCEEDED
    assert outcome.run.output == ["done", "done"]
    assert calls == 2


async def test_a_changed_subflow_is_not_answered_from_the_cache(engine: RunEngine) -> None:
    parent = 'flow: parent\nsteps: [{id: s, flow: child, cache: {ttl: 1h}}]\noutput: "${{ steps.s.result }}"'
    child = "flow: child\nsteps: [{id: a, probe: echo}]\noutput: VERSION"
    probed = engine()
    outputs = [
        (await probed.run(parent, child.replace("VERSION", version))).run.output for version in ("old", "old", "new")
    ]
    assert outputs == ["old", "old", "new"]


async def test_cancelled_while_it_handles_a_failure_it_still_cleans_up(engine: RunEngine) -> None:
    begun = asyncio.Event()

    async def handle(call: StepCall) -> Json:
        begun.set()
        await asyncio.sleep(60)

    outcome = await cancelled_when(
        engine(boom=boom, handle=handle),
        begun,
        """
flow: handling
steps: [{id: a, probe: boom}]
on_failure: [{id: h, probe: handle}, {id: i, probe: echo}]
finally: [{id: z, probe: echo}]
""",
    )
    assert outcome.run.status is RunStatus.CANCELLED
    assert statuses(outcome) == {"a": "failed", "h": "cancelled", "i": "skipped", "z": "succeeded"}


async def test_cancelled_again_while_it_cleans_up_every_step_has_its_end(engine: RunEngine) -> None:
    begun, cleaning = asyncio.Event(), asyncio.Event()

    async def wait(call: StepCall) -> Json:
        begun.set()
        await asyncio.sleep(60)

    async def clean(call: StepCall) -> Json:
        cleaning.set()
        await asyncio.sleep(60)

    probed = engine(wait=wait, clean=clean)
    flow = "flow: twice\nsteps: [{id: a, probe: wait}]\nfinally: [{id: y, probe: clean}, {id: z, probe: echo}]"
    task = asyncio.create_task(probed.run(flow))
    for event in (begun, cleaning):
        await asyncio.wait_for(event.wait(), 30)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    outcome = await last(probed)
    assert outcome.run.status is RunStatus.CANCELLED
    assert statuses(outcome) == {"a": "cancelled", "y": "cancelled", "z": "skipped"}


async def test_cancelled_in_a_retry_delay_a_step_is_cancelled(engine: RunEngine) -> None:
    failed = asyncio.Event()

    async def fail(call: StepCall) -> Json:
        asyncio.get_running_loop().call_later(0.3, failed.set)
        raise ProbeError

    flow = "flow: waiting\nsteps: [{id: a, probe: fail, retry: {attempts: 2, delay: 1m}}]"
    outcome = await cancelled_when(engine(fail=fail), failed, flow)
    assert statuses(outcome) == {"a": "cancelled"}
    assert outcome.steps["a"].attempts == 1


async def test_cancelled_in_a_subflow_both_runs_are_cancelled(engine: RunEngine) -> None:
    begun = asyncio.Event()

    async def wait(call: StepCall) -> Json:
        begun.set()
        await asyncio.sleep(60)

    probed = engine(wait=wait)
    child = "flow: child\nsteps: [{id: a, probe: wait}]\nfinally: [{id: z, probe: echo}]"
    await cancelled_when(probed, begun, "flow: parent\nsteps: [{id: s, flow: child}]", child)
    runs = (await probed.store.runs.list()).items
    assert [run.status for run in runs] == [RunStatus.CANCELLED] * 2


@pytest.mark.parametrize("limit", ["", ", timeout: 1h"])
async def test_a_timeout_error_of_the_executor_is_not_the_steps_timeout(engine: RunEngine, limit: str) -> None:
    async def buggy(call: StepCall) -> Json:
        raise TimeoutError("of its own")

    outcome = await engine(buggy=buggy).run(
        f"flow: buggy\nsteps: [{{id: a, probe: buggy, on_error: continue{limit}}}, {{id: b, probe: echo}}]"
    )
    assert statuses(outcome) == {"a": "failed", "b": "succeeded"}
    assert code(outcome, "a") == "internal_error"


async def test_a_cancellation_of_the_executors_own_is_a_failure(engine: RunEngine) -> None:
    async def buggy(call: StepCall) -> Json:
        raise asyncio.CancelledError

    outcome = await engine(buggy=buggy).run(
        "flow: buggy\nsteps: [{id: a, probe: buggy}]\nfinally: [{id: z, probe: echo}]"
    )
    assert statuses(outcome) == {"a": "failed", "z": "succeeded"}
    assert code(outcome, "a") == "internal_error"


async def test_prefects_backstop_is_a_timeout(engine: RunEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.orchestrator.compiler.BACKSTOP", 0.2)
    outcome = await engine(sleep=sleep).run(
        """
flow: parent
steps: [{id: s, flow: child, timeout: 100ms, on_error: continue}, {id: b, probe: echo}]
finally: [{id: z, probe: echo}]
""",
        "flow: child\nsteps: [{id: a, probe: sleep}]\nfinally: [{id: slow, probe: sleep}]",
    )
    assert statuses(outcome) == {"s": "timed_out", "b": "succeeded", "z": "succeeded"}
    assert outcome.run.status is RunStatus.SUCCEEDED


async def test_where_stepbox_itself_fails_it_still_cleans_up(
    engine: RunEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed = engine()
    add, failures = probed.store.steps.add, iter([StoreUnavailableError("the database went away")])

    async def failing_once(*arguments: object, **named: object) -> None:
        for failure in failures:
            raise failure
        await add(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(probed.store.steps, "add", failing_once)
    outcome = await probed.run("""
flow: lost
steps: [{id: a, probe: echo, if: false}, {id: b, probe: echo}]
finally: [{id: z, probe: echo}]
""")
    assert outcome.run.status is RunStatus.FAILED
    assert statuses(outcome)["z"] == "succeeded"


async def test_planning_many_shared_subflows_is_quick(engine: RunEngine) -> None:
    flows = [
        f"flow: f{level}\nsteps:\n" + "".join(f"  - {{id: s{n}, flow: f{level + 1}, if: false}}\n" for n in range(8))
        for level in range(9)
    ]
    flows.append("flow: f9\nsteps: [{id: a, probe: echo}]")
    async with asyncio.timeout(60):
        outcome = await engine().run(flows[0], *flows[1:])
    assert outcome.run.status is RunStatus.SUCCEEDED


async def test_a_file_that_holds_another_flow_is_not_taken_for_it(engine: RunEngine, tmp_path: Path) -> None:
    probed = engine()
    (tmp_path / "child.yaml").write_text("flow: other\nsteps: [{id: a, shell: 'true'}]")
    flows = SiblingFlows(tmp_path, probed.language, StoredFlows(probed.store, probed.language, "default"))
    with pytest.raises(MisnamedFlowError, match="holds the flow 'other'"):
        await flows.find("child")


async def test_lines_that_could_not_be_written_are_written_the_next_time(
    engine: RunEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Store = engine().store
    run = (await engine().run("flow: f\nsteps: [{id: a, probe: echo}]")).run
    append, failures = store.logs.append, iter([StoreUnavailableError("the database went away")])

    async def failing_once(lines: Sequence[LogLine]) -> None:
        for failure in failures:
            raise failure
        await append(lines)

    monkeypatch.setattr(store.logs, "append", failing_once)
    logbook = Logbook(store)
    for number in range(3):
        line = LogLine(run_id=run.id, step_id="a", attempt=1, stream="stdout", line=str(number), at=datetime.now(UTC))
        await logbook.append(line)
    with pytest.raises(StoreUnavailableError):
        await logbook.flush()
    flushing = asyncio.create_task(logbook.flush())
    await asyncio.sleep(0)
    flushing.cancel()
    await logbook.close()
    assert [line.line for line in (await store.logs.list(run.id)).items] == ["0", "1", "2"]

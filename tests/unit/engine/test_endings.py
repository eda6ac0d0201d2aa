"""Endings that are not the ordinary one: cancellation at every stage, bugs, lost stores, caches and retries together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.flow_sources import MisnamedFlowError, SiblingFlows, StoredFlows
from engine.logbook import Logbook
from engine.progress import Progress
from engine.records import LogLine
from engine.report import RunReport, report
from engine.store import Store
from engine.store.errors import StoreUnavailableError
from flows.contracts import StepCall
from flows.errors import StepboxError
from flows.values import Json, RunStatus
from tests.unit.engine.conftest import Engine, ProbeError, Recorder, RunEngine


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
    return report(await engine.store.runs.get(run.id), await engine.store.steps.summaries(run.id))


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


def failing_once(operation: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
    """An operation of the store that fails the first time."""
    failures = iter([StoreUnavailableError("the database went away")])

    async def failing(*arguments: object, **named: object) -> object:
        for failure in failures:
            raise failure
        return await operation(*arguments, **named)

    return failing


HANDLED = """
on_failure: [{id: tell, probe: echo, with: {why: "${{ run.error.message }}"}}]
finally: [{id: z, probe: echo}]
"""


async def test_a_step_whose_record_can_not_be_made_has_failed(
    engine: RunEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = "flow: lost\nsteps: [{id: a, probe: echo, KEY}, {id: b, probe: echo}]" + HANDLED
    wanted = {"a": "failed", "b": "skipped", "tell": "succeeded", "z": "succeeded"}
    for operation, key in (
        ("add", "if: false"),
        ("finish", "name: a"),
        ("start", "name: a"),
        ("start", "for_each: {in: [1, 2]}"),
        ("finish", "for_each: {in: [1, 2]}"),
    ):
        probed = engine()
        with monkeypatch.context() as patch:
            patch.setattr(probed.store.steps, operation, failing_once(getattr(probed.store.steps, operation)))
            outcome = await probed.run(flow.replace("KEY", key))
        assert outcome.run.status is RunStatus.FAILED
        assert statuses(outcome) == wanted, (operation, key)
        assert code(outcome, "a") == "store_unavailable"
        assert "the database went away" in outcome.steps["tell"].final.result["why"]
        assert all(row.ended_at for row in await probed.attempts(outcome))


async def test_where_stepbox_itself_fails_it_still_cleans_up(
    engine: RunEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **named: object) -> object:
        raise ZeroDivisionError("a bug")

    probed = engine()
    with monkeypatch.context() as patch:
        patch.setattr("engine.execution.condition", broken)
        outcome = await probed.run(
            "flow: lost\nsteps: [{id: a, probe: echo, if: 1 < 2}, {id: b, probe: echo}]" + HANDLED
        )
    assert outcome.run.status is RunStatus.FAILED
    assert outcome.run.error is not None
    assert outcome.run.error.code == "internal_error"
    assert statuses(outcome) == {"a": "skipped", "b": "skipped", "tell": "succeeded", "z": "succeeded"}
    assert code(outcome, "b") == "internal_error"


async def test_an_observer_that_fails_changes_nothing(engine: RunEngine) -> None:
    class Failing(Recorder):
        def notice(self, progress: Progress) -> None:
            super().notice(progress)
            raise ZeroDivisionError("a bug of the observer's")

    probed = engine()
    probed.observer = Failing()
    outcome = await probed.run(
        "flow: watched\nsteps: [{id: a, probe: echo}, {id: b, probe: echo, for_each: {in: [1, 2]}}]"
    )
    assert outcome.run.status is RunStatus.SUCCEEDED
    assert [type(seen).__name__ for seen in probed.observer.seen] == [
        "RunStarted",
        "AttemptStarted",
        "AttemptEnded",
        "StepEnded",
        *["AttemptStarted", "AttemptEnded"] * 2,
        "StepEnded",
        "RunEnded",
    ]


@pytest.mark.parametrize("handler", ["on_failure", "finally"])
async def test_a_failed_handler_holds_back_those_that_need_it(engine: RunEngine, handler: str) -> None:
    outcome = await engine(boom=boom).run(f"""
flow: handling
steps: [{{id: a, probe: boom}}]
{handler}:
  - {{id: h, probe: boom}}
  - {{id: i, probe: echo}}
  - {{id: j, probe: echo, needs: []}}
""")
    assert statuses(outcome) == {"a": "failed", "h": "failed", "i": "skipped", "j": "succeeded"}
    assert outcome.run.error is not None
    assert outcome.run.error.message == "step 'a' failed: boom"


async def test_what_did_not_run_is_seen_as_skipped(engine: RunEngine) -> None:
    outcome = await engine().run("""
flow: fine
steps: [{id: a, probe: echo}]
on_failure: [{id: tell, probe: echo}]
finally: [{id: z, probe: echo, with: {told: "${{ steps.tell }}", why: "${{ run.error }}"}}]
""")
    assert outcome.run.status is RunStatus.SUCCEEDED
    told: dict[str, Json] = {"result": None, "status": "skipped", "error": None, "artifacts": []}
    assert outcome.steps["z"].final.result == {"told": told, "why": None}
    assert "tell" not in outcome.steps


@pytest.mark.parametrize("ending", ["timeout", "cancellation", "bug"])
async def test_tool_calls_of_an_attempt_that_was_cut_off_are_counted(engine: RunEngine, ending: str) -> None:
    called = asyncio.Event()

    async def call_twice(call: StepCall) -> Json:
        for _time in range(2):
            with pytest.raises(StepboxError):
                await call.call_tool("workspace.search_tasks", {})
        called.set()
        await asyncio.sleep(0 if ending == "bug" else 60)
        raise ZeroDivisionError

    probed = engine(call_twice=call_twice)
    flow = f"flow: cut\nsteps: [{{id: a, probe: call_twice, timeout: {'300ms' if ending == 'timeout' else '1m'}}}]"
    outcome = await (cancelled_when(probed, called, flow) if ending == "cancellation" else probed.run(flow))
    assert outcome.steps["a"].tool_calls == 2


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
    version = await store.flows.put_version("default", "f", "flow: f", {}, "digest")
    run = await store.runs.create(version, {}, running=True)
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

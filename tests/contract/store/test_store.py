"""What every database must do for the engine."""

import asyncio
import math
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError, StatementError

from engine.records import FlowVersion, LogLine, Run, StepRun
from engine.store import Store
from engine.store.errors import AlreadyFinishedError, AmbiguousIdError, LeaseLostError, UnknownRecordError
from flows.contracts import StepError, StepResult
from flows.values import RunStatus, StepStatus

AWKWARD_VALUES: list[Any] = [
    None,
    0,
    1.0,
    -0.0,
    2**63,
    10**40,
    1e300,
    "",
    "NUL \0 and a lone surrogate \ud800",
    "Grüße, 世界 🎉",
    [],
    {},
    {"b": 1, "a": {"z": [None, True], "": "empty key"}},
    ["x" * 100_000],
]


async def put(store: Store, *, flow: str = "report", digest: str = "d1", workspace: str = "default") -> FlowVersion:
    return await store.flows.put_version(workspace, flow, f"flow: {flow}", {"step.py": "return 1"}, digest)


async def new_run(store: Store, **how: Any) -> Run:
    return await store.runs.create(await put(store), {"n": 1}, **{"running": True, **how})


async def test_an_unknown_run_version_attempt_or_call_is_named(store: Store) -> None:
    for attempt in (
        store.runs.get("nope"),
        store.runs.find("01NOPE"),
        store.runs.find("%"),
        store.runs.find(""),
        store.runs.start("nope"),
        store.runs.finish("nope", RunStatus.FAILED),
        store.flows.get("nope"),
        store.steps.finish("nope", StepResult(status=StepStatus.FAILED)),
        store.calls.finish("nope"),
    ):
        with pytest.raises(UnknownRecordError):
            await attempt


async def test_a_run_of_an_unknown_version_is_refused(store: Store) -> None:
    version = await put(store)
    unknown = FlowVersion(**{**vars_of(version), "id": "nope"})
    with pytest.raises(IntegrityError):
        await store.runs.create(unknown, {})


async def test_what_belongs_to_no_run_is_refused(store: Store) -> None:
    line = LogLine(run_id="nope", step_id="s", attempt=1, stream="stdout", line="x", at=datetime.now(UTC))
    for attempt in (
        store.steps.start("nope", "s"),
        store.logs.append([line]),
        store.calls.begin("nope", "s", "files.read", {}),
    ):
        with pytest.raises(LeaseLostError):
            await attempt


async def test_the_same_digest_is_the_same_version(store: Store) -> None:
    first = await put(store, digest="a")
    second = await put(store, digest="b")
    assert (first.number, second.number) == (1, 2)
    assert await put(store, digest="b") == second
    assert await put(store, digest="a") == first
    assert await store.flows.current("report") == first
    assert await store.flows.get(second.id) == second


async def test_the_same_digest_is_another_version_in_another_flow_and_workspace(store: Store) -> None:
    assert (await put(store, flow="a")).id != (await put(store, flow="b")).id
    with pytest.raises(IntegrityError):
        await put(store, workspace="unknown")
    assert await store.flows.current("a", workspace="unknown") is None


async def test_versions_put_at_once_are_numbered_without_gaps(store: Store) -> None:
    versions = await asyncio.gather(*(put(store, digest=f"d{number % 10}") for number in range(30)))
    assert {version.number for version in versions} == set(range(1, 11))
    assert len({(version.digest, version.number, version.id) for version in versions}) == 10


async def test_flows_are_listed_with_their_current_version_and_newest_run(store: Store) -> None:
    await put(store, flow="b", digest="1")
    version = await put(store, flow="b", digest="2")
    await put(store, flow="a")
    await store.runs.create(version, {})
    newest = await store.runs.create(version, {})
    await store.runs.finish(newest.id, RunStatus.FAILED, error=StepError(code="boom", message="it broke"))
    a, b = await store.flows.list()
    assert (a.flow, a.number, a.versions, a.last_run) == ("a", 1, 1, None)
    assert (b.flow, b.number, b.versions, b.version_id) == ("b", 2, 2, version.id)
    assert b.last_run is not None
    assert (b.last_run.id, b.last_run.status) == (newest.id, RunStatus.FAILED)
    assert await store.flows.list(workspace="other") == ()


async def test_a_run_goes_from_queued_to_its_end(store: Store) -> None:
    run = await new_run(store, trigger={"kind": "manual"}, running=False)
    assert (run.status, run.started_at, run.ended_at) == (RunStatus.QUEUED, None, None)
    assert await store.runs.get(run.id) == run
    await store.runs.start(run.id)
    started = await store.runs.get(run.id)
    assert started.status is RunStatus.RUNNING
    assert started.started_at is not None
    await store.runs.start(run.id)
    assert (await store.runs.get(run.id)).started_at == started.started_at
    await store.runs.finish(run.id, RunStatus.SUCCEEDED, output={"total": 3})
    ended = await store.runs.get(run.id)
    assert (ended.status, ended.output, ended.error) == (RunStatus.SUCCEEDED, {"total": 3}, None)
    assert ended.ended_at is not None
    assert run.created_at <= started.started_at <= ended.ended_at


async def test_a_run_may_begin_at_once_and_have_a_parent(store: Store) -> None:
    parent = await new_run(store, running=True)
    child = await new_run(store, parent_id=parent.id)
    assert parent.status is RunStatus.RUNNING
    assert parent.started_at == parent.created_at
    assert (await store.runs.get(child.id)).parent_id == parent.id


async def test_a_finished_run_is_never_changed(store: Store) -> None:
    run = await new_run(store)
    error = StepError(code="boom", message="it broke", line=3, traceback="line 3", fix="mend it")
    await store.runs.finish(run.id, RunStatus.FAILED, error=error)
    before = await store.runs.get(run.id)
    assert before.error == error
    with pytest.raises(AlreadyFinishedError):
        await store.runs.finish(run.id, RunStatus.SUCCEEDED, output=1)
    with pytest.raises(AlreadyFinishedError):
        await store.runs.start(run.id)
    assert await store.runs.get(run.id) == before


@pytest.mark.parametrize("status", [RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING])
async def test_a_run_does_not_end_as_running(store: Store, status: RunStatus) -> None:
    run = await new_run(store)
    with pytest.raises(ValueError, match="doesn't end"):
        await store.runs.finish(run.id, status)


async def test_a_run_is_found_by_the_beginning_of_its_id(store: Store) -> None:
    first, second = await new_run(store), await new_run(store)
    assert (await store.runs.find(first.id)).id == first.id
    shared = common(first.id, second.id)
    assert (await store.runs.find(second.id[: shared + 1].lower())).id == second.id
    with pytest.raises(AmbiguousIdError, match=second.id):
        await store.runs.find(first.id[:shared])
    with pytest.raises(UnknownRecordError):
        await store.runs.find(first.id, workspace="other")


async def test_runs_are_listed_newest_first_by_page_and_filter(store: Store) -> None:
    version, other = await put(store), await put(store, flow="other")
    runs = [await store.runs.create(version if number % 2 else other, {"n": number}) for number in range(7)]
    for run in runs[:3]:
        await store.runs.finish(run.id, RunStatus.SUCCEEDED)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.runs.list(limit=3, cursor=cursor)
        seen += [run.id for run in page.items]
        if page.next is None:
            break
        cursor = page.next
    assert seen == [run.id for run in reversed(runs)]
    ids = [run.id for run in runs]
    report = await store.runs.list(flow="report")
    assert [run.id for run in report.items] == [ids[5], ids[3], ids[1]]
    done = await store.runs.list(status=RunStatus.SUCCEEDED)
    assert [run.id for run in done.items] == [ids[2], ids[1], ids[0]]
    both = await store.runs.list(flow="report", status=RunStatus.SUCCEEDED)
    assert [run.id for run in both.items] == [ids[1]]
    assert (await store.runs.list(workspace="other")).items == ()
    assert (await store.runs.list(limit=7)).next is None


async def test_attempts_are_listed_in_the_order_in_which_they_began(store: Store) -> None:
    run = await new_run(store)
    first = await store.steps.start(run.id, "fetch")
    assert (await store.steps.list(run.id)) == (first,)
    result = StepResult(
        status=StepStatus.SUCCEEDED,
        result={"rows": 3},
        isolation="jail",
        duration=0.25,
        tool_calls=2,
        egress=1,
        peak_memory=3 * 2**31,
        cpu_time=0.125,
        image="stepbox-guest@sha256:1",
    )
    second = await store.steps.start(run.id, "each", item=0, attempt=2)
    await store.steps.finish(first.id, result)
    third = store.steps.over(run.id, "report", StepResult(status=StepStatus.SKIPPED))
    await store.steps.add(third)
    steps = await store.steps.list(run.id)
    assert [step.id for step in steps] == [first.id, second.id, third.id]
    done, running, skipped = steps
    assert done.ended_at is not None
    assert (done.result, done.isolation, done.duration, done.tool_calls, done.egress) == (
        {"rows": 3},
        "jail",
        0.25,
        2,
        1,
    )
    assert (done.peak_memory, done.cpu_time, done.image) == (3 * 2**31, 0.125, "stepbox-guest@sha256:1")
    assert (running.item, running.attempt, running.status, running.ended_at) == (0, 2, StepStatus.RUNNING, None)
    assert skipped == third
    assert await store.steps.list("another") == ()


async def test_the_steps_of_a_run_are_summed_up_in_the_order_in_which_they_began(store: Store) -> None:
    run, other = await new_run(store), await new_run(store)
    await store.steps.start(other.id, "flaky")

    async def ended(step: str, status: StepStatus, *, attempt: int = 1, item: int | None = None, **how: Any) -> StepRun:
        begun = await store.steps.start(run.id, step, attempt=attempt, item=item)
        await store.steps.finish(begun.id, StepResult(status=status, **how))
        return begun

    await ended("flaky", StepStatus.FAILED, tool_calls=1, egress=2)
    for item in (0, 1):
        await ended("each", StepStatus.FAILED, item=item, result="lost", tool_calls=3)
        await ended("each", StepStatus.SUCCEEDED, attempt=2, item=item, result="x" * 1000, tool_calls=2, egress=1)
    going_on = await store.steps.start(run.id, "more", item=0)
    await store.steps.start(run.id, "more", item=1)
    last = await ended("flaky", StepStatus.SUCCEEDED, attempt=2, result={"b": 1, "a": 2.0}, tool_calls=4)
    skipped = store.steps.over(run.id, "skipped", StepResult(status=StepStatus.SKIPPED), attempt=0)
    await store.steps.add(skipped)
    whole = StepResult(status=StepStatus.SUCCEEDED, result=["x", "x"], tool_calls=10, egress=2, duration=1.5)
    each = store.steps.over(run.id, "each", whole, attempt=0)
    await store.steps.add(each)
    flaky, sum_, more, none = await store.steps.summaries(run.id)
    assert (flaky.final.id, flaky.final.result, flaky.final.attempt) == (last.id, {"b": 1, "a": 2.0}, 2)
    assert (flaky.attempts, flaky.tool_calls, flaky.egress) == (2, 5, 2)
    assert sum_.final == each
    assert (sum_.attempts, sum_.tool_calls, sum_.egress) == (4, 10, 2)
    assert (more.final.status, more.final.item, more.attempts) == (StepStatus.RUNNING, None, 2)
    assert more.final.started_at == going_on.started_at
    assert (none.final, none.attempts) == (skipped, 0)
    assert await store.steps.summaries("another") == ()


async def test_a_finished_attempt_is_never_changed(store: Store) -> None:
    run = await new_run(store)
    step = await store.steps.start(run.id, "s")
    await store.steps.finish(step.id, StepResult(status=StepStatus.SUCCEEDED, result=1))
    skipped = store.steps.over(run.id, "t", StepResult(status=StepStatus.SKIPPED))
    await store.steps.add(skipped)
    before = await store.steps.list(run.id)
    for finished in (step, skipped):
        with pytest.raises(AlreadyFinishedError):
            await store.steps.finish(finished.id, StepResult(status=StepStatus.FAILED, result=2))
    with pytest.raises(ValueError, match="doesn't end"):
        await store.steps.finish(step.id, StepResult(status=StepStatus.RUNNING))
    assert await store.steps.list(run.id) == before


async def test_of_two_who_finish_an_attempt_one_wins(store: Store) -> None:
    run = await new_run(store)
    step = await store.steps.start(run.id, "s")
    outcomes = await asyncio.gather(
        *(store.steps.finish(step.id, StepResult(status=StepStatus.SUCCEEDED, result=n)) for n in range(8)),
        return_exceptions=True,
    )
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, AlreadyFinishedError) for outcome in outcomes) == 7
    assert (await store.steps.list(run.id))[0].result == outcomes.index(None)


@pytest.mark.parametrize("item", [None, 0])
async def test_an_attempt_is_started_once(store: Store, item: int | None) -> None:
    run = await new_run(store)
    await store.steps.start(run.id, "s", item=item)
    with pytest.raises(IntegrityError):
        await store.steps.start(run.id, "s", item=item)
    await store.steps.start(run.id, "s", item=item, attempt=2)
    await store.steps.start(run.id, "s", item=1)


@pytest.mark.parametrize("value", AWKWARD_VALUES, ids=range(len(AWKWARD_VALUES)))
async def test_a_value_comes_back_as_it_went_in(store: Store, value: Any) -> None:
    run = await store.runs.create(await put(store), {"value": value}, trigger={"value": value}, running=True)
    step = await store.steps.start(run.id, "s")
    await store.steps.finish(step.id, StepResult(status=StepStatus.SUCCEEDED, result=value))
    call = await store.calls.begin(run.id, "s", "files.read", value)
    await store.calls.finish(call.id, result=value)
    await store.runs.finish(run.id, RunStatus.SUCCEEDED, output=value)
    stored = await store.runs.get(run.id)
    found = [
        stored.inputs["value"],
        stored.trigger["value"],
        stored.output,
        (await store.steps.list(run.id))[0].result,
        (await store.calls.list(run.id))[0].arguments,
        (await store.calls.list(run.id))[0].result,
    ]
    # repr also compares types, signs of zero and the order of keys.
    assert [repr(one) for one in found] == [repr(value)] * 6


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), {1, 2}])
async def test_what_json_cannot_say_is_refused(store: Store, value: Any) -> None:
    run = await new_run(store)
    with pytest.raises((StatementError, TypeError, ValueError)):
        await store.runs.finish(run.id, RunStatus.SUCCEEDED, output=value)
    assert (await store.runs.get(run.id)).status is RunStatus.RUNNING


async def test_lines_come_back_in_order_and_by_step(store: Store) -> None:
    run, other = await new_run(store), await new_run(store)
    at = datetime(2025, 3, 30, 2, 30, 0, 123456, timezone(timedelta(hours=2)))

    def line(text: str, step: str = "a", of: Run = run) -> LogLine:
        return LogLine(run_id=of.id, step_id=step, item=4, attempt=2, stream="stderr", line=text, at=at)

    await store.logs.append([])
    await store.logs.append([line("1"), line("2", "b")])
    await store.logs.append([line("other", of=other)])
    await store.logs.append([line("3"), line("")])
    page = await store.logs.list(run.id, limit=3)
    assert [one.line for one in page.items] == ["1", "2", "3"]
    assert (page.items[0].at, page.items[0].item, page.items[0].stream) == (at, 4, "stderr")
    assert page.items[0].at.tzinfo is UTC
    assert page.next is not None
    rest = await store.logs.list(run.id, cursor=page.items[-1].cursor)
    assert ([one.line for one in rest.items], rest.next) == ([""], None)
    assert [one.line for one in (await store.logs.list(run.id, step_id="b")).items] == ["2"]
    assert (await store.logs.list("nope")).items == ()


async def test_a_line_that_is_no_text_is_kept_readable(store: Store) -> None:
    run = await new_run(store)
    line = LogLine(
        run_id=run.id, step_id="s", attempt=1, stream="stdout", line="a\0b\ud800c\x1b[31m", at=datetime.now(UTC)
    )
    await store.logs.append([line])
    assert [one.line for one in (await store.logs.list(run.id)).items] == ["a␀b?c\x1b[31m"]


async def test_a_reader_that_follows_a_log_misses_no_line(store: Store) -> None:
    run = await new_run(store)
    writers = 8

    async def write(writer: int) -> None:
        for number in range(20):
            await store.logs.append(
                [
                    LogLine(
                        run_id=run.id,
                        step_id=f"s{writer}",
                        attempt=1,
                        stream="stdout",
                        line=f"{writer}:{number}:{part}",
                        at=datetime.now(UTC),
                    )
                    for part in range(3)
                ]
            )

    async def follow() -> list[str]:
        seen: list[str] = []
        cursor: int | None = None
        while len(seen) < writers * 60:
            page = await store.logs.list(run.id, cursor=cursor)
            seen += [line.line for line in page.items]
            cursor = page.items[-1].cursor if page.items else cursor
        return seen

    async with asyncio.timeout(60):
        reader = asyncio.create_task(follow())
        await asyncio.gather(*(write(writer) for writer in range(writers)))
        seen = await reader
    assert len(seen) == len(set(seen)) == writers * 60
    for writer in range(writers):
        own = [line for line in seen if line.startswith(f"{writer}:")]
        assert own == [f"{writer}:{number}:{part}" for number in range(20) for part in range(3)]


async def test_a_tool_call_is_recorded_before_and_after(store: Store) -> None:
    run = await new_run(store)
    first = await store.calls.begin(run.id, "s", "workspace.get_task", {"b": 1, "a": 2}, attempt=2, item=3)
    assert await store.calls.list(run.id) == (first,)
    assert first.ended_at is None
    same = await store.calls.begin(run.id, "s", "workspace.get_task", {"a": 2, "b": 1})
    assert same.arguments_digest == first.arguments_digest
    assert same.idempotency_key != first.idempotency_key
    assert (
        await store.calls.begin(run.id, "t", "files.read", {"a": 2, "b": 1})
    ).arguments_digest != same.arguments_digest
    error = StepError(code="not_found", message="there is no task", fix="add it")
    await store.calls.finish(first.id, error=error)
    await store.calls.finish(same.id, result=None)
    failed, empty = await store.calls.list(run.id, step_id="s")
    assert (failed.error, failed.result) == (error, None)
    assert (empty.error, empty.result) == (None, None)
    assert empty.ended_at is not None
    assert [call.id for call in await store.calls.list(run.id, step_id="s", item=3)] == [first.id]
    with pytest.raises(AlreadyFinishedError):
        await store.calls.finish(first.id, result=1)


async def test_a_transaction_commits_together_or_not_at_all(store: Store) -> None:
    run = await new_run(store)

    async def start_and_fail() -> None:
        async with store.transaction():
            await store.steps.start(run.id, "s")
            assert len(await store.steps.list(run.id)) == 1
            await store.runs.get("nope")

    with pytest.raises(UnknownRecordError):
        await start_and_fail()
    assert await store.steps.list(run.id) == ()
    async with store.transaction():
        step = await store.steps.start(run.id, "s")
        async with store.transaction():
            await store.steps.finish(step.id, StepResult(status=StepStatus.SUCCEEDED))
        call = await store.calls.begin(run.id, "s", "files.read", {})
    assert (await store.steps.list(run.id))[0].status is StepStatus.SUCCEEDED
    assert (await store.calls.list(run.id))[0] == call


async def cancelled_at_once(work: Coroutine[Any, Any, object]) -> None:
    """Cancel work while its first write is going on, and once more."""
    task = asyncio.create_task(work)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_write_outlasts_the_cancellation_of_who_waits_for_it(store: Store) -> None:
    run = await new_run(store)
    step = await store.steps.start(run.id, "s")
    await cancelled_at_once(store.steps.finish(step.id, StepResult(status=StepStatus.SUCCEEDED, result=1)))
    assert (await store.steps.list(run.id))[0].result == 1
    await cancelled_at_once(store.runs.finish(run.id, RunStatus.SUCCEEDED, output=2))
    assert (await store.runs.get(run.id)).output == 2


async def test_a_write_that_fails_says_so_to_who_was_cancelled(store: Store) -> None:
    run = await new_run(store)
    task = asyncio.create_task(store.runs.start("no such run"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(UnknownRecordError):
        await task
    assert (await store.runs.get(run.id)).status is RunStatus.RUNNING


async def test_what_began_for_somebody_who_was_cancelled_has_ended(store: Store) -> None:
    await cancelled_at_once(store.runs.create(await put(store), {}, running=True))
    (run,) = (await store.runs.list()).items
    assert (run.status, run.error and run.error.code) == (RunStatus.CANCELLED, "run_cancelled")
    assert run.ended_at is not None
    other = await new_run(store)
    await cancelled_at_once(store.steps.start(other.id, "s"))
    (attempt,) = await store.steps.list(other.id)
    assert (attempt.status, attempt.error and attempt.error.code) == (StepStatus.CANCELLED, "cancelled")
    assert attempt.ended_at is not None
    await cancelled_at_once(store.calls.begin(other.id, "s", "files.read", {}))
    (call,) = await store.calls.list(other.id)
    assert call.error is not None
    assert call.error.code == "cancelled"
    assert call.ended_at is not None


async def test_a_run_that_has_ended_has_nothing_open(store: Store) -> None:
    run, other = await new_run(store), await new_run(store)
    done = await store.steps.start(run.id, "done")
    await store.steps.finish(done.id, StepResult(status=StepStatus.SUCCEEDED, result=1))
    before = (await store.steps.list(run.id))[0]
    for one in (run, other):
        await store.steps.start(one.id, "open")
        await store.calls.begin(one.id, "open", "files.read", {})
    await store.runs.finish(run.id, RunStatus.FAILED, error=StepError(code="boom", message="boom"))
    first, second = await store.steps.list(run.id)
    assert first == before
    assert (second.status, second.error and second.error.code) == (StepStatus.CANCELLED, "cancelled")
    assert second.ended_at is not None
    (call,) = await store.calls.list(run.id)
    assert call.error is not None
    assert call.ended_at is not None
    assert (await store.steps.list(other.id))[0].status is StepStatus.RUNNING
    assert (await store.calls.list(other.id))[0].ended_at is None


async def test_a_cancelled_transaction_is_rolled_back_and_blocks_nobody(store: Store) -> None:
    run = await new_run(store)
    reached = asyncio.Event()

    async def hang() -> None:
        async with store.transaction():
            await store.steps.start(run.id, "s")
            reached.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(30):
        await store.steps.start(run.id, "s")
    assert len(await store.steps.list(run.id)) == 1


async def test_another_task_sees_nothing_of_an_open_transaction(store: Store) -> None:
    run = await new_run(store)
    async with store.transaction():
        await store.steps.start(run.id, "s")
        assert await asyncio.create_task(store.steps.list(run.id)) == ()
    assert len(await store.steps.list(run.id)) == 1


async def test_many_runs_at_once_all_come_through(store: Store) -> None:
    version = await put(store)

    async def one(number: int) -> Run:
        run = await store.runs.create(version, {"n": number}, running=True)
        for step in range(5):
            started = await store.steps.start(run.id, f"s{step}")
            await store.steps.finish(started.id, StepResult(status=StepStatus.SUCCEEDED, result=step))
        await store.runs.finish(run.id, RunStatus.SUCCEEDED, output=number)
        return await store.runs.get(run.id)

    async with asyncio.timeout(120):
        runs = await asyncio.gather(*(one(number) for number in range(40)))
    assert [run.output for run in runs] == list(range(40))


async def test_what_is_stored_is_there_after_opening_again(database_url: str, files: Path) -> None:
    async with await Store.open(database_url, files=files) as store:
        run = await new_run(store)
    async with await Store.open(database_url, files=files) as store:
        assert await store.runs.get(run.id) == run


async def test_two_open_stores_see_each_other(database_url: str, files: Path) -> None:
    one, two = await asyncio.gather(Store.open(database_url, files=files), Store.open(database_url, files=files))
    async with one, two:
        run = await new_run(one)
        assert await two.runs.get(run.id) == run
        others = await new_run(two)
        starting = ((store, of) for _ in range(10) for store, of in ((one, run), (two, others)))
        await asyncio.gather(*(store.steps.start(of.id, f"s{n}") for n, (store, of) in enumerate(starting)))
        for store in (one, two):
            assert [len(await store.steps.list(of.id)) for of in (run, others)] == [10, 10]


def vars_of(version: FlowVersion) -> dict[str, Any]:
    return {name: getattr(version, name) for name in version.__dataclass_fields__}


def common(first: str, second: str) -> int:
    return next(place for place, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)

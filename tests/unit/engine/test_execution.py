"""What runs when, and what its outcome means: through the real store and Prefect's task engine."""

import asyncio
from collections import Counter

import pytest

from engine.progress import AttemptEnded
from engine.report import RunReport
from flows.contracts import StepCall
from flows.errors import RefusedError, StepboxError
from flows.values import Json, RunStatus, StepStatus
from tests.unit.engine.conftest import ProbeError, RunEngine


def statuses(report: RunReport) -> dict[str, str]:
    return {step_id: step.final.status.value for step_id, step in report.steps.items()}


async def boom(call: StepCall) -> Json:
    raise ProbeError(message=f"boom {call.attempt}")


async def sleep(call: StepCall) -> Json:
    await asyncio.sleep(60)


async def test_steps_pass_results_on_in_order(engine: RunEngine) -> None:
    report = await engine().run(
        """
flow: chain
inputs: {n: {type: integer}}
steps:
  - {id: one, probe: echo, with: {n: "${{ inputs.n + 1 }}"}}
  - {id: two, probe: echo, with: {n: "${{ steps.one.result.n * 2 }}", text: "n=${{ inputs.n }}"}}
output: {final: "${{ steps.two.result }}"}
""",
        n=4,
    )
    assert report.run.status is RunStatus.SUCCEEDED
    assert report.run.output == {"final": {"n": 10, "text": "n=4"}}
    assert list(report.steps) == ["one", "two"]


async def test_a_failed_step_fails_the_run_and_skips_what_needs_it(engine: RunEngine) -> None:
    report = await engine(boom=boom).run("""
flow: failing
steps:
  - {id: bad, probe: boom}
  - {id: after, probe: echo}
  - {id: beyond, probe: echo, needs: [after]}
  - {id: apart, probe: echo, needs: []}
output: never
""")
    assert report.run.status is RunStatus.FAILED
    assert report.run.output is None
    assert statuses(report) == {"bad": "failed", "apart": "succeeded", "after": "skipped", "beyond": "skipped"}
    error = report.steps["beyond"].final.error
    assert error is not None
    assert error.code == "needs_failed"
    assert report.run.error is not None
    assert "bad" in report.run.error.message
    assert "boom 1" in report.run.error.message


async def test_a_failure_may_be_continued_from_and_looked_at(engine: RunEngine) -> None:
    report = await engine(boom=boom).run("""
flow: tolerant
steps:
  - {id: bad, probe: boom, on_error: continue}
  - {id: after, probe: echo, with: {status: "${{ steps.bad.status }}", why: "${{ steps.bad.error.message }}"}}
output: ${{ steps.after.result }}
""")
    assert report.run.status is RunStatus.SUCCEEDED
    assert report.run.output == {"status": "failed", "why": "boom 1"}


async def test_a_step_whose_if_says_no_is_skipped_and_blocks_nobody(engine: RunEngine) -> None:
    report = await engine().run("""
flow: conditional
inputs: {go: {type: boolean, default: false}}
steps:
  - {id: maybe, probe: echo, if: inputs.go, with: {x: 1}}
  - {id: after, probe: echo, with: {seen: "${{ steps.maybe.result }}", status: "${{ steps.maybe.status }}"}}
output: ${{ steps.after.result }}
""")
    assert statuses(report) == {"maybe": "skipped", "after": "succeeded"}
    assert report.run.output == {"seen": None, "status": "skipped"}
    assert report.steps["maybe"].attempts == 0


async def test_an_if_that_errs_fails_its_step(engine: RunEngine) -> None:
    report = await engine().run("""
flow: erring
steps:
  - {id: first, probe: echo}
  - {id: second, probe: echo, if: steps.first.result.absent == 1}
""")
    assert statuses(report) == {"first": "succeeded", "second": "failed"}
    assert report.run.status is RunStatus.FAILED


async def test_an_output_that_errs_fails_the_run(engine: RunEngine) -> None:
    report = await engine().run("""
flow: erring
steps: [{id: first, probe: echo}]
output: ${{ steps.first.result.absent }}
""")
    assert report.run.status is RunStatus.FAILED
    assert report.run.error is not None
    assert report.run.error.code == "expression_error"


async def test_a_step_may_need_one_that_is_written_after_it(engine: RunEngine) -> None:
    report = await engine().run("""
flow: backwards
steps:
  - {id: c, probe: echo, needs: [b], with: {n: "${{ steps.b.result.n + 1 }}"}}
  - {id: b, probe: echo, needs: [a], with: {n: "${{ steps.a.result.n + 1 }}"}}
  - {id: a, probe: echo, needs: [], with: {n: 1}}
finally:
  - {id: z, probe: echo, needs: [y], with: {seen: "${{ steps.y.status }}"}}
  - {id: y, probe: echo, needs: []}
output: ${{ steps.c.result.n }}
""")
    assert report.run.output == 3
    assert report.steps["z"].final.result == {"seen": "succeeded"}


async def test_independent_steps_run_at_once(engine: RunEngine) -> None:
    both = asyncio.Barrier(2)

    async def meet(call: StepCall) -> Json:
        await asyncio.wait_for(both.wait(), 30)

    report = await engine(meet=meet).run("""
flow: parallel
steps:
  - {id: a, probe: meet, needs: []}
  - {id: b, probe: meet, needs: []}
""")
    assert report.run.status is RunStatus.SUCCEEDED


async def test_for_each_keeps_the_order_of_its_items_and_the_limit_of_its_concurrency(engine: RunEngine) -> None:
    now, most = 0, 0

    async def work(call: StepCall) -> Json:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        await asyncio.sleep(0.01 * (5 - call.inputs["n"] % 5))
        now -= 1
        return call.inputs["n"] * 10 + call.inputs["i"]

    report = await engine(work=work).run("""
flow: fan
inputs: {numbers: {type: array, default: [3, 1, 4, 1, 5, 9, 2, 6]}}
steps:
  - id: each
    probe: work
    for_each: {in: "${{ inputs.numbers }}", as: number, concurrency: 3}
    with: {n: "${{ number }}", i: "${{ index }}"}
output: ${{ steps.each.result }}
""")
    assert report.run.output == [30, 11, 42, 13, 54, 95, 26, 67]
    assert most == 3
    assert report.steps["each"].attempts == 8


async def test_for_each_over_nothing_gives_an_empty_list(engine: RunEngine) -> None:
    report = await engine().run(
        "flow: fan\nsteps: [{id: each, probe: echo, for_each: {in: []}}]\noutput: ${{ steps.each.result }}"
    )
    assert report.run.output == []
    assert report.run.status is RunStatus.SUCCEEDED


async def test_for_each_over_what_is_no_list_fails(engine: RunEngine) -> None:
    report = await engine().run("""
flow: fan
inputs: {x: {type: string, default: text}}
steps: [{id: each, probe: echo, for_each: {in: "${{ inputs.x }}"}}]
""")
    error = report.steps["each"].final.error
    assert error is not None
    assert error.code == "for_each_not_a_list"


ODD_FAILS = """
flow: fan
steps:
  - id: each
    probe: odd
    for_each: {{in: [0, 1, 2, 3, 4], on_item_error: {policy}}}
    with: {{n: "${{{{ item }}}}"}}
output: ${{{{ steps.each.result }}}}
"""


async def odd(call: StepCall) -> Json:
    if call.inputs["n"] % 2:
        raise ProbeError(message=f"odd {call.inputs['n']}")
    return call.inputs["n"]


async def test_a_failed_item_fails_the_step_and_stops_further_items(engine: RunEngine) -> None:
    probed = engine(odd=odd)
    report = await probed.run(ODD_FAILS.format(policy="fail"))
    error = report.steps["each"].final.error
    assert error is not None
    assert error.message == "item 1: odd 1"
    assert len(probed.probes.calls) == 2


async def test_failed_items_may_leave_null(engine: RunEngine) -> None:
    report = await engine(odd=odd).run(ODD_FAILS.format(policy="continue"))
    assert report.run.output == [0, None, 2, None, 4]
    assert report.run.status is RunStatus.SUCCEEDED


async def test_retries_until_it_succeeds(engine: RunEngine) -> None:
    async def third_time(call: StepCall) -> Json:
        if call.attempt < 3:
            raise ProbeError(message=f"attempt {call.attempt}")
        return call.attempt

    probed = engine(third_time=third_time)
    report = await probed.run("flow: retrying\nsteps: [{id: a, probe: third_time, retry: {attempts: 5, delay: 1ms}}]")
    assert report.run.status is RunStatus.SUCCEEDED
    assert report.steps["a"].attempts == 3
    assert report.steps["a"].final.result == 3
    assert [attempt.status.value for attempt in await probed.attempts(report)] == ["failed", "failed", "succeeded"]
    assert [seen.retrying for seen in probed.observer.seen if isinstance(seen, AttemptEnded)] == [True, True, False]


@pytest.mark.parametrize(
    ("status", "on", "attempts"),
    [
        (StepStatus.FAILED, "[error]", 3),
        (StepStatus.FAILED, "[timeout]", 1),
        (StepStatus.TIMED_OUT, "[timeout]", 3),
        (StepStatus.OUT_OF_MEMORY, "[error, timeout]", 1),
        (StepStatus.OUT_OF_MEMORY, "[out_of_memory]", 3),
        (StepStatus.LIMIT_EXCEEDED, "[limit_exceeded]", 3),
        (StepStatus.KILLED, "[killed]", 3),
    ],
)
async def test_only_the_named_outcomes_are_retried(
    engine: RunEngine, status: StepStatus, on: str, attempts: int
) -> None:
    async def ends(call: StepCall) -> Json:
        raise ProbeError(status)

    report = await engine(ends=ends).run(
        f"flow: retrying\nsteps: [{{id: a, probe: ends, retry: {{attempts: 3, delay: 1ms, on: {on}}}}}]"
    )
    assert report.steps["a"].attempts == attempts
    assert report.steps["a"].final.status is status


async def test_items_are_retried_one_by_one(engine: RunEngine) -> None:
    tries: Counter[int] = Counter()

    async def flaky(call: StepCall) -> Json:
        tries[call.inputs["n"]] += 1
        if call.inputs["n"] == 1 and call.attempt == 1:
            raise ProbeError
        return call.inputs["n"]

    report = await engine(flaky=flaky).run("""
flow: fan
steps:
  - {id: each, probe: flaky, for_each: {in: [0, 1, 2]}, with: {n: "${{ item }}"}, retry: {attempts: 2, delay: 1ms}}
output: ${{ steps.each.result }}
""")
    assert report.run.output == [0, 1, 2]
    assert tries == {0: 1, 1: 2, 2: 1}
    assert report.steps["each"].attempts == 4


async def test_a_step_over_its_timeout_has_timed_out(engine: RunEngine) -> None:
    report = await engine(sleep=sleep).run("flow: slow\nsteps: [{id: a, probe: sleep, timeout: 50ms}]")
    assert statuses(report) == {"a": "timed_out"}
    error = report.steps["a"].final.error
    assert error is not None
    assert error.code == "step_timed_out"


async def test_a_run_over_its_timeout_has_failed_and_every_step_has_an_end(engine: RunEngine) -> None:
    report = await engine(sleep=sleep).run("""
flow: slow
timeout: 100ms
steps: [{id: a, probe: sleep}, {id: b, probe: echo}]
finally: [{id: last, probe: echo}]
""")
    assert report.run.status is RunStatus.FAILED
    assert report.run.error is not None
    assert report.run.error.code == "run_timed_out"
    assert statuses(report) == {"a": "cancelled", "b": "skipped", "last": "succeeded"}
    assert report.steps["a"].attempts == 1


async def test_on_failure_runs_only_after_a_failure_and_sees_it(engine: RunEngine) -> None:
    flow = """
flow: watched
steps: [{id: a, probe: PROBE}]
on_failure: [{id: tell, probe: echo, with: {why: "${{ run.error.message }}", status: "${{ steps.a.status }}"}}]
finally: [{id: last, probe: echo, with: {status: "${{ steps.a.status }}"}}]
"""
    failed = await engine(boom=boom).run(flow.replace("PROBE", "boom"))
    assert statuses(failed) == {"a": "failed", "tell": "succeeded", "last": "succeeded"}
    assert failed.steps["tell"].final.result["status"] == "failed"
    assert "boom 1" in failed.steps["tell"].final.result["why"]
    succeeded = await engine().run(flow.replace("PROBE", "echo"))
    assert statuses(succeeded) == {"a": "succeeded", "last": "succeeded"}


async def test_a_failing_finally_fails_a_run_that_had_succeeded(engine: RunEngine) -> None:
    report = await engine(boom=boom).run(
        "flow: cleaning\nsteps: [{id: a, probe: echo}]\nfinally: [{id: clean, probe: boom}]"
    )
    assert report.run.status is RunStatus.FAILED
    assert report.run.error is not None
    assert "clean" in report.run.error.message


async def test_a_cancelled_run_is_recorded_and_its_finally_runs(engine: RunEngine) -> None:
    begun = asyncio.Event()

    async def wait(call: StepCall) -> Json:
        begun.set()
        await asyncio.sleep(60)

    probed = engine(wait=wait)
    task = asyncio.create_task(
        probed.run("flow: long\nsteps: [{id: a, probe: wait}, {id: b, probe: echo}]\nfinally: [{id: z, probe: echo}]")
    )
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    run = (await probed.store.runs.list()).items[0]
    assert run.status is RunStatus.CANCELLED
    ends = {step.step_id: step.status.value for step in await probed.store.steps.list(run.id)}
    assert ends == {"a": "cancelled", "b": "skipped", "z": "succeeded"}


async def test_a_cached_result_is_reused_until_inputs_or_code_change(engine: RunEngine) -> None:
    count = 0

    async def counted(call: StepCall) -> Json:
        nonlocal count
        count += 1
        return {"count": count, **call.inputs}

    flow = """
flow: caching
inputs: {x: {type: integer}}
steps: [{id: a, probe: counted, cache: {ttl: 1h}, with: {x: "${{ inputs.x }}"}}]
output: ${{ steps.a.result }}
"""
    probed = engine(counted=counted)
    first, again = await probed.run(flow, x=1), await probed.run(flow, x=1)
    assert first.run.output == again.run.output == {"count": 1, "x": 1}
    assert (first.steps["a"].attempts, again.steps["a"].attempts) == (1, 0)
    assert (await probed.run(flow, x=2)).run.output == {"count": 2, "x": 2}
    changed = flow.replace("ttl: 1h}", "ttl: 1h}, timeout: 9s")
    assert (await probed.run(changed, x=1)).run.output == {"count": 3, "x": 1}


async def test_a_failure_is_not_cached(engine: RunEngine) -> None:
    probed = engine(boom=boom)
    flow = "flow: caching\nsteps: [{id: a, probe: boom, cache: {ttl: 1h}}]"
    await probed.run(flow)
    assert (await probed.run(flow)).steps["a"].attempts == 1


CHILD = """
flow: child
inputs: {n: {type: integer}}
steps: [{id: double, probe: echo, with: {n: "${{ inputs.n * 2 }}"}}]
output: ${{ steps.double.result.n }}
"""


async def test_a_subflow_is_a_run_of_its_own_and_gives_its_output(engine: RunEngine) -> None:
    probed = engine()
    report = await probed.run(
        'flow: parent\nsteps: [{id: sub, flow: child, with: {n: 21}}]\noutput: "${{ steps.sub.result }}"', CHILD
    )
    assert report.run.output == 42
    children = [run for run in (await probed.store.runs.list()).items if run.parent_id == report.run.id]
    assert [child.flow for child in children] == ["child"]


async def test_a_failed_subflow_fails_its_step(engine: RunEngine) -> None:
    report = await engine(boom=boom).run(
        "flow: parent\nsteps: [{id: sub, flow: child}]", "flow: child\nsteps: [{id: a, probe: boom}]"
    )
    error = report.steps["sub"].final.error
    assert error is not None
    assert error.code == "subflow_failed"
    assert "boom 1" in error.message


async def test_inputs_a_subflow_does_not_take_fail_its_step(engine: RunEngine) -> None:
    flow = 'flow: parent\ninputs: {x: {default: text}}\nsteps: [{id: sub, flow: child, with: {n: "${{ inputs.x }}"}}]'
    report = await engine().run(flow, CHILD)
    error = report.steps["sub"].final.error
    assert error is not None
    assert error.code == "invalid_input"


@pytest.mark.parametrize(
    ("text", "others", "code"),
    [
        ("flow: p\nsteps: [{id: a, probe: echo}, {id: s, flow: absent}]", [], "unknown_flow"),
        (
            "flow: p\nsteps: [{id: a, probe: echo}, {id: s, flow: q}]",
            ["flow: q\nsteps: [{id: s, flow: r}]", "flow: r\nsteps: [{id: s, flow: q}]"],
            "recursive_flow",
        ),
        ("flow: p\nsteps: [{id: a, probe: echo}, {id: s, shell: ls}]", [], "kind_unavailable"),
        (
            "flow: p\nsteps: [{id: a, probe: echo}, {id: s, flow: q}]",
            ["flow: q\nsteps: [{id: w, shell: ls}]"],
            "kind_unavailable",
        ),
        ("flow: p\ninputs: {x: {type: integer}}\nsteps: [{id: a, probe: echo}]", [], "invalid_input"),
    ],
)
async def test_what_can_not_run_is_refused_before_anything_has(
    engine: RunEngine, text: str, others: list[str], code: str
) -> None:
    probed = engine()
    with pytest.raises(StepboxError) as refused:
        await probed.run(text, *others)
    assert refused.value.code == code
    assert probed.probes.calls == []
    assert (await probed.store.runs.list()).items == ()
    assert isinstance(refused.value, RefusedError) == (code == "kind_unavailable")


async def test_a_bug_in_an_executor_fails_its_step_and_not_the_record(engine: RunEngine) -> None:
    async def bug(call: StepCall) -> Json:
        raise ZeroDivisionError("a bug")

    report = await engine(bug=bug).run("flow: buggy\nsteps: [{id: a, probe: bug}]")
    error = report.steps["a"].final.error
    assert error is not None
    assert error.code == "internal_error"
    assert report.run.status is RunStatus.FAILED


async def test_log_lines_are_kept_in_order(engine: RunEngine) -> None:
    async def talk(call: StepCall) -> Json:
        for number in range(1200):
            await call.log("stdout", f"line {number}")

    probed = engine(talk=talk)
    report = await probed.run("flow: talking\nsteps: [{id: a, probe: talk}]")
    lines = (await probed.store.logs.list(report.run.id, limit=2000)).items
    assert [line.line for line in lines] == [f"line {number}" for number in range(1200)]


async def test_two_hundred_steps_in_a_row(engine: RunEngine) -> None:
    steps = "\n".join(f"  - {{id: s{number}, probe: echo}}" for number in range(200))
    report = await engine().run(f"flow: long\nsteps:\n{steps}")
    assert report.run.status is RunStatus.SUCCEEDED
    assert len(report.steps) == 200


@pytest.mark.parametrize(
    ("given", "fragment"),
    [
        ("{m: 1}", "no input `m`"),
        ("{}", "`n` is missing"),
        ("{n: text}", "integer"),
        ('{n: "${{ inputs.x }}", m: 1}', "no input `m`"),
    ],
)
async def test_what_a_subflow_can_not_take_is_found_before_anything_runs(
    engine: RunEngine, given: str, fragment: str
) -> None:
    probed = engine()
    flow = f"flow: p\ninputs: {{x: {{default: 1}}}}\nsteps: [{{id: a, probe: echo}}, {{id: s, flow: child, with: {given}}}]"
    with pytest.raises(StepboxError, match=fragment) as refused:
        await probed.run(flow, CHILD)
    assert refused.value.code == "invalid_input"
    assert probed.probes.calls == []

"""What a service logs of its runs, in what happened to a real one."""

import logging

import pytest

from engine.log_context import facts
from engine.run_log import RunLog
from flows.contracts import StepCall
from flows.values import Json, RunStatus
from tests.unit.engine.conftest import Flows, ProbeError, RunEngine

FLOW = """\
flow: told
steps:
  - {id: asks, approval: {message: Go on?}}
  - {id: items, probe: fails, for_each: {in: "${{ [1, 2] }}", on_item_error: continue}, needs: []}
  - {id: not_now, probe: echo, if: "false", needs: []}
  - {id: after, probe: noisy, needs: [asks]}
"""


async def test_beginnings_and_ends_are_told_once_and_lines_know_their_step(
    engine: RunEngine, caplog: pytest.LogCaptureFixture
) -> None:
    known: list[dict[str, str]] = []

    async def fails(_call: StepCall) -> Json:
        raise ProbeError

    async def noisy(_call: StepCall) -> Json:
        known.append(dict(facts()))
        return None

    caplog.set_level(logging.INFO, "stepbox.runs")
    made = engine(fails=fails, noisy=noisy)
    plan = await made.runs.plan(made.load(FLOW), {}, Flows({}), workspace="default")
    run = (await made.runs.run(plan, observer=RunLog(), trigger={}, principal=made.principal)).run
    assert run.status is RunStatus.WAITING
    (asked,) = await made.store.approvals.list()
    await made.store.approvals.decide(asked.id, "approved", by="me")
    await made.runs.resume(plan, await made.store.runs.get(run.id), observer=RunLog())
    told = [(one.getMessage(), getattr(one, "step", None), getattr(one, "status", None)) for one in caplog.records]
    assert [each for each in told if each[1] is None] == [
        ("run started", None, None),
        ("run waits", None, None),
        ("run goes on", None, None),
        ("run ended", None, "succeeded"),
    ]
    assert sorted(each for each in told if each[1] is not None) == [
        ("step ended", "after", "succeeded"),
        ("step ended", "asks", "succeeded"),
        ("step ended", "asks", "waiting"),
        ("step ended", "items", "succeeded"),
        ("step ended", "not_now", "skipped"),
        ("step started", "after", None),
        ("step started", "asks", None),
        ("step started", "asks", None),
    ]
    assert known == [{"run": run.id, "flow": "told", "step": "after"}]
    assert facts() == {}

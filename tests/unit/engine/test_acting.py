"""A run acts for a principal: with no more than that may do now, which is looked at for each attempt and each call."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from engine.principal import LOCAL_ADMIN
from engine.principals import GrantPatterns
from engine.records import Role
from engine.report import RunReport
from engine.store import Store
from flows.contracts import StepCall
from flows.values import Json, RunStatus
from steps.code import PythonStep
from steps.sandbox import interpreter
from steps.sandbox.executor import CodeExecutor
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes
from tests.unit.engine.conftest import Engine, RunEngine, open_engine

ANN = replace(LOCAL_ADMIN, name="ann", role="editor", kind="token")
EVERYTHING = GrantPatterns(tools=["*"], flows=["*"])
TOOL = "flow: f\nsteps:\n  - id: tasks\n    tool: workspace.search_tasks\n"


@dataclass
class Gate:
    """A probe that says that it was reached, and goes on when it may."""

    reached: asyncio.Event
    open: asyncio.Event

    async def __call__(self, _call: StepCall) -> Json:
        self.reached.set()
        await self.open.wait()
        return None


@pytest.fixture
def gate() -> Gate:
    return Gate(asyncio.Event(), asyncio.Event())


async def ann(store: Store, role: Role = "editor", grants: GrantPatterns = EVERYTHING) -> None:
    await store.principals.create("ann", kind="person", role=role, grants=grants, by="test")


def why(report: RunReport, step: str) -> tuple[str, str]:
    error = report.steps[step].final.error
    assert error is not None
    return error.code, error.message


@pytest.mark.parametrize("tools", [[], ["workspace.create_*", "http.request"]])
async def test_a_tool_that_is_not_granted_is_not_called(engine: RunEngine, tools: list[str]) -> None:
    made = engine()
    made.principal = ANN
    await ann(made.store, grants=GrantPatterns(tools=tools, flows=["*"]))
    report = await made.run(TOOL)
    assert report.run.principal == "ann"
    assert why(report, "tasks") == (
        "forbidden",
        "'ann', for whom the run acts, is not granted the tool workspace.search_tasks",
    )
    assert await made.store.calls.list(report.run.id) == ()
    await made.store.principals.grant("ann", GrantPatterns(tools=["workspace.*"]), by="test")
    assert (await made.run(TOOL)).run.status is RunStatus.SUCCEEDED


async def test_an_admin_is_not_limited_by_grants(engine: RunEngine) -> None:
    made = engine()
    made.principal = ANN
    await ann(made.store, "admin", GrantPatterns())
    assert (await made.run(TOOL)).run.status is RunStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("disable", "is disabled"),
        ("delete", "is no principal any more"),
        ("demote", "has the role viewer, which starts no runs"),
        ("ungrant", "is not granted the flow 'f'"),
    ],
)
async def test_who_may_not_act_any_more_starts_no_further_attempt(
    engine: RunEngine, gate: Gate, change: str, said: str
) -> None:
    made = engine(gate=gate)
    made.principal = ANN
    await ann(made.store)
    text = (
        "flow: f\nsteps: [{id: a, probe: gate}, {id: b, probe: echo}]\n"
        "on_failure: [{id: c, probe: echo}]\nfinally: [{id: d, probe: echo}]\n"
    )
    running = asyncio.create_task(made.run(text))
    await gate.reached.wait()
    await _change(made, change)
    gate.open.set()
    report = await running
    assert made.probes.calls == ["a"]
    assert report.run.status is RunStatus.FAILED
    for step in ("b", "c", "d"):
        code, message = why(report, step)
        assert (code, said in message) == ("forbidden", True)


async def _change(made: Engine, change: str) -> None:
    principals = made.store.principals
    if change == "disable":
        await principals.enable("ann", enabled=False)
    elif change == "delete":
        await principals.delete("ann")
    elif change == "demote":
        await principals.set_role("ann", "viewer")
    else:
        await principals.revoke("ann", GrantPatterns(flows=["*"]))


async def test_a_subflow_acts_as_its_run_and_needs_its_own_grant(engine: RunEngine) -> None:
    made = engine()
    made.principal = ANN
    await ann(made.store, grants=GrantPatterns(tools=["*"], flows=["outer"]))
    outer, inner = "flow: outer\nsteps: [{id: part, flow: inner}]\n", "flow: inner\nsteps: [{id: x, probe: echo}]\n"
    report = await made.run(outer, inner)
    (child,) = await made.store.runs.children(report.run.id)
    assert (child.principal, child.status, made.probes.calls) == ("ann", RunStatus.FAILED, [])
    await made.store.principals.grant("ann", GrantPatterns(flows=["inner"]), by="test")
    assert (await made.run(outer, inner)).run.status is RunStatus.SUCCEEDED


LOOP = """\
flow: f
steps:
  - id: many
    python: |
      import time
      for made in range(90):
          try:
              tools.search_tasks()
          except Exception as refused:
              return {"made": made, "code": refused.code, "said": str(refused)}
          time.sleep(0.2)
    tools: [workspace.search_tasks]
    limits: {timeout: 60s}
"""


@pytest.fixture
async def coded(tmp_path: Path) -> AsyncIterator[RunEngine]:
    await interpreter.ensure()
    sandboxes = Sandboxes(NsjailRunner())
    try:
        async with open_engine(tmp_path, {PythonStep: CodeExecutor(sandboxes)}) as make:
            yield make
    finally:
        await sandboxes.close()


async def test_removing_the_owners_right_stops_the_next_call_of_code_that_goes_on(coded: RunEngine) -> None:
    made = coded()
    made.principal = ANN
    await ann(made.store)
    running = asyncio.create_task(made.run(LOOP))
    async with asyncio.timeout(60):
        while not (runs := (await made.store.runs.list()).items) or not await made.store.calls.list(runs[0].id):  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.01)
    await made.store.principals.revoke("ann", GrantPatterns(tools=["*"]))
    made_by_then = len(await made.store.calls.list(runs[0].id))
    report = await running
    assert report.run.status is RunStatus.SUCCEEDED, report.run.error
    result = report.steps["many"].final.result
    assert (result["code"], "not granted the tool workspace.search_tasks" in result["said"]) == ("forbidden", True)
    # One call may have been on its way.
    assert result["made"] == len(await made.store.calls.list(runs[0].id)) <= made_by_then + 1

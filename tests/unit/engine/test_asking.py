"""Tools that ask a person before each call, from tool steps and from code; calls that happened are not made again."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from engine.questions import Decision
from engine.report import RunReport
from flows.contracts import ToolSpec
from flows.values import Json, RunStatus, StepStatus
from steps.code import PythonStep
from steps.sandbox import interpreter
from steps.sandbox.executor import CodeExecutor
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes
from steps.tools.contract import ToolContext, ToolError
from tests.unit.engine.conftest import Engine, Flows, open_engine


class Recording:
    """A plug-in's tool that keeps what it was called with; ``fails`` are the calls that fail, once each."""

    def __init__(self, name: str, approval: str) -> None:
        self.spec = ToolSpec(
            name=f"plug.{name}",
            description="Notes a name.",
            arguments={"type": "object", "properties": {"name": {}, "slow": {}}},
            effect="write",
            approval="always" if approval == "always" else "never",
        )
        self.called: list[Json] = []
        self.fails: list[Json] = []

    async def call(self, arguments: Mapping[str, Json], context: ToolContext) -> Json:
        if arguments.get("slow"):
            await asyncio.sleep(0.3)
        self.called.append(arguments["name"])
        if arguments["name"] in self.fails:
            self.fails.remove(arguments["name"])
            raise ToolError("no luck")
        return f"{arguments['name']} noted"


asks = Recording("asks", "always")
free = Recording("free", "never")


PLUG_INS = [EntryPoint(f"plug.{name}", f"{__name__}:{name}", "stepbox.tools") for name in ("asks", "free")]
BY_STEP = """
flow: f
steps:
  - {id: one, tool: plug.asks, with: {name: a}}
  - {id: two, tool: plug.asks, for_each: {in: [b, c]}, with: {name: "${{ item }}"}}
output: [ "${{ steps.one.result }}", "${{ steps.two.result }}" ]
"""


@pytest.fixture(scope="module", autouse=True)
def step_interpreter() -> None:
    """The environment of Python steps, which a fresh checkout doesn't have yet."""
    asyncio.run(interpreter.ensure())


@pytest.fixture(autouse=True)
def forgotten() -> None:
    for tool in (asks, free):
        tool.called.clear()
        tool.fails.clear()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    runner = NsjailRunner()
    sandboxes = Sandboxes(runner)
    try:
        async with open_engine(tmp_path, {PythonStep: CodeExecutor(sandboxes)}, plug_ins=PLUG_INS) as make:
            yield make()
    finally:
        await sandboxes.close()
    assert runner.sandboxes == ()


async def resume(engine: Engine, report: RunReport, flow: str) -> RunReport:
    plan = await engine.runs.plan(engine.load(flow), {}, Flows({}), workspace="default")
    run = await engine.store.runs.get(report.run.id)
    return await engine.runs.resume(plan, run, observer=engine.observer)


async def undecided(engine: Engine) -> list[Json]:
    return sorted(one.details["arguments"]["name"] for one in await engine.store.approvals.list(undecided=True))


async def decide(engine: Engine, decision: Decision = "approved") -> None:
    for one in await engine.store.approvals.list(undecided=True):
        await engine.store.approvals.decide(one.id, decision, by="ann", comment="because")


def python(code: str, more: str = "") -> str:
    body = "\n".join(f"      {line}" for line in code.strip().splitlines())
    return f"flow: f\nsteps:\n  - id: a\n    tools: [plug.asks, plug.free]\n{more}    python: |\n{body}\noutput: ${{{{ steps.a.result }}}}\n"


async def test_a_tool_step_waits_and_makes_its_call_after_the_yes(engine: Engine) -> None:
    report = await engine.run(BY_STEP)
    assert (report.run.status, asks.called) == (RunStatus.WAITING, [])
    (asked,) = await engine.store.approvals.list()
    assert asked.details == {"tool": "plug.asks", "arguments": {"name": "a"}}
    await decide(engine)
    second = await resume(engine, report, BY_STEP)
    assert (second.run.status, asks.called) == (RunStatus.WAITING, ["a"])
    assert await undecided(engine) == ["b", "c"]
    await decide(engine)
    ended = await resume(engine, report, BY_STEP)
    assert ended.run.output == ["a noted", ["b noted", "c noted"]]
    assert sorted(asks.called) == ["a", "b", "c"]


async def test_a_rejected_call_fails_the_step_and_is_not_made(engine: Engine) -> None:
    report = await engine.run(BY_STEP)
    await decide(engine, "rejected")
    ended = await resume(engine, report, BY_STEP)
    error = ended.steps["one"].final.error
    assert (ended.run.status, asks.called) == (RunStatus.FAILED, [])
    assert error is not None
    assert error.code == "approval_rejected"
    assert "because" in error.message


async def test_code_goes_on_as_if_nothing_had_happened(engine: Engine) -> None:
    flow = python(
        """
tools.free(name="before")
one = tools.asks(name="a")
two = tools.asks(name="a")
tools.free(name="after")
return [one, two]
""",
        "    retry: {attempts: 1}\n",
    )
    report = await engine.run(flow)
    assert report.run.status is RunStatus.WAITING
    assert report.steps["a"].final.status is StepStatus.WAITING
    assert (free.called, asks.called) == (["before"], [])
    await decide(engine)
    again = await resume(engine, report, flow)
    # The second call with the same arguments is asked for by itself.
    assert (again.run.status, asks.called, free.called) == (RunStatus.WAITING, ["a"], ["before"])
    await decide(engine)
    ended = await resume(engine, report, flow)
    assert (ended.run.status, ended.run.output) == (RunStatus.SUCCEEDED, ["a noted", "a noted"])
    assert (asks.called, free.called) == (["a", "a"], ["before", "after"])
    assert ended.steps["a"].attempts == 1


async def test_code_may_catch_a_no(engine: Engine) -> None:
    flow = python("""
try:
    tools.asks(name="a")
except Exception as problem:
    return [getattr(problem, "code", None), str(problem)]
""")
    report = await engine.run(flow)
    assert report.run.status is RunStatus.WAITING
    await decide(engine, "rejected")
    ended = await resume(engine, report, flow)
    code, message = ended.run.output
    assert code == "approval_rejected"
    assert "ann said no" in message
    assert asks.called == []


async def test_calls_at_once_end_before_the_attempt_does_and_ask_together(engine: Engine) -> None:
    flow = python("""
from concurrent.futures import ThreadPoolExecutor
def call(number):
    return tools.free(name=number, slow=True) if number % 2 else tools.asks(name=number)
with ThreadPoolExecutor(4) as pool:
    return list(pool.map(call, range(4)))
""")
    report = await engine.run(flow)
    assert report.run.status is RunStatus.WAITING
    assert sorted(free.called) == [1, 3]
    assert await undecided(engine) == [0, 2]
    await decide(engine)
    ended = await resume(engine, report, flow)
    assert ended.run.output == [f"{number} noted" for number in range(4)]
    assert (sorted(free.called), sorted(asks.called)) == ([1, 3], [0, 2])


async def test_a_call_that_failed_is_made_again_by_the_same_yes(engine: Engine) -> None:
    asks.fails.append("a")
    flow = BY_STEP.replace("with: {name: a}", "with: {name: a}, retry: {attempts: 2, delay: 0}").split("  - {id: two")[
        0
    ]
    report = await engine.run(flow)
    await decide(engine)
    ended = await resume(engine, report, flow)
    assert (ended.run.status, asks.called) == (RunStatus.SUCCEEDED, ["a", "a"])
    assert len(await engine.store.approvals.list()) == 1

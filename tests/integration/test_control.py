"""Control flow with real sandboxes: cancelled while one starts or works, timeouts side by side, limits of concurrency."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.progress import AttemptStarted, LineLogged, Progress
from engine.report import RunReport, report
from flows.values import RunStatus, StepStatus
from steps.code import JavaScriptStep, PythonStep, ShellStep
from steps.sandbox import interpreter
from steps.sandbox.executor import CodeExecutor
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes
from tests.unit.engine.conftest import Engine, Recorder, RunEngine, open_engine

AT_ONCE = 3


@dataclass
class Coded:
    """Engines that execute code, and the runner whose sandboxes they use."""

    make: RunEngine
    runner: NsjailRunner

    async def gone(self) -> None:
        """Wait until no sandbox works any more, though the pool stays open."""
        async with asyncio.timeout(30):
            while any(not box.alive for box in self.runner.sandboxes):  # noqa: ASYNC110 - the kernel sends no event
                await asyncio.sleep(0.01)


@pytest.fixture(scope="module", autouse=True)
def step_interpreter() -> None:
    """The environment of Python steps, which a fresh checkout doesn't have yet."""
    asyncio.run(interpreter.ensure())


@pytest.fixture
async def coded(tmp_path: Path) -> AsyncIterator[Coded]:
    runner = NsjailRunner()
    sandboxes = Sandboxes(runner, concurrency=AT_ONCE)
    code = CodeExecutor(sandboxes)
    async with open_engine(tmp_path, dict.fromkeys((PythonStep, JavaScriptStep, ShellStep), code)) as make:
        yield Coded(make, runner)
    await sandboxes.close()
    assert runner.sandboxes == ()


def statuses(outcome: RunReport) -> dict[str, str]:
    return {step_id: step.final.status.value for step_id, step in outcome.steps.items()}


def error_code(outcome: RunReport, step: str) -> str | None:
    error = outcome.steps[step].final.error
    return None if error is None else error.code


async def lines(engine: Engine, outcome: RunReport) -> list[str]:
    return [line.line for line in (await engine.store.logs.list(outcome.run.id)).items]


class Canceller(Recorder):
    """Cancels a run at the first notice of a kind."""

    def __init__(self, kind: type[Progress]) -> None:
        super().__init__()
        self.kind = kind
        self.task: asyncio.Task[RunReport] | None = None

    def notice(self, progress: Progress) -> None:
        super().notice(progress)
        if isinstance(progress, self.kind) and self.task is not None:
            asyncio.get_running_loop().call_soon(self.task.cancel)
            self.task = None


@pytest.mark.parametrize("kind", [AttemptStarted, LineLogged], ids=["starts", "works"])
@pytest.mark.parametrize("language", ["python", "javascript", "shell"])
async def test_cancelled_while_a_sandbox(coded: Coded, kind: type[Progress], language: str) -> None:
    code = {
        "python": "print('begun', end='', flush=True); print(); print('half', end='', flush=True); import time; time.sleep(60)",
        "javascript": "console.log('begun'); for (;;);",
        "shell": "echo begun; printf half; sleep 60",
    }
    probed = coded.make()
    probed.observer = canceller = Canceller(kind)
    flow = f"""
flow: cut
steps: [{{id: a, {language}: "{code[language]}"}}, {{id: b, shell: "true"}}]
finally: [{{id: z, shell: echo tidy}}]
"""
    task = canceller.task = asyncio.create_task(probed.run(flow))
    async with asyncio.timeout(60):
        await asyncio.wait({task})
    assert task.cancelled()
    await coded.gone()
    run = (await probed.store.runs.list()).items[0]
    outcome = report(await probed.store.runs.get(run.id), await probed.store.steps.summaries(run.id))
    assert outcome.run.status is RunStatus.CANCELLED
    assert statuses(outcome) == {"a": "cancelled", "b": "skipped", "z": "succeeded"}
    a = outcome.steps["a"].final
    assert (a.isolation, a.attempt, outcome.steps["a"].attempts) == ("jail", 1, 1)
    printed = await lines(probed, outcome)
    assert printed[-1] == "tidy"
    if kind is LineLogged:
        assert printed[0] == "begun"
        assert 0 < a.duration < 60


TIMEOUTS = """
flow: times
timeout: {flow}
steps:
  - {{id: a, shell: "echo begun; printf half; sleep 60", timeout: {step}, limits: {{timeout: {code}}}, on_error: continue}}
finally: [{{id: z, shell: echo tidy}}]
"""


@pytest.mark.parametrize(
    ("times", "status", "code"),
    [
        ({"flow": "40s", "step": "30s", "code": "500ms"}, "timed_out", "timed_out"),
        ({"flow": "40s", "step": "1s", "code": "30s"}, "timed_out", "step_timed_out"),
        ({"flow": "2s", "step": "30s", "code": "40s"}, "cancelled", "cancelled"),
    ],
    ids=["limits.timeout", "timeout", "the flow's timeout"],
)
async def test_the_shortest_timeout_ends_the_code(coded: Coded, times: dict[str, str], status: str, code: str) -> None:
    probed = coded.make()
    outcome = await probed.run(TIMEOUTS.format(**times))
    assert statuses(outcome) == {"a": status, "z": "succeeded"}
    assert error_code(outcome, "a") == code
    assert outcome.steps["a"].final.isolation == "jail"
    assert outcome.run.status is (RunStatus.FAILED if times["flow"] == "2s" else RunStatus.SUCCEEDED)
    assert await lines(probed, outcome) == ["begun", "half", "tidy"]
    await coded.gone()


async def test_no_more_code_runs_at_once_than_the_installation_allows(coded: Coded) -> None:
    probed = coded.make()
    outcome = await probed.run("""
flow: crowd
steps:
  - id: each
    python: |
      import time
      began = time.time()
      time.sleep(0.15)
      return [began, time.time()]
    for_each: {in: [0, 1, 2, 3, 4, 5, 6, 7, 8], concurrency: 9}
output: ${{ steps.each.result }}
""")
    moments = sorted([(began, 1) for began, _ in outcome.run.output] + [(ended, -1) for _, ended in outcome.run.output])
    now = most = 0
    for _moment, change in moments:
        now += change
        most = max(most, now)
    assert most == AT_ONCE
    assert len(outcome.run.output) == 9


async def test_a_result_of_exactly_a_megabyte_goes_through_every_language(coded: Coded) -> None:
    probed = coded.make()
    outcome = await probed.run("""
flow: megabyte
steps:
  - {id: py, python: "return 'é' * 499_999"}
  - {id: js, javascript: "return inputs.text", with: {text: "${{ steps.py.result }}"}}
  - {id: sh, shell: "jq .text < $INPUTS > $RESULT", with: {text: "${{ steps.js.result }}"}}
  - {id: doc, tool: workspace.create_doc, with: {docId: big, content: "${{ steps.sh.result }}"}}
  - id: each
    python: return len(inputs["text"])
    for_each: {in: ["${{ steps.sh.result }}", "${{ steps.js.result }}"], concurrency: 2}
    with: {text: "${{ item }}"}
output:
  same: ${{ steps.sh.result == steps.py.result }}
  size: ${{ size(steps.sh.result) }}
  each: ${{ steps.each.result }}
""")
    assert outcome.run.error is None
    assert outcome.run.output == {"same": True, "size": 999_998, "each": [499_999, 499_999]}
    assert {step.final.status for step in outcome.steps.values()} == {StepStatus.SUCCEEDED}

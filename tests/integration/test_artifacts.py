"""Artifacts through whole runs, with real sandboxes: from step to step, over attempts, items, the cache and failures."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.report import RunReport
from engine.store import contents
from flows.values import RunStatus, StepStatus
from steps.code import JavaScriptStep, PythonStep, ShellStep
from steps.sandbox import interpreter
from steps.sandbox.executor import CodeExecutor
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes
from tests.unit.engine.conftest import Engine, RunEngine, open_engine

MAKE = """
  - id: make
    shell: |
      mkdir -p $ARTIFACTS/deep
      echo '<p>report</p>' > $ARTIFACTS/report.html
      printf 'a,b\\n1,2\\n' > $ARTIFACTS/deep/table.csv
"""


@pytest.fixture(scope="module", autouse=True)
def step_interpreter() -> None:
    """The environment of Python steps, which a fresh checkout doesn't have yet."""
    asyncio.run(interpreter.ensure())


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[RunEngine]:
    sandboxes = Sandboxes(NsjailRunner())
    code = CodeExecutor(sandboxes)
    async with open_engine(tmp_path, dict.fromkeys((PythonStep, JavaScriptStep, ShellStep), code)) as made:
        yield made
    await sandboxes.close()
    assert not list((tmp_path / "artifacts").glob(".spool/*"))


def error(outcome: RunReport, step: str) -> tuple[StepStatus, str | None]:
    final = outcome.steps[step].final
    return final.status, None if final.error is None else final.error.code


async def test_artifacts_go_from_step_to_step_and_into_expressions(make: RunEngine) -> None:
    flow = f"""
flow: f
steps:{MAKE}
  - id: take
    python: |
      import os
      found = sorted(os.path.join(folder, name) for folder, _, names in os.walk("make") for name in names)
      open("artifacts/out.txt", "w").write(open("make/deep/table.csv").read().upper())
      return [found, inputs["first"]]
    with: {{first: "${{{{ steps.make.artifacts[0].path }}}}"}}
    files: [make/*]
  - {{id: last, shell: cat take/out.txt, files: [take/out.txt]}}
output:
  names: ${{{{ steps.make.artifacts.map(a, a.path) }}}}
  all: ${{{{ steps.make.artifacts }}}}
  text: ${{{{ steps.last.result }}}}
"""
    outcome = await make().run(flow)
    assert outcome.run.error is None
    assert outcome.steps["take"].final.result == [["make/deep/table.csv", "make/report.html"], "deep/table.csv"]
    assert outcome.run.output["names"] == ["deep/table.csv", "report.html"]
    assert outcome.run.output["text"] == "A,B\n1,2"
    first, second = outcome.run.output["all"]
    assert (first["media_type"], first["size"], second["media_type"]) == ("text/csv", 8, "text/html")
    document = outcome.document()
    assert document["steps"]["make"]["artifacts"] == outcome.run.output["all"]
    assert document["steps"]["last"]["artifacts"] == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ("make/missing.csv", "step 'make' left no artifact 'missing.csv': it left deep/table.csv, report.html"),
        ("none/x", "step 'none' left no artifact 'x': it left none"),
        ("skipped/x", "step 'skipped' left no artifact 'x': it left none"),
    ],
)
async def test_an_artifact_that_is_not_there_fails_the_step(make: RunEngine, files: str, message: str) -> None:
    flow = f"""
flow: f
steps:{MAKE}
  - {{id: none, python: return 1}}
  - {{id: skipped, if: "false", shell: echo x > artifacts/x}}
  - {{id: take, shell: ls, files: [{files}]}}
"""
    outcome = await make().run(flow)
    assert error(outcome, "take") == (StepStatus.FAILED, "artifact_missing")
    final = outcome.steps["take"].final
    assert final.error is not None
    assert final.error.message == message


async def test_all_artifacts_of_a_step_without_any_are_none(make: RunEngine) -> None:
    flow = "flow: f\nsteps:\n  - {id: none, python: return 1}\n  - {id: take, shell: ls, files: [none/*]}\n"
    assert (await make().run(flow)).steps["take"].final.result == "artifacts"


async def test_artifacts_of_a_failed_step_are_there_for_who_cleans_up(make: RunEngine) -> None:
    flow = """
flow: f
steps:
  - {id: try, shell: "echo why > artifacts/log.txt; exit 3"}
on_failure:
  - {id: look, shell: cat try/log.txt, files: [try/log.txt]}
"""
    outcome = await make().run(flow)
    assert (outcome.run.status, outcome.steps["look"].final.result) == (RunStatus.FAILED, "why")


async def test_the_last_attempt_is_the_one_that_counts(make: RunEngine) -> None:
    flow = """
flow: f
steps:
  - id: try
    python: |
      import uuid
      open(f"artifacts/{uuid.uuid4()}.txt", "w").write("x")
      raise ValueError("again")
    retry: {attempts: 3, delay: 0s}
    on_error: continue
  - {id: take, shell: ls try, files: [try/*]}
"""
    engine = make()
    outcome = await engine.run(flow)
    left = sorted(await engine.store.artifacts.list(outcome.run.id), key=lambda one: one.attempt)
    assert [(one.attempt, one.superseded) for one in left] == [(1, True), (2, True), (3, False)]
    assert len({one.path for one in left}) == 3
    assert (outcome.run.error, outcome.steps["take"].final.result) == (None, left[-1].path)
    assert [one.path for one in outcome.steps["try"].artifacts] == [left[-1].path]


async def test_items_have_artifacts_of_their_own(make: RunEngine) -> None:
    flow = """
flow: f
steps:
  - id: each
    for_each: {in: [5, 6, 7], concurrency: 3, on_item_error: continue}
    shell: |
      echo $INPUT_N > artifacts/n.txt
      if [ $INPUT_N = 6 ]; then exit 1; fi
    with: {n: "${{ item }}"}
  - {id: one, shell: cat each/2/n.txt, files: [each/2/n.txt]}
  - {id: all, shell: "cat each/0/n.txt each/1/n.txt each/2/n.txt", files: [each/*]}
output: ${{ steps.each.artifacts.map(a, a.path) }}
"""
    engine = make()
    outcome = await engine.run(flow)
    assert (outcome.steps["one"].final.result, outcome.steps["all"].final.result) == ("7", "5\n6\n7")
    assert outcome.run.output == ["0/n.txt", "1/n.txt", "2/n.txt"]
    listed = [(one.name, one.item) for one in await engine.store.artifacts.list(outcome.run.id)]
    assert listed == [("each/0/n.txt", 0), ("each/1/n.txt", 1), ("each/2/n.txt", 2)]


async def test_a_cached_step_has_its_artifacts_again_and_other_files_are_another_key(make: RunEngine) -> None:
    flow = """
flow: f
inputs: {n: {type: integer}}
steps:
  - {id: make, shell: echo $INPUT_N > artifacts/n.txt, with: {n: "${{ inputs.n }}"}, cache: {ttl: 1h}}
  - {id: take, shell: "cat make/n.txt | tee artifacts/again.txt", files: [make/n.txt], cache: {ttl: 1h}}
  - {id: last, shell: cat take/again.txt, files: [take/again.txt]}
"""
    engine = make()
    seen = []
    for n in (1, 1, 2):
        outcome = await engine.run(flow, n=n)
        assert outcome.run.error is None
        attempts = [outcome.steps[step].attempts for step in ("make", "take")]
        seen.append((attempts, outcome.steps["take"].final.result, outcome.steps["last"].final.result))
    assert seen == [([1, 1], "1", "1"), ([0, 0], "1", "1"), ([1, 1], "2", "2")]


async def test_files_that_do_not_fit_are_a_limit_of_their_own(make: RunEngine) -> None:
    flow = """
flow: f
steps:
  - {id: make, shell: "head -c 3000000 /dev/zero > artifacts/zeros"}
  - {id: small, shell: ls, files: [make/zeros], limits: {disk: 2MB}}
"""
    outcome = await make().run(flow)
    assert error(outcome, "small") == (StepStatus.LIMIT_EXCEEDED, "files_too_large")
    final = outcome.steps["small"].final
    assert final.error is not None
    assert final.error.message == "the files of the step are 3.002368 MB, and its disk has 2 MB"


async def test_a_place_that_takes_nothing_fails_the_step_and_keeps_the_error_of_the_code(
    make: RunEngine, tmp_path: Path
) -> None:
    (tmp_path / "artifacts").mkdir()
    for digest in range(256):
        (tmp_path / "artifacts" / f"{digest:02x}").write_text("in the way")
    engine = make()
    outcome = await engine.run("flow: f\nsteps:\n  - {id: a, shell: echo x > artifacts/x}\n")
    assert error(outcome, "a") == (StepStatus.FAILED, "artifacts_unavailable")
    outcome = await engine.run('flow: f\nsteps:\n  - {id: a, shell: "echo x > artifacts/x; exit 3"}\n')
    assert error(outcome, "a") == (StepStatus.FAILED, "exit_status")
    lines = [line.line for line in (await engine.store.logs.list(outcome.run.id)).items]
    assert lines[-1].startswith("no artifacts are kept: the place of artifacts does not take the artifacts:")
    assert outcome.steps["a"].artifacts == ()


async def test_a_slow_place_holds_no_sandbox(make: RunEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    working: list[int] = []
    runner = NsjailRunner()
    keep = contents.ArtifactContents.keep

    async def slowly(self: contents.ArtifactContents, files: object) -> object:
        await asyncio.sleep(0.5)
        working.append(len(runner.sandboxes))
        return await keep(self, files)  # type: ignore[arg-type]

    monkeypatch.setattr(contents.ArtifactContents, "keep", slowly)
    flow = """
flow: f
steps:
  - {id: a, needs: [], shell: echo x > artifacts/x}
  - {id: b, needs: [], shell: echo x > artifacts/x}
"""
    engine: Engine = make()
    sandboxes = Sandboxes(runner, concurrency=1)
    engine.runs._executors = {**engine.runs._executors, ShellStep: CodeExecutor(sandboxes)}
    began = asyncio.get_running_loop().time()
    outcome = await engine.run(flow)
    took = asyncio.get_running_loop().time() - began
    await sandboxes.close()
    assert outcome.run.error is None
    # With one slot, the second step's code ran while the first one's file was on its way.
    first, second = (outcome.steps[step].final for step in ("a", "b"))
    assert first.ended_at is not None
    assert second.ended_at is not None
    assert abs((first.ended_at - second.ended_at).total_seconds()) < 0.4
    assert took < 20

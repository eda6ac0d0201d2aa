"""What steps left, as both databases keep it."""

import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from pathlib import Path

import pytest

from engine.records import Run
from engine.store import Store
from engine.store.errors import AlreadyFinishedError
from flows.contracts import Artifact, StepError, StepResult
from flows.values import StepStatus


def artifact(path: str, number: int = 0) -> Artifact:
    return Artifact(
        id=f"{path}-{number}", path=path, size=6_000_000_000 + number, sha256="ab" * 32, media_type="text/csv"
    )


def succeeded(*artifacts: Artifact) -> StepResult:
    return StepResult(status=StepStatus.SUCCEEDED, artifacts=artifacts)


@pytest.fixture
async def run(store: Store) -> Run:
    version = await store.flows.put_version("default", "flow", "text", {}, "digest")
    return await store.runs.create(version, {}, running=True)


async def test_artifacts_are_recorded_with_the_end_of_their_attempt(store: Store, run: Run) -> None:
    step = await store.steps.start(run.id, "make", attempt=2, item=3)
    assert await store.artifacts.list(run.id) == ()
    await store.steps.finish(step.id, succeeded(artifact("b.csv"), artifact("a/ü.csv", 1)))
    first, second = await store.artifacts.list(run.id)
    assert (first.name, second.name) == ("make/3/a/ü.csv", "make/3/b.csv")
    assert (first.path, first.item, first.attempt, first.step_id) == ("a/ü.csv", 3, 2, "make")
    assert (first.size, first.sha256, first.media_type) == (6_000_000_001, "ab" * 32, "text/csv")
    assert (first.superseded, first.created_at.tzinfo is not None) == (False, True)
    (summary,) = await store.steps.summaries(run.id)
    assert [one.path for one in summary.artifacts] == ["3/a/ü.csv", "3/b.csv"]


async def test_what_has_ended_gets_no_artifacts(store: Store, run: Run) -> None:
    step = await store.steps.start(run.id, "make")
    await store.steps.finish(step.id, succeeded(artifact("a")))
    with pytest.raises(AlreadyFinishedError):
        await store.steps.finish(step.id, succeeded(artifact("b")))
    assert [one.path for one in await store.artifacts.list(run.id)] == ["a"]


async def test_a_later_attempt_supersedes_an_earlier_one_also_where_it_left_nothing(store: Store, run: Run) -> None:
    failed = StepResult(
        status=StepStatus.FAILED, error=StepError(code="exception", message="no"), artifacts=(artifact("log"),)
    )
    for step_id, second in (("make", succeeded(artifact("log", 1))), ("again", succeeded())):
        first = await store.steps.start(run.id, step_id, attempt=1)
        await store.steps.finish(first.id, replace_ids(failed, step_id))
        assert [one.superseded for one in await store.artifacts.list(run.id)][-1:] == [False]
        other = await store.steps.start(run.id, step_id, attempt=2)
        # One that goes on supersedes nothing yet.
        assert not any(one.superseded for one in await store.artifacts.list(run.id) if one.step_id == step_id)
        await store.steps.finish(other.id, second)
    listed = [(one.name, one.attempt, one.superseded) for one in await store.artifacts.list(run.id)]
    assert listed == [("again/log", 1, True), ("make/log", 1, True), ("make/log", 2, False)]
    summaries = {
        one.final.step_id: [each.path for each in one.artifacts] for one in await store.steps.summaries(run.id)
    }
    assert summaries == {"make": ["log"], "again": []}


def replace_ids(result: StepResult, prefix: str) -> StepResult:
    made = tuple(
        Artifact(id=f"{prefix}-{one.id}", path=one.path, size=one.size, sha256=one.sha256, media_type=one.media_type)
        for one in result.artifacts
    )
    return StepResult(status=result.status, error=result.error, artifacts=made)


async def test_a_step_from_the_cache_has_its_artifacts(store: Store, run: Run) -> None:
    await store.steps.add(store.steps.over(run.id, "make", succeeded(), attempt=0), (artifact("a"),))
    (summary,) = await store.steps.summaries(run.id)
    assert ([one.path for one in summary.artifacts], summary.attempts) == (["a"], 0)


CRASHES = """
import asyncio, os, sys
from engine.store import Store
from flows.contracts import Artifact, StepResult
from flows.values import StepStatus

async def main():
    store = await Store.open(sys.argv[1], files=sys.argv[2])
    artifacts = tuple(
        Artifact(id=str(n), path=f"{n:03}", size=n, sha256="00" * 32, media_type="text/plain") for n in range(500)
    )
    await store.leases.take_over(sys.argv[3], dead=sys.argv[4])
    step = await store.steps.start(sys.argv[3], "make")
    await store.steps.finish(step.id, StepResult(status=StepStatus.SUCCEEDED, artifacts=artifacts))
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


async def test_artifacts_survive_what_becomes_of_stepbox(
    store: Store, run: Run, database_url: str, files: Path
) -> None:
    process = await create_subprocess_exec(
        *(sys.executable, "-c", CRASHES, database_url, str(files), run.id, store.engine), stdout=PIPE, stderr=PIPE
    )
    assert (await process.communicate(), process.returncode) == ((b"", b""), -9)
    assert [one.size for one in await store.artifacts.list(run.id)] == list(range(500))

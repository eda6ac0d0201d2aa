"""What is old is removed with all that belongs to it; what is not, or is still needed, stays."""

import hashlib
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ulid import ULID

from engine.deliveries import DeliveryStatus, NewEvent, Recipient
from engine.records import FlowVersion, LogLine, Run
from engine.retention import LEAST_AGE, Pruned, count, prune
from engine.settings import KeepSettings
from engine.store import Store
from engine.store.errors import UnknownRecordError
from engine.store.retention import BATCH
from flows.contracts import Artifact, CollectedFile, EgressDecision, Question, StepResult
from flows.values import RunStatus, StepStatus

FOREVER = KeepSettings.model_construct(
    keep_runs=None, keep_runs_per_flow=None, keep_logs=None, keep_artifacts=None, keep_events=None
)
SOON = timedelta(seconds=1)


@pytest.fixture
async def version(store: Store) -> FlowVersion:
    return await store.flows.put_version("default", "f", "flow: f", {}, "digest")


@pytest.fixture
async def artifacts(store: Store) -> list[Artifact]:
    """A file whose content is kept."""
    path = store.artifacts.contents.spool.directory() / "x"
    path.write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    file = CollectedFile(path="x.txt", size=7, sha256=digest, content=path)
    return list(await store.artifacts.contents.keep([file]))


async def full(store: Store, version: FlowVersion, left: list[Artifact], *, parent: Run | None = None) -> Run:
    """A run that has something of everything."""
    run = await store.runs.create(version, {}, running=True, parent_id=None if parent is None else parent.id)
    step = await store.steps.start(run.id, "s")
    await store.logs.append(
        [LogLine(run_id=run.id, step_id="s", attempt=1, stream="stdout", line="x", at=datetime.now(UTC))]
    )
    call = store.calls.new(run.id, "s", "t", {}, attempt=1)
    await store.calls.add(call, result=1)
    await store.egress.record(run.id, "s", EgressDecision(host="example.com", port=443, allowed=True), attempt=1)
    await store.approvals.ask(run.id, "s", Question(message="?"), item=None, subject="a")
    await store.steps.finish(step.id, StepResult(status=StepStatus.SUCCEEDED, artifacts=tuple(left)))
    await store.start_keys.claim("default", run.id, "digest", run.id)
    return run


async def test_a_run_goes_with_all_that_belongs_to_it(store: Store, version: FlowVersion) -> None:
    parent = await full(store, version, [])
    child = await full(store, version, [], parent=parent)
    grandchild = await full(store, version, [], parent=child)
    kept = await full(store, version, [])
    new = NewEvent(workspace="default", kind="event", origin="o", key="k", data={}, occurred_at=datetime.now(UTC))
    recipient = Recipient(flow="f", flow_version_id=version.id, trigger_id="t")
    accepted = await store.events.accept(new, [recipient])
    await store.events.end(accepted.deliveries[0].id, DeliveryStatus.STARTED, run_id=parent.id)
    for run in (grandchild, child, parent, kept):
        await store.runs.finish(run.id, RunStatus.SUCCEEDED)
    before = (await store.runs.get(parent.id)).ended_at
    assert before is not None
    assert await store.retention.remove_runs(before=before) == 0
    assert await store.retention.count_runs(before=before + timedelta(microseconds=1)) == 1
    assert await store.retention.remove_runs(before=before + timedelta(microseconds=1)) == 1
    for gone in (parent, child, grandchild):
        with pytest.raises(UnknownRecordError):
            await store.runs.get(gone.id)
        assert await store.steps.list(gone.id) == ()
    assert len(await store.steps.list(kept.id)) == 1
    (delivery,) = (await store.events.get(accepted.event.id)).deliveries
    assert (delivery.status, delivery.run_id) == (DeliveryStatus.STARTED, None)


@pytest.mark.parametrize("status", ["queued", "running", "waiting"])
async def test_an_unfinished_run_stays_and_so_do_the_parts_of_one(
    store: Store, version: FlowVersion, status: str
) -> None:
    run = await store.runs.create(version, {}, running=status != "queued")
    child = await store.runs.create(version, {}, running=True, parent_id=run.id)
    await store.runs.finish(child.id, RunStatus.SUCCEEDED)
    if status == "waiting":
        await store.runs.park(run.id)
    assert await store.retention.remove_runs(before=datetime.now(UTC) + SOON) == 0
    assert await store.retention.remove_runs(beyond=0) == 0
    assert (await store.runs.get(child.id)).parent_id == run.id


async def test_of_each_flow_the_newest_stay(store: Store, version: FlowVersion) -> None:
    other = await store.flows.put_version("default", "g", "flow: g", {}, "digest")
    runs = [await store.runs.create(each, {}, running=True) for each in (version, version, other, version)]
    for run in runs:
        await store.runs.finish(run.id, RunStatus.FAILED)
    going_on = await store.runs.create(version, {}, running=True)
    assert await store.retention.count_runs(beyond=2) == 1
    assert await store.retention.remove_runs(beyond=2) == 1
    left = {run.id for run in (await store.runs.list()).items}
    assert left == {runs[1].id, runs[2].id, runs[3].id, going_on.id}


async def test_more_than_a_batch_goes_in_several(store: Store, version: FlowVersion) -> None:
    for _ in range(BATCH + 5):
        run = await store.runs.create(version, {}, running=True)
        await store.runs.finish(run.id, RunStatus.SUCCEEDED)
    keep = FOREVER.only_runs(-SOON.total_seconds())
    assert await count(store, keep) == Pruned(runs=BATCH + 5)
    assert await prune(store, keep) == Pruned(runs=BATCH + 5)
    assert await prune(store, keep) == Pruned()


async def test_output_and_artifacts_may_go_earlier(
    store: Store, version: FlowVersion, artifacts: list[Artifact]
) -> None:
    run = await full(store, version, artifacts)
    going_on = await full(store, version, [replace(one, id=str(ULID())) for one in artifacts])
    await store.runs.finish(run.id, RunStatus.SUCCEEDED)
    later = datetime.now(UTC) + SOON
    assert (await store.retention.remove_output(later), await store.retention.remove_artifacts(later)) == (1, 1)
    assert (await store.retention.remove_output(later), await store.retention.remove_artifacts(later)) == (0, 0)
    assert await store.artifacts.list(run.id) == ()
    assert len(await store.artifacts.list(going_on.id)) == 1
    assert len(await store.steps.list(run.id)) == 1


async def test_a_content_goes_once_nothing_names_it_and_it_is_old(
    store: Store, version: FlowVersion, artifacts: list[Artifact], files: Path
) -> None:
    digest = artifacts[0].sha256
    content = files.parent / "artifacts" / digest[:2] / digest
    run = await full(store, version, artifacts)
    await store.runs.finish(run.id, RunStatus.SUCCEEDED)
    now = datetime.now(UTC)
    os.utime(content, (now.timestamp() - LEAST_AGE.total_seconds(),) * 2)
    assert await store.retention.sweep(now) == 0
    await store.retention.remove_runs(before=now + SOON)
    assert await store.retention.sweep(now - 2 * LEAST_AGE) == 0
    assert content.exists()
    assert await store.retention.sweep(now) == 1
    assert not content.exists()


async def test_an_event_stays_while_it_is_to_start_a_run(store: Store, version: FlowVersion) -> None:
    recipient = Recipient(flow="f", flow_version_id=version.id, trigger_id="t")
    accepted = [
        await store.events.accept(
            NewEvent(workspace="default", kind="event", origin="o", key=key, data={}, occurred_at=datetime.now(UTC)),
            [recipient],
        )
        for key in ("ended", "pending")
    ]
    await store.events.end(accepted[0].deliveries[0].id, DeliveryStatus.FILTERED, reason="no")
    later = datetime.now(UTC) + SOON
    assert await store.retention.remove_events(later) == 1
    assert await store.retention.remove_events(later) == 0
    with pytest.raises(UnknownRecordError):
        await store.events.get(accepted[0].event.id)
    await store.events.get(accepted[1].event.id)


def test_settings_say_how_long_and_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPBOX_KEEP_RUNS", "forever")
    monkeypatch.setenv("STEPBOX_KEEP_LOGS", "12h")
    keep = KeepSettings()
    assert (keep.keep_runs, keep.keep_logs, keep.keep_events) == (None, 43200.0, 90 * 86400.0)

"""Runs that wait or are abandoned, continued over the API; and what else commands do on a service elsewhere."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvicorn

from engine import continuation
from engine.bootstrap import language
from engine.progress import LineLogged, NoObserver, RunEnded
from engine.remote.client import Client
from engine.remote.service import RemoteService
from engine.service import FlowText, ImageSnippet, Precondition, Snippet
from flows.errors import StepboxError
from flows.values import Json
from tests.unit.ui.api.conftest import QUICK, SLOW, Api
from tests.unit.ui.api.test_remote import Recorder, remote

ASKS = """\
flow: asks
steps:
  - {id: before, shell: echo before}
  - {id: ask, approval: {message: Go on?}}
  - {id: then, shell: echo after}
"""
TIMED = """\
flow: timed
triggers:
  - {id: nightly, schedule: {cron: "0 2 * * *", timezone: Europe/Berlin}}
steps: [{id: a, shell: echo 1}]
"""


def text(flow: str) -> FlowText:
    return FlowText(text=flow.encode(), path="flow.yaml", directory=None)


async def parked(api: Api) -> str:
    run: str = (await api.call("POST", "/runs", 202, json={"flow": {"text": ASKS}}))["run_id"]
    await api.until(f"/runs/{run}", lambda found: found["status"] == "waiting")
    return run


@asynccontextmanager
async def listening(api: Api) -> AsyncIterator[RemoteService]:
    """Commands on the service over a real connection: in memory, an answer that goes on never arrives."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(api.app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        answering = asyncio.create_task(server.serve(sockets=[listening]))
        token = api.client.headers["Authorization"].removeprefix("Bearer ")
        there = RemoteService(Client(f"http://127.0.0.1:{listening.getsockname()[1]}", token), language())
        try:
            yield there
        finally:
            await there.close()
            server.should_exit = True
            await answering


async def bounded(work: Awaitable[Json]) -> Json:
    async with asyncio.timeout(60):
        return await work


async def test_a_command_ends_where_its_run_waits_as_it_does_here(api: Api) -> None:
    seen = Recorder()
    async with listening(api) as there:
        report = await bounded(there.run(there.load(text(ASKS)), {}, seen, directory=Path()))
    assert report.run.status == "waiting"
    assert isinstance(seen.seen[-1], RunEnded)
    assert [one.line.line for one in seen.seen if isinstance(one, LineLogged)] == ["before"]


async def test_a_run_that_is_continued_too_early_waits_again(api: Api) -> None:
    run = await parked(api)
    resumed = await api.call("POST", f"/runs/{run}/resume", 202)
    assert resumed["run_id"] == run
    async with listening(api) as there:
        report = await bounded(there.resume(run, NoObserver()))
    assert report.run.status == "waiting"


async def test_a_decision_and_what_comes_of_it_are_seen_from_elsewhere(api: Api) -> None:
    run = await parked(api)
    seen = Recorder()
    async with listening(api) as there:
        await there.decide(run, "approved", pairs={}, comment=None)
        report = await bounded(there.resume(run, seen))
        assert (await there.definition_of(run)).text == ASKS
    assert report.run.status == "succeeded"
    assert [one.line.line for one in seen.seen if isinstance(one, LineLogged)][-1:] == ["after"]
    with pytest.raises(StepboxError) as refused:
        await remote(api).resume(run, NoObserver())
    assert (refused.value.code, refused.value.exit_status) == ("not_resumable", 2)
    assert (await api.call("POST", f"/runs/{run}/resume", 409))["code"] == "not_resumable"


async def test_nothing_is_continued_twice_or_out_of_nothing(api: Api) -> None:
    await api.put(SLOW)
    run = (await api.call("POST", "/flows/slow/runs", 202, json={}))["run_id"]
    await api.until(f"/runs/{run}/logs", lambda found: found["items"])
    assert (await api.call("POST", f"/runs/{run}/resume", 409))["code"] == "run_driven"
    await api.call("POST", "/runs/7ZZ/resume", 404)
    assert await api.call("GET", "/abandoned-runs") == {"items": [], "next": None}
    assert await remote(api).abandoned() == []
    await api.call("POST", f"/runs/{run}/cancel", 202)


async def test_a_service_that_drives_as_much_as_it_may_says_so(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await parked(api)
    monkeypatch.setattr(continuation, "BEGUN_WITHIN", 0.2)
    monkeypatch.setattr(api.serving._dispatcher, "_concurrency", 0)
    answer = await api.client.post(f"/api/v1/runs/{run}/resume")
    assert (answer.status_code, answer.json()["code"]) == (503, "all_driven")
    assert answer.headers["retry-after"]
    assert api.serving._dispatcher._wanted == {}
    api.serving._dispatcher.stopping = True
    assert (await api.call("POST", f"/runs/{run}/resume", 503))["code"] == "shutting_down"


async def test_the_next_times_are_those_of_the_service(api: Api) -> None:
    await api.put(TIMED)
    times = (await api.call("GET", "/flows/timed/next?count=3"))["items"]
    assert [(one["trigger"], one["timezone"], one["scheduled_at"][11:19]) for one in times] == [
        ("nightly", "Europe/Berlin", "02:00:00")
    ] * 3
    assert await remote(api).upcoming("timed", count=3) == list(await api.serving.service().upcoming("timed", count=3))
    assert datetime.fromisoformat(times[0]["due_at"]) > datetime.now(UTC)
    await api.call("GET", "/flows/nothing/next", 404)
    await api.call("GET", "/flows/timed/next?count=0", 422)


async def test_what_is_old_is_removed_from_elsewhere(api: Api) -> None:
    await api.call("POST", "/runs?wait=60", json={"flow": {"text": QUICK}})
    counted = await remote(api).prune(older_than=0.0, dry_run=True)
    assert counted.runs == 1
    assert (await api.call("GET", "/runs"))["items"]
    assert (await remote(api).prune(older_than=0.0)).runs == 1
    assert (await api.call("GET", "/runs"))["items"] == []
    assert (await api.call("POST", "/prune", json={"dry_run": True}))["removed"] is False
    await api.call("POST", "/prune", 422, json={"older_than": "soon"})


async def test_files_of_code_come_from_elsewhere_too(api: Api) -> None:
    there = remote(api)
    outcome = await there.execute(Snippet(language="shell", code="echo hello > artifacts/x.txt"), NoObserver())
    assert [one.path for one in outcome.artifacts] == ["x.txt"]
    (file,) = await there.fetch_artifacts(outcome.artifacts)
    assert await asyncio.to_thread(file.read_bytes) == b"hello\n"
    record = await there.artifact(outcome.artifacts[0].id)
    assert (record.sha256, record.path) == (outcome.artifacts[0].sha256, "x.txt")
    await there.close()


async def test_an_image_is_refused_where_the_service_has_no_containers(api: Api) -> None:
    snippet = ImageSnippet(image="alpine:3.22", command=["echo", "hello"], inputs={"who": "world"}, timeout=5)
    with pytest.raises(StepboxError) as there:
        await remote(api).execute(snippet, NoObserver())
    with pytest.raises(StepboxError) as here:
        await api.serving.service().execute(snippet, NoObserver())
    assert (there.value.code, there.value.message, there.value.exit_status) == (
        here.value.code,
        here.value.message,
        here.value.exit_status,
    )
    for wrong in ({"image": ""}, {"image": "a b c"}, {"image": "alpine", "command": [1]}, {"command": "x"}):
        await api.call("POST", "/execute/image", 422, json=wrong)


async def test_a_flow_is_applied_from_elsewhere_under_a_condition(api: Api) -> None:
    there = remote(api)
    (made,) = await there.apply([text(QUICK)], precondition=Precondition(tag=None))
    assert made.change == "created"
    tag = (await there.flow("quick")).tag
    changed = text(QUICK.replace("n is", "n ="))
    with pytest.raises(StepboxError) as refused:
        await there.apply([changed], precondition=Precondition(tag=None))
    assert refused.value.code == "precondition_failed"
    (updated,) = await there.apply([changed], precondition=Precondition(tag=tag))
    assert updated.version == 2
    with pytest.raises(StepboxError, match="not as the request expects"):
        await there.apply([changed], precondition=Precondition(tag=tag))

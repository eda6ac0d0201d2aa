"""Runs that are to be cancelled and that no engine drives: a service brings them to their end."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from engine.store import Store
from engine.store.tables import RunTable
from tests.unit.ui.api.conftest import SLOW, Api
from tests.unit.ui.api.test_waiting import ASKS

SUBFLOW = "flow: outer\nsteps: [{id: sub, flow: slow}]\n"


async def left_behind(api: Api, *, asked: bool) -> str:
    """A run of ``slow`` whose engine gave its last sign of life a while ago."""
    await api.put(SLOW)
    home = api.home
    async with await Store.open(f"sqlite:///{home}/stepbox.db", files=home / "files") as other:
        version = await other.flows.current("slow")
        assert version is not None
        run = await other.runs.create(version, {}, running=True)
        if asked:
            await other.runs.request_cancel(run.id)
        past = (datetime.now(UTC) - timedelta(seconds=1)).replace(tzinfo=None)
        expire = text(f"UPDATE {RunTable.__tablename__} SET lease_until = :past WHERE id = :run")
        await other._database.write(lambda connection: connection.execute(expire, {"past": past, "run": run.id}))
    return run.id


async def test_one_whose_engine_has_ended_is_not_continued_but_ended(api: Api) -> None:
    run = await left_behind(api, asked=True)
    ended = await api.until(f"/runs/{run}", lambda found: found["status"] not in {"running", "queued"})
    assert (ended["status"], ended["error"]["code"]) == ("cancelled", "run_cancelled")
    statuses = {name: step["status"] for name, step in ended["steps"].items()}
    assert statuses == {"nap": "skipped", "after": "skipped", "last": "succeeded"}


async def test_one_that_waits_and_was_only_marked_is_ended(api: Api) -> None:
    """As the policy ``cancel_running`` does."""
    run = (await api.call("POST", "/runs", 202, json={"flow": {"text": ASKS}}))["run_id"]
    await api.until(f"/runs/{run}", lambda found: found["status"] == "waiting")
    await api.serving._store.runs.request_cancel(run)
    ended = await api.until(f"/runs/{run}", lambda found: found["status"] == "cancelled")
    assert ended["steps"]["last"]["status"] == "succeeded"


async def test_one_that_is_queued_and_was_only_marked_never_begins(api: Api) -> None:
    await api.put(SLOW)
    await api.serving._dispatcher._end_loop()
    run = (await api.call("POST", "/flows/slow/runs", 202, json={}))["run_id"]
    await api.serving._store.runs.request_cancel(run)
    api.serving._dispatcher.start()
    ended = await api.until(f"/runs/{run}", lambda found: found["status"] == "cancelled")
    assert (ended["started_at"], ended["steps"]) == (None, {})


async def test_the_run_of_a_subflow_is_cancelled_only_with_the_run_that_it_is_a_part_of(api: Api) -> None:
    await api.put(SLOW)
    await api.put(SUBFLOW)
    run = (await api.call("POST", "/flows/outer/runs", 202, json={}))["run_id"]
    parts = await api.until("/runs?flow=slow", lambda found: bool(found["items"]))
    part = parts["items"][0]["run_id"]
    refused = await api.call("POST", f"/runs/{part}/cancel", 409)
    assert (refused["code"], refused["fix"]) == ("part_of_run", f"stepbox runs cancel {run}")
    await api.call("POST", f"/runs/{run}/cancel", 202)
    for each in (run, part):
        await api.until(f"/runs/{each}", lambda found: found["status"] == "cancelled")


async def test_asked_for_once_more_the_end_is_cut_short(api: Api) -> None:
    await api.put(SLOW.replace("echo cleaned up", "echo cleaning up; sleep 60"))
    run = (await api.call("POST", "/flows/slow/runs", 202, json={}))["run_id"]
    path = f"/runs/{run}"
    await api.until(f"{path}/logs", lambda logs: len(logs["items"]) == 1)
    await api.call("POST", f"{path}/cancel", 202)
    await api.until(f"{path}/logs", lambda logs: len(logs["items"]) == 2)
    await api.call("POST", f"{path}/cancel", 202)
    ended = await api.until(path, lambda found: found["status"] == "cancelled")
    assert ended["steps"]["last"]["status"] == "cancelled"

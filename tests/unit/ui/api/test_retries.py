"""Runs that are made again over the API, and by commands on a service elsewhere."""

import pytest

from flows.errors import StepboxError
from tests.unit.ui.api.conftest import Api
from tests.unit.ui.api.test_remote import Recorder, remote

FLAKY = """\
flow: flaky
steps:
  - id: keep
    shell: |
      mkdir -p artifacts
      echo kept > artifacts/kept.txt
      echo kept
  - id: read
    shell: cat keep/kept.txt && tool files.read '{"path":"there"}'
    files: [keep/kept.txt]
    tools: [files.read]
output: ${{ steps.read.status }}
"""


async def failed(api: Api) -> str:
    await api.put(FLAKY)
    run = await api.call("POST", "/flows/flaky/runs?wait=60", json={})
    assert run["status"] == "failed", run
    shared = api.home / "shared"
    shared.mkdir(exist_ok=True)
    (shared / "there").write_text("now it is")
    return str(run["run_id"])


async def test_one_is_made_again_with_the_artifacts_that_it_had_left(api: Api) -> None:
    run = await failed(api)
    answer = await api.client.post(f"/api/v1/runs/{run}/retry?wait=60", json={})
    again = answer.json()
    assert (answer.status_code, again["status"], again["output"]) == (200, "succeeded", "succeeded"), again
    assert answer.headers["location"] == f"/api/v1/runs/{again['run_id']}"
    assert again["trigger"] == {"kind": "retry", "run": run, "first": "api", "principal": "admin"}
    keep, before = again["steps"]["keep"], (await api.call("GET", f"/runs/{run}"))["steps"]["keep"]
    assert (keep["attempts"], keep["duration_ms"], keep["result"]) == (0, 0, "kept")
    assert [one["sha256"] for one in keep["artifacts"]] == [one["sha256"] for one in before["artifacts"]] != []
    logs = await api.call("GET", f"/runs/{again['run_id']}/logs")
    assert {line["step"] for line in logs["items"]} == {"read"}


async def test_a_key_makes_one_run_however_often_it_is_used(api: Api) -> None:
    run, key = await failed(api), {"Idempotency-Key": "again"}
    first = await api.call("POST", f"/runs/{run}/retry", 202, json={}, headers=key)
    second = await api.client.post(f"/api/v1/runs/{run}/retry?wait=60", json={}, headers=key)
    assert (second.json()["run_id"], second.headers["idempotency-replayed"]) == (first["run_id"], "true")
    other = await api.call("POST", f"/runs/{run}/retry", 422, json={"from": "keep"}, headers=key)
    assert other["code"] == "idempotency_key_reused"
    assert len((await api.call("GET", "/runs"))["items"]) == 2


async def test_what_cannot_be_made_again_is_refused_and_leaves_nothing(api: Api) -> None:
    run = await failed(api)
    assert (await api.call("POST", f"/runs/{run}/retry", 422, json={"from": "kep"}))["fix"] == "did you mean `keep`?"
    assert (await api.call("POST", f"/runs/{run}/retry", 422, json={"step": "keep"}))["code"] == "invalid_request"
    assert (await api.call("POST", "/runs/7ZZ/retry", 404, json={}))["code"] == "unknown_record"
    done = await api.call("POST", f"/runs/{run}/retry?wait=60", json={"from": "keep"})
    assert {name: step["attempts"] for name, step in done["steps"].items()} == {"keep": 1, "read": 1}
    refused = await api.call("POST", f"/runs/{done['run_id']}/retry", 409, json={})
    assert refused["code"] == "not_retryable"
    await api.serving.stop()
    assert (await api.call("POST", f"/runs/{run}/retry", 503, json={}))["code"] == "shutting_down"
    assert len((await api.call("GET", "/runs"))["items"]) == 2


async def test_a_command_makes_one_again_on_a_service_elsewhere(api: Api) -> None:
    run, there = await failed(api), remote(api)
    report = await there.retry(run, step=None, observer=Recorder())
    assert (report.run.status, report.steps["keep"].attempts) == ("succeeded", 0)
    started = await there.start_retry(run, step="keep", key="k")
    assert (await there.wait(started.run.id, 60)).status == "succeeded"
    with pytest.raises(StepboxError, match="no step 'nothing'") as caught:
        await there.retry(run, step="nothing", observer=Recorder())
    assert (caught.value.code, caught.value.exit_status) == ("unknown_step", 2)

"""Workspaces know nothing of each other; one service drives the runs and the triggers of all of them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import pytest

from engine.principal import local_admin
from engine.principals import GrantPatterns
from engine.progress import NoObserver
from engine.service import FlowText, Service
from flows.contracts import Artifact
from flows.errors import StepboxError
from flows.values import Json
from tests.unit.permissions.matrix import USE_CASES
from tests.unit.ui.api.conftest import Api

LEAVES = """\
flow: leaves
triggers: [{id: hook, webhook: {path: leaves, verify: none}}]
steps:
  - id: file
    shell: echo hello > $ARTIFACTS/hello.txt; echo said
  - id: asked
    approval: {message: well?}
"""
ANSWERS = """\
flow: answers
triggers: [{id: hook, webhook: {path: PATH, verify: none, respond: result}}]
steps: [{id: part, flow: part}]
output: ${{ steps.part.result }}
"""
PART = "flow: part\nsteps: [{id: says, shell: echo TEXT}]\noutput: ${{ steps.says.result }}\n"

Call = Callable[[Service, Mapping[str, str]], Awaitable[object]]


def text(flow: str) -> FlowText:
    return FlowText(text=flow.encode(), path="f.yaml", directory=None)


def artifact(ids: Mapping[str, str]) -> Artifact:
    return Artifact(id=ids["artifact"], path="hello.txt", size=6, sha256=ids["sha256"], media_type="text/plain")


async def follow(service: Service, ids: Mapping[str, str]) -> object:
    return [event async for event in await service.follow(ids["run"])]


UNKNOWN: Mapping[str, Call] = {
    "definition": lambda service, _ids: service.definition("leaves"),
    "flow": lambda service, _ids: service.flow("leaves"),
    "flow_versions": lambda service, _ids: service.flow_versions("leaves"),
    "flow_version": lambda service, _ids: service.flow_version("leaves", 1),
    "upcoming": lambda service, _ids: service.upcoming("leaves", count=1),
    "enable_flow": lambda service, _ids: service.enable_flow("leaves", enabled=False),
    "delete_flow": lambda service, _ids: service.delete_flow("leaves"),
    "run_known": lambda service, _ids: service.run_known("leaves", {}, NoObserver()),
    "start": lambda service, _ids: service.start("leaves", {}),
    "retry": lambda service, ids: service.retry(ids["run"], step=None, observer=NoObserver()),
    "start_retry": lambda service, ids: service.start_retry(ids["run"], step=None),
    "wait": lambda service, ids: service.wait(ids["run"], 0),
    "follow": follow,
    "cancel": lambda service, ids: service.cancel(ids["run"]),
    "resume": lambda service, ids: service.resume(ids["run"], NoObserver()),
    "have_resumed": lambda service, ids: service.have_resumed(ids["run"]),
    "definition_of": lambda service, ids: service.definition_of(ids["run"]),
    "run_flow": lambda service, ids: service.run_flow(ids["run"]),
    "run_report": lambda service, ids: service.run_report(ids["run"][:20]),
    "run_attempts": lambda service, ids: service.run_attempts(ids["run"]),
    "run_logs": lambda service, ids: service.run_logs(ids["run"], step=None),
    "run_calls": lambda service, ids: service.run_calls(ids["run"]),
    "run_egress": lambda service, ids: service.run_egress(ids["run"]),
    "run_artifacts": lambda service, ids: service.run_artifacts(ids["run"]),
    "artifact": lambda service, ids: service.artifact(ids["artifact"]),
    "fetch_artifacts": lambda service, ids: service.fetch_artifacts([artifact(ids)]),
    "approval": lambda service, ids: service.approval(ids["approval"]),
    "approval_link": lambda service, ids: service.approval_link(ids["approval"], "ann"),
    "revoke_approval": lambda service, ids: service.revoke_approval(ids["approval"]),
    "decide": lambda service, ids: service.decide(ids["approval"], "approved", pairs={}, comment=None),
    "event": lambda service, ids: service.event(ids["event"]),
    "redrive": lambda service, ids: service.redrive(ids["event"]),
    "policy_version": lambda service, _ids: service.policy_version(1),
    "rotate_secret": lambda service, _ids: service.rotate_secret("key", "another", overlap=60),
    "delete_secret": lambda service, _ids: service.delete_secret("key", old_only=False),
    "create_token": lambda service, _ids: service.create_token("ann"),
    "revoke_token": lambda service, ids: service.revoke_token(ids["token"]),
    "principal": lambda service, _ids: service.principal("ann"),
    "set_role": lambda service, _ids: service.set_role("ann", "admin"),
    "enable_principal": lambda service, _ids: service.enable_principal("ann", enabled=False),
    "delete_principal": lambda service, _ids: service.delete_principal("ann"),
    "grant": lambda service, _ids: service.grant("ann", GrantPatterns(tools=["*"])),
    "ungrant": lambda service, _ids: service.ungrant("ann", GrantPatterns(tools=["*"])),
}
"""What names something: in another workspace, it is unknown."""

EMPTY: Mapping[str, Call] = {
    "audit": lambda service, _ids: service.audit(),
    "flows": lambda service, _ids: service.flows(),
    "abandoned": lambda service, _ids: service.abandoned(),
    "runs": lambda service, _ids: service.runs(flow="leaves", status=None, limit=10),
    "approvals": lambda service, _ids: service.approvals(run=None, undecided=False),
    "events": lambda service, _ids: service.events(flow=None, status=None, limit=10),
    "redrive_flow": lambda service, _ids: service.redrive_flow("leaves"),
    "secrets": lambda service, _ids: service.secrets(),
    "tokens": lambda service, _ids: service.tokens(),
    "policy_versions": lambda service, _ids: service.policy_versions(),
    "principals": lambda service, _ids: service.principals(),
}
"""What lists: in another workspace, there is nothing of it."""

NEITHER = {
    "load": "names nothing",
    "apply": "makes a flow of its own: see the test of two flows of one name",
    "run": "the same",
    "policy": "there is always one, at least the default",
    "set_policy": "the same",
    "execute": "the same",
    "set_secret": "the same",
    "create_principal": "the same",
    "export_audit": "leaves an entry of its own in the chain that it reads",
    "verify_audit": "looks at the chain of its workspace; of all of them in the default one",
    "release_artifacts": "takes files of the caller's",
    "workspaces": "concerns all workspaces: the matrix has who may",
    "create_workspace": "the same",
    "rotate_secret_key": "the same",
    "rekey_audit": "the same",
    "delete_workspace": "the same",
    "prune": "the same",
    "diagnose": "the same",
}


def test_every_use_case_is_looked_at() -> None:
    assert {*UNKNOWN, *EMPTY, *NEITHER} == set(USE_CASES)


async def test_what_is_another_workspaces_is_unknown(api: Api) -> None:
    here = api.serving.service()
    await here.create_workspace("ops")
    ids = await _fill(api, here)
    there = api.serving.service(local_admin("ops"))
    for name, call in UNKNOWN.items():
        with pytest.raises(StepboxError) as refused:
            await call(there, ids)
        assert refused.value.code in {"unknown_record", "unknown_flow", "unknown_secret"}, name
    for name, call in EMPTY.items():
        found: Any = await call(there, ids)
        assert tuple(getattr(found, "items", found)) == (), name
    # Nothing of it has changed.
    assert (await here.flow("leaves")).state == "enabled"
    assert (await here.principal("ann")).role == "editor"
    assert [one.decision for one in (await here.approvals(run=None, undecided=False)).items] == [None]


async def _fill(api: Api, here: Service) -> dict[str, str]:
    """One of each in the default workspace."""
    await here.apply([text(LEAVES)])
    await here.set_secret("key", "value")
    await here.set_policy({"concurrent_code": 9})
    await here.create_principal("ann", role="editor")
    token = (await here.create_token("ann")).record
    answer = await api.client.post("/hooks/leaves", json={})
    assert answer.status_code == 202
    run = await api.until(f"/runs/{answer.json()['run']}", lambda run: run["status"] == "waiting")
    (left,) = await here.run_artifacts(run["run_id"])
    (asked,) = (await here.approvals(run=None, undecided=True)).items
    return {
        "run": run["run_id"],
        "artifact": left.id,
        "sha256": left.sha256,
        "approval": asked.id,
        "event": answer.json()["event"],
        "token": token.id,
    }


async def test_one_service_drives_all_workspaces_and_each_has_its_own_flows_of_a_name(api: Api) -> None:
    await api.serving.service().create_workspace("ops")
    for workspace, said in (("default", "here"), ("ops", "there")):
        service = api.serving.service(local_admin(workspace))
        await service.apply([text(PART.replace("TEXT", said)), text(ANSWERS.replace("PATH", "answers"))])
        started = await service.start("answers", {})
        assert (await service.wait(started.run.id, 60)).output == said
        (run,) = (await service.runs(flow="part", status=None, limit=5)).items
        assert (run.workspace, run.principal) == (workspace, "local")
    for path, said in (("answers", "here"), ("ops/answers", "there"), ("default/answers", "here")):
        assert await _answer(api, path) == (200, said)
    assert (await _answer(api, "dev/answers"))[0] == 404


async def test_nobody_in_the_default_workspace_takes_the_requests_of_another(api: Api) -> None:
    here = api.serving.service()
    await here.apply([text(PART.replace("TEXT", "taken")), text(ANSWERS.replace("PATH", "ops/in"))])
    assert (await _answer(api, "ops/in"))[0] in {200, 202}
    await here.create_workspace("ops")
    assert (await _answer(api, "ops/in"))[0] == 404


async def _answer(api: Api, path: str) -> tuple[int, Json]:
    async with asyncio.timeout(60):
        answer: httpx.Response = await api.client.post(f"/hooks/{path}", json={})
    return answer.status_code, answer.json()


async def test_a_workspaces_first_admin_is_of_that_one_only(api: Api) -> None:
    made = await api.call("POST", "/workspaces", 201, json={"name": "ops", "admin": "ann"})
    headers = {"Authorization": f"Bearer {made['token']['token']}"}
    assert [one["name"] for one in (await api.call("GET", "/principals", headers=headers))["items"]] == ["ann"]
    for method, path in (("GET", "/workspaces"), ("DELETE", "/workspaces/ops"), ("POST", "/prune")):
        refused = await api.call(method, path, 403, headers=headers, **({"json": {}} if method == "POST" else {}))
        assert "concerns all workspaces, and ann is of the workspace ops" in refused["detail"]
    await api.call("PUT", "/flows/part", 201, json={"text": PART}, headers=headers)
    await api.call("GET", "/flows/part", 404)
    await api.call("DELETE", "/workspaces/ops", 409)

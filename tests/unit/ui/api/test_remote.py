"""The commands' service over HTTP gives what the one on the service's own machine gives."""

from pathlib import Path

import httpx
import pytest

from engine.bootstrap import language
from engine.documents import (
    attempt_document,
    detail_document,
    egress_document,
    flow_document,
    line_document,
    report_document,
    run_document,
    snippet_document,
    version_document,
)
from engine.principal_documents import principal_document, token_document, workspace_document
from engine.principals import GrantPatterns, TokenScope
from engine.progress import (
    AttemptEnded,
    AttemptStarted,
    LineLogged,
    NoObserver,
    Progress,
    RunEnded,
    RunStarted,
    StepEnded,
)
from engine.remote.client import Client, ServiceUnreachableError
from engine.remote.service import RemoteService
from engine.service import FlowText, Snippet
from flows.errors import InvalidFlowError, StepboxError
from tests.unit.ui.api.conftest import QUICK, Api

RETRIES = """\
flow: retries
steps:
  - id: one
    shell: echo tried; exit 1
    retry: {attempts: 2, delay: 0s}
    on_error: continue
  - id: many
    shell: echo $INPUT_X
    with: {x: "${{ item }}"}
    for_each: {in: [1, 2]}
output: ${{ steps.many.result }}
"""


class Recorder:
    def __init__(self) -> None:
        self.seen: list[Progress] = []

    def notice(self, progress: Progress) -> None:
        self.seen.append(progress)


def remote(api: Api, token: str | None = None) -> RemoteService:
    given = token or api.client.headers["Authorization"].removeprefix("Bearer ")
    return RemoteService(Client("http://stepbox/", given, transport=httpx.ASGITransport(api.app)), language())


async def test_a_run_is_told_as_it_is_here(api: Api) -> None:
    there, seen = remote(api), Recorder()
    text = FlowText(text=RETRIES.encode(), path="retries.yaml", directory=None)
    report = await there.run(there.load(text), {}, seen, directory=Path())
    assert report.run.output == ["1", "2"]
    here = await api.serving.service().run_report(report.run.id)
    assert report.document() == here.document()
    assert report_document(report) == report_document(here)
    assert isinstance(seen.seen[0], RunStarted)
    assert isinstance(seen.seen[-1], RunEnded)
    assert [one.line.line for one in seen.seen if isinstance(one, LineLogged)] == ["tried", "tried", "1", "2"]
    assert [(one.attempt.step_id, one.attempt.status) for one in seen.seen if isinstance(one, StepEnded)] == [
        ("one", "failed"),
        ("many", "succeeded"),
    ]
    ended = [one for one in seen.seen if isinstance(one, AttemptEnded)]
    assert [one.attempt.label for one in ended if one.retrying] == ["one"]
    assert sorted(one.attempt.label for one in ended if not one.retrying) == ["many[0]", "many[1]"]
    assert not [one for one in seen.seen if isinstance(one, AttemptStarted) and one.attempt.attempt == 0]


async def test_every_listing_is_what_it_is_here(api: Api) -> None:
    there, here = remote(api), api.serving.service()
    applied = await there.apply([FlowText(text=QUICK.encode(), path="quick.yaml", directory=None)])
    assert [(one.flow, one.change, one.version) for one in applied] == [("quick", "created", 1)]
    assert (await there.definition("quick")).text == QUICK
    run = (await there.run_known("quick", {"n": 3}, NoObserver())).run
    assert list(map(flow_document, (await there.flows()).items)) == list(map(flow_document, (await here.flows()).items))
    assert detail_document(await there.flow("quick")) == detail_document(await here.flow("quick"))
    assert version_document(await there.flow_version("quick", 1)) == version_document(
        await here.flow_version("quick", 1)
    )
    asked = {"flow": "quick", "status": None, "limit": 5}
    assert list(map(run_document, (await there.runs(**asked)).items)) == list(  # type: ignore[arg-type]
        map(run_document, (await here.runs(**asked)).items)  # type: ignore[arg-type]
    )
    lines = await there.run_logs(run.id, step="one")
    assert list(map(line_document, lines.items)) == list(
        map(line_document, (await here.run_logs(run.id, step="one")).items)
    )
    assert list(map(egress_document, await there.run_egress(run.id))) == []
    assert await there.run_calls(run.id) == []
    attempts = await there.run_attempts(run.id)
    assert list(map(attempt_document, attempts)) == list(map(attempt_document, await here.run_attempts(run.id)))
    assert (await there.enable_flow("quick", enabled=False)).state == "disabled"
    await there.delete_flow("quick")
    assert (await there.flows()).items == ()


async def test_who_may_act_is_told_and_changed_as_it_is_here(api: Api) -> None:
    there, here = remote(api), api.serving.service()
    grants = GrantPatterns(tools=["workspace.*"])
    made = await there.create_principal("ci", role="editor", kind="service", grants=grants)
    assert (made.patterns("tool"), made.patterns("flow")) == (("workspace.*",), ("*",))
    assert principal_document(await there.principal("ci")) == principal_document(await here.principal("ci"))
    await there.grant("ci", GrantPatterns(tools=["http.request"], flows=["reports_*"]))
    await there.ungrant("ci", GrantPatterns(flows=["*"]))
    await there.set_role("ci", "approver")
    await there.enable_principal("ci", enabled=False)
    changed = await here.principal("ci")
    assert (changed.patterns("tool"), changed.patterns("flow")) == (("http.request", "workspace.*"), ("reports_*",))
    assert (changed.role, changed.is_enabled) == ("approver", False)
    for limit in (None, 1):
        listed = [await one.principals(limit=limit) for one in (there, here)]
        assert [principal_document(one) for one in listed[0].items] == [
            principal_document(one) for one in listed[1].items
        ]
        assert listed[0].next == listed[1].next == (None if limit is None else "admin")
    scope = TokenScope(actions=["runs.*"], only_flows=["reports_*"])
    issued = await there.create_token("ci", scope)
    assert token_document(issued.record) == token_document((await here.tokens())[1])
    assert list(map(token_document, await there.tokens()))[1] == token_document(issued.record)
    assert (await there.revoke_token(issued.record.id)).revoked_at is not None
    await there.delete_principal("ci")
    for service in (there, here):
        with pytest.raises(StepboxError, match="there is no principal 'ci'") as refused:
            await service.principal("ci")
        assert refused.value.code == "unknown_record"
        with pytest.raises(StepboxError, match="there was a principal 'ci'") as refused:
            await service.create_principal("ci", role="viewer")
        assert refused.value.code == "name_taken"
        with pytest.raises(StepboxError, match="the last admin") as refused:
            await service.enable_principal("admin", enabled=False)
        assert refused.value.code == "last_admin"


async def test_workspaces_are_told_and_changed_as_they_are_here(api: Api) -> None:
    there, here = remote(api), api.serving.service()
    made, issued = await there.create_workspace("ops", admin="ann")
    assert issued is not None
    assert list(map(workspace_document, await there.workspaces())) == list(
        map(workspace_document, await here.workspaces())
    )
    ops = remote(api, issued.text)
    assert [one.name for one in (await ops.principals()).items] == ["ann"]
    dev, no_token = await there.create_workspace("dev")
    assert (dev.name, no_token) == ("dev", None)
    for service in (there, here):
        with pytest.raises(StepboxError) as refused:
            await service.create_workspace("ops")
        assert refused.value.code == "name_taken"
        with pytest.raises(StepboxError) as refused:
            await service.delete_workspace("default")
        assert refused.value.code == "workspace_in_use"
    await ops.set_secret("key", "value")
    with pytest.raises(StepboxError, match="it has 1 secret") as refused:
        await there.delete_workspace("ops")
    await ops.delete_secret("key", old_only=False)
    await there.delete_workspace("ops")
    assert [one.name for one in await here.workspaces()] == ["default", "dev"]
    with pytest.raises(StepboxError, match="not valid"):
        await ops.principals()
    assert made.name == "ops"


async def test_code_is_executed_there(api: Api) -> None:
    snippet = Snippet(language="shell", code="echo out; echo err >&2; exit 2")
    outcome = await remote(api).execute(snippet, NoObserver())
    assert (outcome.status, outcome.stdout, outcome.stderr, outcome.isolation) == ("failed", "out\n", "err\n", "jail")
    assert snippet_document(outcome)["error"]


async def test_a_run_is_started_once_and_waited_for(api: Api) -> None:
    there = remote(api)
    target = FlowText(text=QUICK.encode(), path="quick.yaml", directory=None)
    first = await there.start(target, {"n": 2}, key="k")
    second = await there.start(target, {"n": 2}, key="k")
    assert (first.repeated, second.repeated, first.run.id) == (False, True, second.run.id)
    assert (await there.wait(first.run.id, 60)).output == "n is 2"
    events = [event async for event in await there.follow(first.run.id)]
    assert events[-1].position.endswith("-end")


async def test_errors_there_are_errors_here(api: Api) -> None:
    there = remote(api)
    with pytest.raises(StepboxError, match="no flow 'nothing'") as caught:
        await there.flow("nothing")
    assert (caught.value.code, caught.value.exit_status) == ("unknown_flow", 2)
    assert caught.value.fix
    parked = FlowText(text=b"flow: p\nsteps: [{id: w, shell: ls, secrets: [key]}]\n", path="p.yaml", directory=None)
    with pytest.raises(StepboxError) as caught:
        await there.start(parked, {})
    assert (caught.value.code, caught.value.exit_status) == ("unknown_secret", 2)
    with pytest.raises(InvalidFlowError):
        await there.apply([FlowText(text=b"flow: x\n", path="x.yaml", directory=None)])
    with pytest.raises(StepboxError, match="token") as caught:
        await remote(api, "nothing").flows()
    assert caught.value.fix is not None
    assert "STEPBOX_TOKEN" in caught.value.fix
    gone = RemoteService(Client("http://127.0.0.1:9", "t"), language())
    with pytest.raises(ServiceUnreachableError, match=r"127\.0\.0\.1:9") as unreachable:
        await gone.flows()
    assert "STEPBOX_URL" in str(unreachable.value.fix)
    await gone._client.close()

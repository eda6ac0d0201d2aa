"""The audit through the API and the client: listed, exported, verified; and every use case that changes something in it."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import rfc8785

from engine.audit_format import canonical
from engine.bootstrap import language
from engine.principals import GrantPatterns
from engine.progress import NoObserver
from engine.remote.client import Client
from engine.remote.service import RemoteService
from engine.service import FlowText, Snippet
from engine.tokens import issue
from engine.use_cases.recorded import ACTIONS
from flows.errors import StepboxError
from flows.values import Json
from tests.unit.ui.api.conftest import QUICK, SLOW, Api

DOCS = Path(__file__).parents[4] / "docs" / "audit.md"


def checker() -> str:
    """The program of the documentation that checks an export."""
    return DOCS.read_text().split("```python\n", 1)[1].split("```", 1)[0]


def check(lines: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", checker()], input=lines, capture_output=True, text=True, check=False)


async def test_what_is_done_is_listed_exported_and_verified(api: Api) -> None:
    await api.put(QUICK)
    run = await api.call("POST", "/flows/quick/runs?wait=60", json={"inputs": {"n": 3}})
    await api.call("PUT", "/secrets/hook_key", json={"value": "hunter2-hunter2"})
    wrong = await api.client.get("/api/v1/runs", headers={"Authorization": "Bearer stp_aaaaaaaaaaaa_wrong"})
    assert wrong.status_code == 401

    page = await api.call("GET", "/audit?limit=1000")
    told = [(one["action"], one["outcome"], one["actor"]["name"]) for one in reversed(page["items"])]
    assert told == [
        ("token.create", "succeeded", "stepbox"),
        ("sign_in", "succeeded", "admin"),
        ("flow.apply", "succeeded", "admin"),
        ("run.start", "succeeded", "admin"),
        ("run.end", "succeeded", "admin"),
        ("secret.set", "succeeded", "admin"),
        ("sign_in", "refused", "stranger"),
    ]
    (end, start) = (await api.call("GET", f"/audit?run={run['run_id'][:20]}"))["items"]
    assert (start["actor"]["door"], start["details"]["version"]) == ("api", 1)
    (step,) = end["details"]["steps"]
    assert step["kind"] == "shell"
    assert len(step["code"]) == 64
    assert [(one["status"], one["times"], one["isolation"]) for one in step["attempts"]] == [("succeeded", 1, "jail")]
    assert "hunter2" not in json.dumps(page)

    export = (await api.client.get("/api/v1/audit/export")).text
    assert len(export.splitlines()) == len(page["items"]) + 1
    checked = check(export)
    assert (checked.returncode, checked.stderr) == (0, "")
    (verdict,) = (await api.call("POST", "/audit/verify", json={}))["items"]
    assert verdict["problem"] is None
    assert checked.stdout.split()[-1] == verdict["checkpoint"].split(":")[2]
    again = await api.call("POST", "/audit/verify", json={"since": [verdict["checkpoint"]]})
    assert again["items"][0]["entries"] == 1
    await api.call("POST", "/audit/verify", 422, json={"since": ["nonsense"]})


async def test_the_program_of_the_documentation_finds_what_was_changed(api: Api) -> None:
    await api.put(QUICK)
    lines = (await api.client.get("/api/v1/audit/export")).text.splitlines()
    assert len(lines) == 4
    changed = lines[1].replace('"admin"', '"nobody"')
    assert check("\n".join([lines[0], changed])).stderr.strip() == "entry 2 was changed"
    assert check("\n".join([lines[0], lines[2]])).stderr.strip() == "after entry 1 comes entry 3"
    other = json.loads(lines[1])
    other["previous"] = "0" * 64
    assert "was changed" in check("\n".join([lines[0], json.dumps(other)])).stderr


async def test_entries_are_canonical_by_the_rfc(api: Api) -> None:
    await api.put(QUICK.replace("n is", "é ✓ \U0001f600 is"))
    await api.call("POST", "/flows/quick/runs?wait=60", json={})
    for entry in await api.serving._store.audit.after(0, workspace="default"):
        assert rfc8785.dumps(json.loads(entry.text)) == entry.text.encode()
    strange: Json = {"b": ['\x00\x1f\x7f\u2028"\\/', None, True, -(2**53) + 1], "a": {"é": "\U0001f600"}}
    assert canonical(strange) == rfc8785.dumps(strange)


async def test_a_viewer_may_not_read_it_and_that_is_told(api: Api) -> None:
    store = api.serving._store
    grants = GrantPatterns(tools=("*",), flows=("*",))
    eve = await store.principals.create("eve", kind="person", role="viewer", grants=grants, by="admin")
    issued = await issue(store, eve)
    headers = {"Authorization": f"Bearer {issued.text}"}
    for _each in range(25):
        answer = await api.client.get("/api/v1/audit", headers=headers)
        assert answer.status_code == 403
    page = await api.call("GET", "/audit?actor=eve&limit=100")
    refused = [one for one in page["items"] if one["outcome"] == "refused"]
    assert len(refused) == 20
    assert refused[0]["details"]["code"] == "forbidden"
    await api.serving._refusals.flush(all_of_them=True)
    newest = (await api.call("GET", "/audit?actor=eve&limit=1"))["items"][0]
    assert newest["details"] == {"more": 5, "addresses": ["127.0.0.1"]}


async def test_commands_read_the_audit_of_a_service_elsewhere(api: Api) -> None:
    await api.put(QUICK)
    token = api.client.headers["Authorization"].split()[1]
    remote = RemoteService(Client("http://stepbox", token, transport=httpx.ASGITransport(api.app)), language())
    page = await remote.audit(action="flow.")
    assert [entry.act.action for entry in page.items] == ["flow.apply"]
    own = await api.serving._store.audit.list(workspace="default", action="flow.")
    assert (page.items[0].text, page.items[0].hash) == (own.items[0].text, own.items[0].hash)
    exported = [entry async for entry in await remote.export_audit()]
    (verdict,) = await remote.verify_audit()
    assert (verdict.problem, verdict.last) == (None, exported[-1].number)
    with pytest.raises(StepboxError, match="machine of the service"):
        await remote.rekey_audit()
    await remote.close()


async def test_every_use_case_that_changes_something_leaves_an_entry(api: Api, tmp_path: Path) -> None:
    service, store = api.serving.service(), api.serving._store
    flow = FlowText(text=QUICK.encode(), path="quick.yaml", directory=None)
    slow = FlowText(text=SLOW.encode(), path="slow.yaml", directory=None)
    asks = FlowText(text=ASKS.encode(), path="asks.yaml", directory=None)
    left: set[str] = set()

    async def leaves(name: str, *given: object, **options: object) -> object:
        before = max(
            [entry.number for entry in (await store.audit.list(workspace="default", limit=1)).items], default=0
        )
        result = await getattr(service, name)(*given, **options)
        actions = [entry.act.action for entry in await store.audit.after(before, workspace="default")]
        assert ACTIONS[name] in actions, (name, actions)
        left.add(name)
        return result

    await leaves("apply", [flow, slow, asks])
    await leaves("enable_flow", "quick", enabled=True)
    started = await leaves("start", "quick", {})
    ended = await service.wait(started.run.id, 60)  # type: ignore[attr-defined]
    await leaves("run_known", "quick", {}, NoObserver())
    await leaves("run", service.load(flow), {}, NoObserver(), directory=tmp_path)
    await leaves("retry", ended.id, step="one", observer=NoObserver())
    await leaves("start_retry", ended.id, step="one")
    await leaves("execute", Snippet(language="shell", code="echo 1"), NoObserver())
    napping = await service.start("slow", {})
    await leaves("cancel", napping.run.id)
    await leaves("set_secret", "a", "a long enough value")
    await leaves("rotate_secret", "a", "another long value", overlap=60)
    await leaves("rotate_secret_key", prepare=False)
    await leaves("delete_secret", "a", old_only=False)
    await service.create_principal("ci", role="editor", kind="service")
    token = await leaves("create_token", "ci")
    await leaves("revoke_token", token.record.id)  # type: ignore[attr-defined]
    await leaves("create_principal", "ann", role="viewer")
    await leaves("set_role", "ann", "editor")
    await service.enable_principal("ann", enabled=False)
    await leaves("enable_principal", "ann", enabled=True)
    await leaves("grant", "ann", GrantPatterns(tools=("http.*",)))
    await leaves("ungrant", "ann", GrantPatterns(tools=("http.*",)))
    await leaves("set_policy", {"concurrent_code": 5})
    await leaves("create_workspace", "ops")
    await leaves("delete_workspace", "ops")
    await leaves("delete_principal", "ann")
    await leaves("delete_flow", "quick")
    await leaves("export_audit")
    asking = await service.start("asks", {})
    await api.until(f"/runs/{asking.run.id}", lambda run: run["status"] == "waiting")
    await leaves("decide", asking.run.id, "approved", pairs={}, comment=None)
    await leaves("rekey_audit")
    # These need an engine that has ended, a dead delivery, old runs and an examination: they have tests beside theirs.
    elsewhere = {"resume", "have_resumed", "redrive", "redrive_flow", "prune", "diagnose"}
    # These need a decision on a flow version, and an address of the service: `test_deciding.py` has them.
    assert set(ACTIONS) - left == elsewhere | {"approval_link", "revoke_approval"}
    assert (await store.audit.verify("default")).problem is None


ASKS = """\
flow: asks
steps:
  - id: ask
    approval: {message: may I?}
"""

"""The policy at the doors: flows that are applied, and code that is executed, beyond it."""

from pathlib import Path

import pytest

from engine.progress import NoObserver
from engine.service import FlowText, Snippet
from flows.errors import StepboxError
from tests.unit.ui.api.conftest import QUICK, SLOW, Api
from tests.unit.ui.api.test_remote import remote

ABOVE = """\
flow: above
steps:
  - id: one
    shell: echo 1
    limits:
      timeout: 20s
      memory: 1GB
finally:
  - id: last
    shell: echo 2
    network: {allow: [ok.example, bad.example]}
"""


async def test_flow_above_a_ceiling_is_refused_with_its_places_when_it_is_applied(api: Api, tmp_path: Path) -> None:
    await api.call("PUT", "/policy", json={"policy": {"limits": {"timeout": "10s"}, "denied_domains": ["bad.example"]}})
    answer = await api.call("POST", "/flows", 422, json={"flows": [{"text": ABOVE}]})
    assert (answer["code"], answer["exit_status"]) == ("refused_by_policy", 3)
    lines = answer["detail"].splitlines()
    assert [line.split(": ")[0] for line in lines] == ["flows[0]:6:16", "flows[0]:11:35"]
    assert "limits.timeout is 20s, and the policy of the workspace allows 10s at most" in lines[0]
    service = remote(api)
    flow = FlowText(text=ABOVE.encode(), path="my/above.yaml", directory=tmp_path)
    with pytest.raises(StepboxError, match=r"^my/above\.yaml:6:16: ") as caught:
        await service.apply([flow])
    assert caught.value.exit_status == 3
    assert (await api.call("GET", "/flows"))["items"] == []
    await service.close()


async def test_applied_flow_that_is_above_a_later_ceiling_does_not_start(api: Api) -> None:
    await api.put(ABOVE)
    await api.call("PUT", "/policy", json={"policy": {"limits": {"memory": "500MB"}}})
    answer = await api.call("POST", "/flows/above/runs", 422, json={"inputs": {}})
    assert answer["code"] == "refused_by_policy"
    assert "step 'one': limits.memory is 1GB" in answer["detail"]
    assert (await api.call("GET", "/runs"))["items"] == []


async def test_code_by_itself_is_held_to_the_policy(api: Api) -> None:
    await api.call("PUT", "/policy", json={"policy": {"limits": {"timeout": "10s"}, "networks": ["none"]}})
    service = remote(api)
    for snippet in (
        Snippet(language="shell", code="echo 1", timeout=11),
        Snippet(language="shell", code="echo 1", network=("a.example",)),
    ):
        with pytest.raises(StepboxError, match="the policy of the workspace allows") as caught:
            await service.execute(snippet, NoObserver())
        assert (caught.value.code, caught.value.exit_status) == ("refused_by_policy", 3)
    done = await service.execute(Snippet(language="shell", code="echo 1"), NoObserver())
    assert done.status == "succeeded"
    await service.close()


async def test_code_that_queues_is_seen(api: Api) -> None:
    await api.call("PUT", "/policy", json={"policy": {"concurrent_code": 1}})
    for text in (SLOW, QUICK):
        await api.put(text)
    slow = await api.call("POST", "/flows/slow/runs", 202, json={"inputs": {}})
    await api.until(f"/runs/{slow['run_id']}/steps", lambda found: bool(found["items"]))
    quick = await api.call("POST", "/flows/quick/runs", 202, json={"inputs": {}})
    path = f"/runs/{quick['run_id']}"
    (waits,) = (await api.until(f"{path}/steps", lambda found: bool(found["items"])))["items"]
    assert (waits["status"], waits["queued"], waits["policy"]) == ("running", True, 1)
    assert (await api.call("GET", path))["steps"]["one"]["queued"] == 1
    assert "stepbox_code_waiting 1.0" in (await api.client.get("/metrics")).text
    await api.call("POST", f"/runs/{slow['run_id']}/cancel", 202)
    ended = await api.until(path, lambda found: found["status"] == "succeeded")
    assert ended["steps"]["one"]["queued"] == 0

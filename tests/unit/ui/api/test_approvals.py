"""Approvals over the API, and by commands that talk to it."""

import pytest

from flows.errors import StepboxError
from flows.values import Json
from tests.unit.ui.api.conftest import Api
from tests.unit.ui.api.test_remote import remote

ASKS = """\
flow: asks
steps:
  - id: ask
    approval:
      message: Ship it?
      form: {type: object, properties: {count: {type: integer}, why: {type: string, default: none}}, required: [count]}
    with: {version: 7}
"""


async def waiting(api: Api) -> tuple[str, dict[str, Json]]:
    """A run that waits, and what it asks."""
    run = (await api.call("POST", "/runs", 202, json={"flow": {"text": ASKS}}))["run_id"]
    await api.until(f"/runs/{run}", lambda found: found["status"] == "waiting")
    (asked,) = (await api.call("GET", "/approvals", params={"run": run}))["items"]
    return run, asked


async def test_a_question_is_shown_and_decided(api: Api) -> None:
    run, asked = await waiting(api)
    assert (asked["run_id"], asked["step"], asked["message"]) == (run, "ask", "Ship it?")
    assert (asked["details"], asked["decision"]) == ({"version": 7}, None)
    decided = await api.call(
        "POST", f"/approvals/{asked['id']}/approve", json={"comment": "fine", "values": {"count": 3}}
    )
    assert (decided["decision"], decided["by"], decided["comment"]) == ("approved", "admin", "fine")
    assert (decided["values"], decided["resumes"]) == ({"count": 3, "why": "none"}, run)
    assert (await api.call("GET", "/approvals"))["items"] == []
    assert len((await api.call("GET", "/approvals", params={"decided": True}))["items"]) == 1


async def test_what_cannot_be_decided_says_why(api: Api) -> None:
    run, asked = await waiting(api)
    wrong = await api.call("POST", f"/approvals/{asked['id']}/approve", 422, json={"values": {"count": "many"}})
    assert wrong["code"] == "invalid_form"
    assert "count" in wrong["detail"]
    assert (await api.call("POST", "/approvals/01ZZZZ/reject", 404, json={}))["code"] == "unknown_record"
    await api.call("POST", f"/approvals/{run}/reject", json={"comment": "not now"})
    again = await api.call("POST", f"/approvals/{asked['id']}/approve", 409, json={"values": {"count": 1}})
    assert again["code"] == "already_decided"


async def test_commands_decide_on_a_service_elsewhere(api: Api) -> None:
    run, asked = await waiting(api)
    service = remote(api)
    (seen,) = (await service.approvals(run=None, undecided=True)).items
    assert (seen.id, seen.form) == (asked["id"], asked["form"])
    with pytest.raises(StepboxError) as refused:
        await service.decide(seen.id, "approved", pairs={"count": "many"}, comment=None)
    assert refused.value.exit_status == 2
    decided, goes_on = await service.decide(run, "approved", pairs={"count": "3"}, comment="yes")
    assert (decided.form_values, decided.comment, goes_on) == ({"count": 3, "why": "none"}, "yes", run)
    await service.close()

"""``stepbox approvals``, ``approve``, ``reject`` and ``runs cancel`` on runs that wait."""

from tests.acceptance.conftest import Stepbox

FLOW = """
flow: release
steps:
  - id: ask
    approval:
      message: Ship it?
      form: {type: object, required: [channel], properties: {channel: {enum: [beta]}, percent: {type: integer, default: 10}}}
    with: {version: "1.2"}
output: ${{ steps.ask.result.values }}
"""


def test_a_run_waits_is_approved_and_goes_on(stepbox: Stepbox) -> None:
    flow = stepbox.flow("release", FLOW)
    parked = stepbox("run", flow)
    assert parked.status == 4
    (asked,) = stepbox("approvals", "list", "--output", "json").json()
    assert (asked["details"], asked["decision"]) == ({"version": "1.2"}, None)
    for said in (f"stepbox approve {asked['id']}", f"stepbox runs resume {asked['run_id']}", "Ship it?"):
        assert said in parked.stderr
        assert said in stepbox("runs", "show", asked["run_id"]).stdout
    assert stepbox("runs", "list", "--status", "waiting", "--output", "json").json()[0]["run_id"] == asked["run_id"]
    assert stepbox("runs", "resume", asked["run_id"]).status == 4

    for values in ((), ("--value", "channel=gamma"), ("--value", "channel=beta", "--value", "colour=red")):
        refused = stepbox("approve", asked["run_id"], *values, "--output", "json")
        assert refused.status == 2
        assert refused.json()["error"]["code"] in {"invalid_form", "invalid_input"}
    decided = stepbox("approve", asked["run_id"], "--value", "channel=beta", "--value", "percent=5", "--output", "json")
    assert decided.status == 0
    assert (decided.json()["decision"], decided.json()["resume"]) == ("approved", asked["run_id"])
    again = stepbox("reject", asked["id"], "--output", "json")
    assert (again.status, again.json()["error"]["code"]) == (2, "already_decided")

    ended = stepbox("runs", "resume", asked["run_id"], "--output", "json")
    assert ended.status == 0
    assert ended.json()["output"] == {"channel": "beta", "percent": 5}
    assert stepbox("approvals", "list", "--output", "json").json() == []


def test_a_no_is_resumed_at_once_and_a_waiting_run_is_cancelled(stepbox: Stepbox) -> None:
    flow = stepbox.flow("release", FLOW)
    first = stepbox("run", flow, "--output", "json").json()["run_id"]
    ended = stepbox("reject", first, "--comment", "not today", "--resume", "--output", "json")
    assert ended.status == 1
    error = ended.json()["steps"]["ask"]["error"]
    assert error["code"] == "approval_rejected"
    assert "not today" in error["message"]

    second = stepbox("run", flow, "--output", "json").json()["run_id"]
    cancelled = stepbox("runs", "cancel", second, "--output", "json")
    assert (cancelled.status, cancelled.json()["status"]) == (0, "cancelled")
    (newest, _first) = stepbox("approvals", "list", "--all", "--output", "json").json()
    assert newest["decision"] == "withdrawn"
    assert stepbox("approve", second).status == 2

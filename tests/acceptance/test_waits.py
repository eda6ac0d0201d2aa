"""Runs that wait outlive what drives them: a service that is killed, and none at all."""

import signal

from tests.acceptance.conftest import Stepbox
from tests.acceptance.services import serving, until

STEPS = """
  - {id: before, tool: workspace.create_task, with: {title: before, statusId: open}}
  - {id: ask, approval: {message: Go on?}}
  - {id: paid, wait: {event: shop.paid, match: event.data.order == 7}}
  - {id: nap, wait: 1s}
  - {id: after, tool: workspace.create_task, with: {title: after, statusId: open}}
"""


def test_a_run_goes_on_after_services_are_killed_between_what_happens_and_its_resumption(stepbox: Stepbox) -> None:
    environment = {"STEPBOX_ADMIN_TOKEN": "stp_" + "a" * 40}
    token = environment["STEPBOX_ADMIN_TOKEN"]
    with serving(stepbox, token=token, **environment) as service:
        started = service.call("POST", "/runs", json={"flow": {"text": f"flow: f\nsteps:{STEPS}"}})
        run = started["run_id"]
        until(lambda: service.call("GET", f"/runs/{run}")["status"] == "waiting")
        assert service.stop(signal.SIGKILL) == -signal.SIGKILL
    assert stepbox("approve", run).status == 0
    assert [one["run_id"] for one in stepbox("runs", "list", "--status", "waiting", "--output", "json").json()] == [run]
    event = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "shop.paid", "data": {"order": 7}}
    with serving(stepbox, token=token, **environment) as service:
        # It is killed as soon as the event is accepted, whether the run waits for it yet or not.
        headers = {"Content-Type": "application/cloudevents+json"}
        service.call("POST", "/events", json=event, headers=headers)
        assert service.stop(signal.SIGKILL) == -signal.SIGKILL
    with serving(stepbox, token=token, **environment) as service:
        until(lambda: service.call("GET", f"/runs/{run}")["status"] not in {"waiting", "running"})
        found = service.call("GET", f"/runs/{run}")
        assert found["status"] == "succeeded", found
        assert found["steps"]["paid"]["result"]["id"] == "1"
        for step in ("before", "after"):
            assert (found["steps"][step]["attempts"], found["steps"][step]["tool_calls"]) == (1, 1)
        assert service.stop() == 0


def test_without_a_service_a_run_is_continued_by_hand_once_it_is_time(stepbox: Stepbox) -> None:
    steps = "  - {id: w, wait: 2s}\n  - {id: then, wait: {until: '9000-01-01T00:00:00Z'}}\n"
    flow = stepbox.flow("nap", f"flow: nap\nsteps:\n{steps}")
    parked = stepbox("run", flow)
    assert parked.status == 4
    assert "step w waits until 20" in parked.stderr
    run = stepbox("runs", "list", "--output", "json").json()[0]["run_id"]
    assert f"stepbox runs resume {run}" in parked.stderr
    until(lambda: stepbox("runs", "resume", "--output", "json").json())
    shown = stepbox("runs", "show", run)
    assert "step then waits until 9000-01-01 00:00:00 UTC" in shown.stdout
    assert stepbox("runs", "resume", "--output", "json").json() == []
    assert stepbox("runs", "cancel", run).status == 0

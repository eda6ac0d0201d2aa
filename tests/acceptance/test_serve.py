"""``stepbox serve``: it is started, talked to, told to stop, killed, and started again."""

import json
import os
import signal
import socket
from contextlib import closing

import httpx

from tests.acceptance.conftest import Stepbox
from tests.acceptance.services import DEADLINE, NAPS, QUICK, begun, serving, until


def test_a_service_from_its_first_start_to_its_next(stepbox: Stepbox) -> None:
    with serving(stepbox) as service:
        assert service.stdout.read_text() == f"admin token, shown only now: {service.token}\n"
        assert service.token not in service.stderr.read_text()
        service.call("PUT", "/flows/quick", json={"text": QUICK})
        run = service.call("POST", "/flows/quick/runs", params={"wait": 60}, json={"inputs": {"n": 5}})
        assert (run["status"], run["output"]) == ("succeeded", "n is 5")
        # Other commands work beside it; another service doesn't.
        listed = stepbox("runs", "list", "--output", "json").json()
        assert [one["run_id"] for one in listed] == [run["run_id"]]
        beside = stepbox("run", stepbox.flow("quick", QUICK), "--output", "json", STEPBOX_RUNNER="nsjail")
        assert beside.json()["output"] == "n is 1"
        other = stepbox("serve", "--port", "0")
        assert other.status == 2
        assert f"process {service.process.pid}" in other.stderr
        assert "already_served" in other.stderr
        assert stepbox("principals", "create", "ci", "--role", "viewer", "--service").status == 0
        made = stepbox("tokens", "create", "ci", "--output", "json").json()
        headers = {"Authorization": f"Bearer {made['token']}"}
        assert service.client.get("/flows", headers=headers).status_code == 200
        assert stepbox("tokens", "revoke", made["token_id"]).status == 0
        assert service.client.get("/flows", headers=headers).status_code == 401
        assert service.stop() == 0
        assert service.said("stopped")
        requests = [entry for entry in service.log() if entry["event"] == "request"]
        assert {
            "method": "PUT",
            "path": "/api/v1/flows/quick",
            "status": 201,
            "principal": "admin",
        }.items() <= requests[0].items()
    with serving(stepbox, token=service.token) as again:
        assert again.stdout.read_text() == ""
        assert again.call("GET", "/flows/quick")["version"] == 1
        assert again.stop(signal.SIGINT) == 0


def test_what_runs_may_end_and_what_waits_is_picked_up_by_the_next_start(stepbox: Stepbox) -> None:
    with serving(stepbox, STEPBOX_CONCURRENT_RUNS="1") as service:
        service.call("PUT", "/flows/naps", json={"text": NAPS})
        first = service.call("POST", "/flows/naps/runs", json={"inputs": {"seconds": 3}})["run_id"]
        second = service.call("POST", "/flows/naps/runs", json={"inputs": {"seconds": 0}})["run_id"]
        until(lambda: begun(service, first))
        service.process.send_signal(signal.SIGTERM)
        until(lambda: service.said("stopping"))
        refused = service.client.post("/flows/naps/runs", json={"inputs": {"seconds": 0}})
        assert (refused.status_code, refused.json()["code"]) == (503, "shutting_down")
        assert httpx.get(f"http://127.0.0.1:{service.port}/readyz").status_code == 503
        assert service.process.wait(timeout=DEADLINE) == 0
    shown = stepbox("runs", "show", first, "--output", "json").json()
    assert (shown["status"], shown["output"]) == ("succeeded", "begun\nslept")
    assert [run["status"] for run in stepbox("runs", "list", "--output", "json").json()] == ["queued", "succeeded"]
    with serving(stepbox, token=service.token) as again:
        until(lambda: again.call("GET", f"/runs/{second}")["status"] == "succeeded")
        assert again.stop() == 0


def test_a_second_signal_lets_go_of_what_runs_at_once_and_what_it_printed_is_kept(stepbox: Stepbox) -> None:
    with serving(stepbox, STEPBOX_SHUTDOWN_GRACE="100s") as service:
        service.call("PUT", "/flows/naps", json={"text": NAPS})
        run = service.call("POST", "/flows/naps/runs", json={"inputs": {"seconds": 100}})["run_id"]
        until(lambda: begun(service, run))
        service.process.send_signal(signal.SIGTERM)
        until(lambda: service.said("stopping"))
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=DEADLINE) == 0
        (said,) = [entry for entry in service.log() if entry["event"].startswith("runs take longer")]
        assert said["left"] == 1
    shown = stepbox("runs", "show", run, "--output", "json").json()
    assert (shown["status"], shown["abandoned"]) == ("running", True)
    assert stepbox("runs", "logs", run).stdout.count("begun") == 1
    assert {name: step["error"]["code"] for name, step in shown["steps"].items()} == {"nap": "engine_stopped"}


PATIENT = """\
flow: patient
steps:
  - {id: before, shell: echo before}
  - id: patient
    shell: |
      echo waits
      tool files.read '{"path":"go"}' || sleep 100
    tools: [files.read]
    limits: {timeout: 120s}
finally:
  - {id: last, shell: echo cleaned up}
"""


def test_the_next_start_goes_on_with_what_takes_too_long(stepbox: Stepbox) -> None:
    with serving(stepbox, STEPBOX_SHUTDOWN_GRACE="300ms") as service:
        service.call("PUT", "/flows/patient", json={"text": PATIENT})
        run = service.call("POST", "/flows/patient/runs", json={})["run_id"]
        until(lambda: any(line["step"] == "patient" for line in service.call("GET", f"/runs/{run}/logs")["items"]))
        assert service.stop() == 0
        (said,) = [entry for entry in service.log() if entry["event"].startswith("runs take longer")]
        assert said["left"] == 1
    shown = stepbox("runs", "show", run, "--output", "json").json()
    assert (shown["status"], shown["abandoned"]) == ("running", True)
    shared = stepbox.directory / ".stepbox/shared"
    shared.mkdir(exist_ok=True)
    (shared / "go").write_text("go")
    with serving(stepbox, token=service.token) as again:
        until(lambda: again.call("GET", f"/runs/{run}")["status"] == "succeeded")
        attempts = again.call("GET", f"/runs/{run}/steps")["items"]
        ends = [(one["step"], one["status"], (one["error"] or {}).get("code")) for one in attempts]
        assert ends == [
            ("before", "succeeded", None),
            ("patient", "killed", "engine_stopped"),
            ("patient", "succeeded", None),
            ("last", "succeeded", None),
        ]
        assert again.stop() == 0


def test_a_run_is_followed_while_it_happens_and_cancelled_from_elsewhere(stepbox: Stepbox) -> None:
    with serving(stepbox) as service:
        service.call("PUT", "/flows/naps", json={"text": NAPS})
        run = service.call("POST", "/flows/naps/runs", json={"inputs": {"seconds": 100}})["run_id"]
        seen = []
        with service.client.stream("GET", f"/runs/{run}/events") as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    seen.append(json.loads(line.removeprefix("data: ")))
                if line.endswith("}") and '"line": "begun"' in line:
                    # Not this process's doing: the command works on the same home.
                    assert stepbox("runs", "cancel", run).status == 0
        assert seen[-1]["status"] == "cancelled"
        assert [one["line"] for one in seen if "line" in one] == ["begun", "cleaned up"]
        # A stream that would go on for long doesn't keep the service from ending.
        run = service.call("POST", "/flows/naps/runs", json={"inputs": {"seconds": 100}})["run_id"]
        with service.client.stream("GET", f"/runs/{run}/events") as answer:
            service.process.send_signal(signal.SIGTERM)
            until(lambda: service.said("stopping"))
            service.process.send_signal(signal.SIGTERM)
            text = "".join(answer.iter_text())
        assert '"status": "running"' in text
        assert '"status": "cancelled"' not in text
        assert service.process.wait(timeout=DEADLINE) == 0


def test_a_preset_token_opens_and_a_changed_one_closes(stepbox: Stepbox) -> None:
    preset = "a-secret-of-the-deployment-0123456789"
    with serving(stepbox, token=preset, STEPBOX_ADMIN_TOKEN=preset) as service:
        assert service.stdout.read_text() == ""
        service.call("GET", "/flows")
        service.stop()
    with serving(stepbox, token=preset[::-1], STEPBOX_ADMIN_TOKEN=preset[::-1]) as service:
        service.call("GET", "/flows")
        old = {"Authorization": f"Bearer {preset}"}
        assert service.client.get("/flows", headers=old).status_code == 401
        service.stop()
    short = stepbox("serve", "--port", "0", STEPBOX_ADMIN_TOKEN="hunter2")
    assert short.status == 2
    assert "STEPBOX_ADMIN_TOKEN" in short.stderr
    assert "hunter2" not in short.stderr


def test_a_killed_service_leaves_no_lock(stepbox: Stepbox) -> None:
    with serving(stepbox) as service:
        os.kill(service.process.pid, signal.SIGKILL)
        service.process.wait(timeout=DEADLINE)
        with serving(stepbox, token=service.token) as again:
            again.call("GET", "/flows")
            assert again.stop() == 0


def test_an_address_in_use_is_said_before_anything_starts(stepbox: Stepbox) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        port = listening.getsockname()[1]
        outcome = stepbox("serve", "--port", str(port))
    assert outcome.status == 1
    assert f"port {port}" in outcome.stderr
    assert "--port" in outcome.stderr
    assert not (stepbox.directory / ".stepbox").exists()


def test_a_directory_is_kept_applied_and_an_error_in_it_changes_nothing(stepbox: Stepbox) -> None:
    flows = stepbox.directory / "flows"
    flows.mkdir()
    (flows / "quick.yaml").write_text(QUICK)
    (flows / "values.yaml").write_text("a: 1\n")
    with serving(stepbox, "--flows", "flows") as service:
        until(lambda: [flow["flow"] for flow in service.call("GET", "/flows")["items"]] == ["quick"])
        (flows / "quick.yaml").write_text(QUICK.replace("n is", "n ="))
        until(lambda: service.call("GET", "/flows/quick")["version"] == 2)
        (flows / "naps.yaml").write_text(NAPS.replace("shell", "shel"))
        until(lambda: service.said("the flows of the directory are not applied"))
        assert [flow["flow"] for flow in service.call("GET", "/flows")["items"]] == ["quick"]
        (flows / "naps.yaml").write_text(NAPS)
        until(lambda: len(service.call("GET", "/flows")["items"]) == 2)
        (flows / "quick.yaml").unlink()
        run = service.call("POST", "/flows/quick/runs", params={"wait": 60}, json={})
        assert run["output"] == "n = 1"
        assert service.stop() == 0
    missing = stepbox("serve", "--port", "0", "--flows", "nothing")
    assert missing.status == 2
    assert "nothing is not a directory" in missing.stderr

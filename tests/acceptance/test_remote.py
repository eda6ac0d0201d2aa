"""The commands on a service elsewhere: they can't tell, and neither can who reads what they print."""

import json
import signal
import subprocess

from tests.acceptance.conftest import Stepbox, interrupt
from tests.acceptance.services import DEADLINE, NAPS, QUICK, serving, until

RELEASE = """\
flow: release
triggers:
  - {id: nightly, schedule: {cron: "0 2 * * *"}}
steps:
  - id: ask
    approval:
      message: Ship it?
      form: {type: object, required: [count], properties: {count: {type: integer}}}
  - id: ship
    shell: echo "shipped $INPUT_COUNT" > "$ARTIFACTS/notes.txt"
    with: {count: "${{ steps.ask.result.values.count }}"}
output: ${{ steps.ask.result.values.count }}
"""


def test_commands_work_on_a_service_elsewhere(stepbox: Stepbox) -> None:
    (stepbox.directory / "elsewhere").mkdir()
    with serving(stepbox, STEPBOX_HOME="elsewhere/home") as service:
        there = service.environment()
        stepbox.flow("quick", QUICK)
        applied = stepbox("flows", "apply", ".", "--output", "json", **there)
        assert [(one["flow"], one["change"]) for one in applied.json()] == [("quick", "created")]
        assert "quick" in stepbox("flows", "list", **there).stdout
        assert stepbox("flows", "show", "quick", **there).stdout == QUICK
        by_name = stepbox("run", "quick", "-i", "n=4", "--output", "json", **there)
        assert (by_name.status, by_name.json()["output"]) == (0, "n is 4")
        by_file = stepbox("run", "quick.yaml", **there)
        assert (by_file.status, by_file.stdout) == (0, '"n is 1"\n')
        assert "one │ n is 1" in by_file.stderr
        runs = stepbox("runs", "list", "--output", "json", **there).json()
        assert [run["status"] for run in runs] == ["succeeded", "succeeded"]
        run = by_name.json()["run_id"]
        assert stepbox("runs", "show", run, "--output", "json", **there).json()["steps"] == by_name.json()["steps"]
        assert "n is 4" in stepbox("runs", "logs", run, **there).stdout
        code = stepbox("exec", "-l", "shell", stdin="echo printed; exit 1", **there)
        assert (code.status, code.stdout) == (1, "printed\n")
        assert stepbox("flows", "disable", "quick", **there).status == 0
        refused = stepbox("run", "quick", "--output", "json", **there)
        assert (refused.status, refused.json()["error"]["code"]) == (2, "flow_disabled")
        wrong = stepbox("flows", "list", "--output", "json", **{**there, "STEPBOX_TOKEN": "nothing"})
        assert (wrong.status, wrong.json()["error"]["code"]) == (2, "unauthenticated")
        assert service.stop() == 0
    gone = stepbox("flows", "list", "--output", "json", **there)
    assert (gone.status, gone.json()["error"]["code"]) == (1, "service_unreachable")
    # Nothing was made on this machine.
    assert not (stepbox.directory / ".stepbox").exists()


def test_what_waits_is_decided_and_what_is_left_is_fetched_from_elsewhere(stepbox: Stepbox) -> None:
    (stepbox.directory / "elsewhere").mkdir()
    with serving(stepbox, STEPBOX_HOME="elsewhere/home") as service:
        there = service.environment()
        waits = stepbox("run", stepbox.flow("release", RELEASE), "--output", "json", **there)
        assert (waits.status, waits.json()["status"]) == (4, "waiting")
        run = waits.json()["run_id"]
        assert "Ship it?" in stepbox("approvals", "list", **there).stdout
        wrong = stepbox("approve", run, "--value", "count=many", **there)
        assert wrong.status == 2, wrong.stderr
        done = stepbox("approve", run, "--value", "count=2", "--resume", "--output", "json", **there)
        assert (done.status, done.json()["output"]) == (0, 2), done.stderr
        again = stepbox("runs", "resume", run, "--output", "json", **there)
        assert (again.status, again.json()["error"]["code"]) == (2, "not_resumable")
        assert stepbox("runs", "resume", **there).status == 0
        assert "ship/notes.txt" in stepbox("runs", "artifacts", run, **there).stdout
        assert stepbox("runs", "download", run, "--to", "out", **there).status == 0
        assert (stepbox.directory / "out/ship/notes.txt").read_text() == "shipped 2\n"
        left = stepbox("exec", "-l", "shell", "--artifacts", "left", stdin="echo x > artifacts/x", **there)
        assert (left.status, (stepbox.directory / "left/x").read_text()) == (0, "x\n")
        assert stepbox("secrets", "set", "hook_key", stdin="s3cret-value", **there).status == 0
        listed = stepbox("secrets", "list", **there).stdout
        assert ("hook_key" in listed, "s3cret-value" in listed) == (True, False)
        assert stepbox("flows", "apply", "release.yaml", **there).status == 0
        times = stepbox("flows", "next", "release", "--count", "2", "--output", "json", **there).json()
        assert [one["trigger"] for one in times] == ["nightly"] * 2
        pruned = stepbox("runs", "prune", "--older-than", "0s", "--dry-run", **there)
        assert pruned.stdout == "would remove 2 runs\n"
        assert service.stop() == 0
    assert not (stepbox.directory / ".stepbox").exists()


def test_an_interrupted_command_cancels_its_run_there(stepbox: Stepbox) -> None:
    with serving(stepbox) as service:
        stepbox.flow("naps", NAPS)
        process = subprocess.Popen(
            [stepbox.bin / "stepbox", "run", "naps.yaml", "-i", "seconds=100", "--output", "json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=stepbox.directory,
            env={**stepbox.environment, **service.environment()},
            start_new_session=True,
        )
        until(lambda: [run for run in service.call("GET", "/runs")["items"] if run["status"] == "running"])
        (run,) = service.call("GET", "/runs")["items"]
        until(lambda: service.call("GET", f"/runs/{run['run_id']}/logs")["items"])
        interrupt(process)
        printed, _ = process.communicate(timeout=DEADLINE)
        assert process.returncode == 130
        document = json.loads(printed)
        assert (document["run_id"], document["status"]) == (run["run_id"], "cancelled")
        assert document["steps"]["last"]["status"] == "succeeded"
        assert service.stop(signal.SIGTERM) == 0

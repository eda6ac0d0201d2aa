"""``stepbox run`` interrupted at every stage: one document, the right exit status, a complete record, no sandbox left."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.values import Json
from steps.sandbox import processes
from tests.acceptance.conftest import Stepbox

# A step tells the test that it works by a file that a tool writes.
WORKS = 'tool files.write \'{{"path": "{0}", "content": "x"}}\' > /dev/null; {1}'


def shell(step: str, after: str = "sleep 100", **keys: Json) -> Json:
    """A step that tells when it works, and then goes on."""
    script = WORKS.format(step, after)
    return {"id": step, "shell": script, "tools": ["files.write"], "limits": {"timeout": "2m"}, **keys}


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 100
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class Interrupted:
    """A command on its way to an interruption."""

    def __init__(self, stepbox: Stepbox, flow: Json, *others: Json) -> None:
        self.stepbox = stepbox
        for one in (flow, *others):
            stepbox.flow(one["flow"], json.dumps(one))
        self.process = stepbox.start("run", f"{flow['flow']}.yaml", "--output", "json")
        self._below: set[int] = set()

    def when(self, step: str) -> "Interrupted":
        """Interrupt it once a step works."""
        path = self.stepbox.directory / ".stepbox" / "shared" / step
        until(lambda: path.exists() or self.process.poll() is not None, step)
        return self.now()

    def now(self) -> "Interrupted":
        self._below |= set(processes.descendants(self.process.pid))
        self.process.send_signal(signal.SIGINT)
        return self

    def document(self) -> Json:
        """The one document, once everything that must hold of any ending does."""
        try:
            stdout, stderr = self.process.communicate(timeout=100)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        document = json.loads(stdout)
        assert "Traceback" not in stderr
        until(lambda: not any(map(alive, self._below)), "what was below the command has ended")
        if "error" in document and "run_id" not in document:
            assert document["error"]["code"] == "interrupted"
            assert self.process.returncode == 130
            return document
        assert self.process.returncode == {"cancelled": 130, "succeeded": 0}[document["status"]], stderr
        return document

    def shown(self, run_id: str) -> Json:
        """The same from the store."""
        document = self.stepbox("runs", "show", run_id, "--output", "json").json()
        assert (document.pop("egress"), document.pop("abandoned")) == ([], False)
        return document

    def runs(self) -> list[Json]:
        listed: list[Json] = self.stepbox("runs", "list", "--output", "json").json()
        return listed


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def statuses(document: Json) -> dict[str, str]:
    return {step: one["status"] for step, one in document["steps"].items()}


def test_in_a_retry_delay(stepbox: Stepbox) -> None:
    a = shell("a", "exit 3", retry={"attempts": 5, "delay": "1m"})
    interrupted = Interrupted(
        stepbox, {"flow": "retrying", "steps": [a, shell("b")], "finally": [{"id": "z", "shell": "echo tidy"}]}
    )
    until((stepbox.directory / ".stepbox/shared/a").exists, "a")
    time.sleep(0.5)
    document = interrupted.now().document()
    assert statuses(document) == {"a": "cancelled", "b": "skipped", "z": "succeeded"}
    assert document["steps"]["a"]["attempts"] == 1
    assert document["error"]["code"] == "run_cancelled"
    assert interrupted.shown(document["run_id"]) == document
    assert document["output"] is None


def test_by_another_command_of_the_installation(stepbox: Stepbox) -> None:
    flow: Json = {"flow": "asked", "steps": [shell("a"), shell("b")], "finally": [shell("y"), shell("z", "echo tidy")]}
    driven = Interrupted(stepbox, flow)
    until((stepbox.directory / ".stepbox/shared/a").exists, "a")
    (run,) = driven.runs()
    asked = stepbox("runs", "cancel", run["run_id"])
    assert (asked.status, "is asked to end" in asked.stdout) == (0, True)
    until((stepbox.directory / ".stepbox/shared/y").exists, "y")
    assert stepbox("runs", "cancel", run["run_id"]).status == 0
    document = driven.document()
    assert statuses(document) == {"a": "cancelled", "b": "skipped", "y": "cancelled", "z": "skipped"}
    assert (document["status"], driven.shown(document["run_id"])) == ("cancelled", document)
    ended = stepbox("runs", "cancel", run["run_id"], "--output", "json")
    assert (ended.status, ended.json()["error"]["code"]) == (1, "already_finished")


def test_in_a_for_each_of_subflows(stepbox: Stepbox) -> None:
    each = {"id": "each", "flow": "child", "for_each": {"in": [0, 1, 2]}, "with": {"n": "${{ item }}"}}
    work = shell("work", "[ $INPUT_N = 0 ] || sleep 100", **{"with": {"n": "${{ inputs.n }}"}})
    again = shell("again", "sleep 100", **{"if": "inputs.n == 1"})
    interrupted = Interrupted(
        stepbox,
        {"flow": "top", "steps": [each, {"id": "b", "shell": "true"}], "finally": [{"id": "z", "shell": "true"}]},
        {
            "flow": "child",
            "inputs": {"n": {"type": "integer"}},
            "steps": [{**again, "needs": []}, {**work, "needs": []}],
            "finally": [{"id": "y", "shell": "true"}],
        },
    )
    document = interrupted.when("again").document()
    assert statuses(document) == {"each": "cancelled", "b": "skipped", "z": "succeeded"}
    assert document["steps"]["each"]["attempts"] == 2
    second, first = [run for run in interrupted.runs() if run["flow"] == "child"]
    assert (first["status"], second["status"]) == ("succeeded", "cancelled")
    assert statuses(interrupted.shown(second["run_id"])) == {
        "again": "cancelled",
        "work": "cancelled",
        "y": "succeeded",
    }


def test_while_a_failure_is_handled(stepbox: Stepbox) -> None:
    interrupted = Interrupted(
        stepbox,
        {
            "flow": "handling",
            "steps": [{"id": "a", "shell": "exit 1"}],
            "on_failure": [shell("h"), {"id": "i", "shell": "true"}],
            "finally": [{"id": "z", "shell": "true"}],
        },
    )
    document = interrupted.when("h").document()
    assert statuses(document) == {"a": "failed", "h": "cancelled", "i": "skipped", "z": "succeeded"}


def test_while_it_cleans_up_it_goes_on(stepbox: Stepbox) -> None:
    interrupted = Interrupted(
        stepbox,
        {
            "flow": "cleaning",
            "steps": [{"id": "a", "shell": "true"}],
            "finally": [shell("y", "sleep 1; echo done"), {"id": "z", "shell": "true"}],
        },
    )
    document = interrupted.when("y").document()
    assert document["status"] == "cancelled"
    assert statuses(document) == {"a": "succeeded", "y": "succeeded", "z": "succeeded"}
    assert document["steps"]["y"]["result"] == "done"


@pytest.mark.parametrize("within", ["steps", "finally"])
def test_twice_and_it_ends_at_once(stepbox: Stepbox, within: str) -> None:
    first = shell("a") if within == "steps" else {"id": "a", "shell": "true"}
    flow = {"flow": "twice", "steps": [first], "finally": [shell("y"), {"id": "z", "shell": "true"}]}
    interrupted = Interrupted(stepbox, flow)
    began = time.monotonic()
    interrupted.when("a" if within == "steps" else "y")
    time.sleep(0.5)  # two signals at once are one
    document = interrupted.when("y").document()
    assert time.monotonic() - began < 60
    a = "cancelled" if within == "steps" else "succeeded"
    assert statuses(document) == {"a": a, "y": "cancelled", "z": "skipped"}
    assert document["status"] == "cancelled"
    assert interrupted.shown(document["run_id"]) == document


def test_at_any_other_moment(stepbox: Stepbox) -> None:
    flow = {
        "flow": "moments",
        "steps": [
            {"id": "a", "python": "return 'x' * 900_000"},
            {"id": "b", "shell": "jq -r .text < $INPUTS", "with": {"text": "${{ steps.a.result }}"}},
        ],
        "finally": [{"id": "z", "shell": "true"}],
        "output": "${{ steps.b.result }}",
    }
    for pause in (0, 0.4, 0.8, 1.2):
        shutil.rmtree(stepbox.directory / ".stepbox", ignore_errors=True)
        interrupted = Interrupted(stepbox, flow)
        until((stepbox.directory / ".stepbox/stepbox.db").exists, "the store is open")
        time.sleep(pause)
        document = interrupted.now().document()
        if "run_id" not in document:
            assert interrupted.runs() == []
            continue
        assert set(document["steps"]) == {"a", "b", "z"}
        assert document["steps"]["z"]["status"] == "succeeded"
        assert (document["output"] is None) == (document["status"] == "cancelled")

"""What reaches the terminal, and what becomes of a command whose terminal or reader goes away."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from flows.values import Json
from tests.acceptance.conftest import Stepbox, interrupt

ESCAPES = """
flow: escapes
steps:
  - id: colour
    name: ":smile: paint"
    shell: |
      printf 'clear\\033[2J title\\033]0;owned\\007 :warning:\\n'
      printf 'tab\\there\\n' >&2
      exit 3
"""


def test_code_sends_no_commands_to_the_terminal(stepbox: Stepbox) -> None:
    ran = stepbox("run", stepbox.flow("escapes", ESCAPES))
    assert ran.status == 1
    (run,) = stepbox("runs", "list", "--output", "json").json()
    code = "raise ValueError('\\x1b[2J\\x9b31m')"
    shown = [
        ran,
        stepbox("runs", "logs", run["run_id"]),
        stepbox("runs", "show", run["run_id"]),
        stepbox("exec", "-l", "python", stdin=code),
        stepbox("exec", "-l", "python", stdin="print('\\x1b[2J'); return '\\x9b'"),
        stepbox("exec", "-l", "python", "--output", "json", stdin="print('\\x1b[2J'); return '\\x9b'"),
    ]
    for outcome in shown:
        assert not {"\x1b", "\x07", "\x9b"} & set(outcome.stdout + outcome.stderr)
    assert r"clear\x1b[2J title\x1b]0;owned\x07 :warning:" in ran.stderr
    assert r"clear\x1b[2J title\x1b]0;owned\x07 :warning:" in shown[1].stdout
    assert r"\x1b[2J\x9b31m" in shown[3].stderr


LINES = """
flow: lines
steps:
  - {id: first, shell: "seq 1 3000"}
  - {id: second, needs: [first], shell: "seq 1 3000"}
output: {steps: [first, second]}
"""


@pytest.mark.parametrize("leaving", ["stderr", "stdout", "both"])
def test_a_reader_that_leaves_does_not_end_the_run(stepbox: Stepbox, leaving: str) -> None:
    flow = stepbox.flow("lines", LINES)
    process = stepbox.start("run", flow)
    assert process.stdout is not None
    assert process.stderr is not None
    if leaving != "stdout":
        assert process.stderr.readline()
        process.stderr.close()
    if leaving != "stderr":
        process.stdout.close()
    rest = process.stderr.read() if leaving == "stdout" else ""
    assert process.wait(timeout=120) == 0
    assert "Traceback" not in rest
    if leaving == "stderr":
        assert json.loads(process.stdout.read()) == {"steps": ["first", "second"]}
    process.stdout.close()
    process.stderr.close()
    (run,) = stepbox("runs", "list", "--output", "json").json()
    assert run["status"] == "succeeded"


ACCENTS = """
flow: accents
steps:
  - id: a
    shell: |
      echo é ✓
      echo '"é"' > $RESULT
output: ${{ steps.a.result }}
"""


def test_an_encoding_without_the_characters_fails_nothing(stepbox: Stepbox) -> None:
    flow = stepbox.flow("accents", ACCENTS)
    outcome = stepbox("run", flow, PYTHONIOENCODING="ascii")
    assert outcome.status == 0, outcome.stderr
    assert json.loads(outcome.stdout) == "é"
    assert outcome.stdout.isascii()
    assert r"\xe9" in outcome.stderr


LONG = """
flow: long
steps: [{id: wait, shell: "echo started; sleep 100", limits: {timeout: 2m}}]
finally: [{id: tidy, shell: echo tidy}]
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_prints_its_one_document(stepbox: Stepbox, how: signal.Signals) -> None:
    process = stepbox.start("run", stepbox.flow("long", LONG), "--output", "json")
    until(lambda: logged(stepbox) or process.poll() is not None)
    if how is signal.SIGINT:
        interrupt(process)
    else:
        process.send_signal(how)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    document = json.loads(stdout)
    assert document["status"] == "cancelled"
    assert document["steps"]["wait"]["status"] == "cancelled"
    assert document["steps"]["tidy"]["status"] == "succeeded"
    shown = stepbox("runs", "show", document["run_id"], "--output", "json").json()
    assert (shown.pop("egress"), shown.pop("abandoned"), shown) == ([], False, document)
    assert "Traceback" not in stderr


def test_a_terminal_that_goes_away_cancels_the_run_which_is_recorded(stepbox: Stepbox) -> None:
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        ["/usr/bin/setsid", "--ctty", stepbox.bin / "stepbox", "run", stepbox.flow("long", LONG)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=stepbox.directory,
        env=dict(stepbox.environment),
    )
    os.close(theirs)
    seen = b""
    while b"started" not in seen:
        seen += os.read(ours, 4096)
    os.close(ours)
    assert process.wait(timeout=60) == 130
    (run,) = stepbox("runs", "list", "--output", "json").json()
    assert run["status"] == "cancelled"
    steps = stepbox("runs", "show", run["run_id"], "--output", "json").json()["steps"]
    assert steps["tidy"]["status"] == "succeeded"


def until(true: Callable[[], Json]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def logged(stepbox: Stepbox) -> Json:
    """What the code of the only run has printed so far."""
    listed = stepbox("runs", "list", "--output", "json")
    runs = listed.json() if listed.status == 0 else []
    return stepbox("runs", "logs", runs[0]["run_id"], "--output", "json").json() if runs else []

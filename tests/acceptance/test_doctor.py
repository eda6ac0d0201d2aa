"""``stepbox doctor`` as it is installed."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.acceptance.conftest import Stepbox, interrupt

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make cgroups or other machines")


def test_the_document(stepbox: Stepbox) -> None:
    outcome = stepbox("doctor", "--output", "json")
    document = outcome.json()
    assert (outcome.status, outcome.stderr) == (0, "")
    assert document["exit_status"] == 0
    assert document["verdict"] in {"enforced", "watched"}
    assert document["runner"] == "nsjail"
    assert document["isolation"] == {"level": "jail", "minimum": None, "error": None}
    (runner,) = (one for one in document["runners"] if one["used"])
    verdicts = {one["id"]: one["verdict"] for one in runner["guarantees"]}
    assert {"host_files", "network", "system_calls", "memory", "timeout", "tools", "single_use"} <= set(verdicts)
    assert set(verdicts.values()) <= {"enforced", "watched"}
    for one in runner["guarantees"]:
        assert one["evidence"]
        assert (one["fix"] is None) == (one["verdict"] == "enforced")
    checks = {one["id"]: one for one in document["checks"]}
    assert {"kernel", "user_namespaces", "cgroups", "packages", "commands", "images", "home", "database"} == set(checks)
    assert checks["packages"]["state"] == "ok"
    assert document["versions"]["stepbox"]
    # It looks and makes nothing: neither a home nor a database.
    assert list(stepbox.directory.iterdir()) == []


def test_the_table_without_a_terminal(stepbox: Stepbox) -> None:
    outcome = stepbox("doctor", "--runner", "nsjail")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert "\x1b" not in outcome.stdout
    lines = outcome.stdout.splitlines()
    assert any(line.startswith("✓ enforced  host_files ") for line in lines)
    assert lines[-1].startswith(("✓ nsjail enforces all", "! nsjail enforces"))
    assert "docker" not in outcome.stdout


@pytest.mark.parametrize("variable", ["NO_COLOR", "COLOURS"])
def test_on_a_terminal_of_80_columns(stepbox: Stepbox, variable: str) -> None:
    """``script`` gives it a terminal; of its output the table is what follows the last that moves."""
    command = f"stty cols 80 rows 50; {stepbox.bin}/stepbox doctor --runner nsjail"
    run = subprocess.run(
        ["script", "--quiet", "--return", "--command", command, "/dev/null"],
        capture_output=True,
        text=True,
        check=False,
        cwd=stepbox.directory,
        env={**stepbox.environment, "TERM": "xterm-256color", variable: "1"},
        timeout=170,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode == 0, run.stdout
    assert "trying to break the sandbox" in run.stdout
    assert ("\x1b[32m" in run.stdout) == (variable != "NO_COLOR")
    assert "guarantees" in run.stdout.splitlines()[-1]


def test_isolation_below_the_minimum_is_refused(stepbox: Stepbox) -> None:
    outcome = stepbox("doctor", "-o", "json", STEPBOX_MIN_ISOLATION="container", STEPBOX_RUNNER="nsjail")
    document = outcome.json()
    assert (outcome.status, document["exit_status"], document["verdict"]) == (3, 3, "missing")
    assert document["isolation"]["error"]["code"] == "isolation_unavailable"
    assert {one["verdict"] for run in document["runners"] if run["used"] for one in run["guarantees"]} <= {
        *("enforced", "watched"),
    }


def test_a_home_that_cannot_be_used_is_told(stepbox: Stepbox) -> None:
    (stepbox.directory / "file").touch()
    outcome = stepbox("doctor", "-o", "json", STEPBOX_HOME=str(stepbox.directory / "file"))
    assert outcome.status == 1
    states = {one["id"]: one["state"] for one in outcome.json()["checks"]}
    assert states["home"] == "failed"


@as_root
def test_a_machine_without_user_namespaces(stepbox: Stepbox) -> None:
    """In a user namespace of its own, in which no further ones may be made."""
    setting = "/proc/sys/user/max_user_namespaces"
    run = subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "sh",
            "-c",
            f'echo 0 > {setting}; exec "$@"',
            "sh",
            str(stepbox.bin / "stepbox"),
            "doctor",
            "--output",
            "json",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=stepbox.directory,
        env=dict(stepbox.environment),
        timeout=170,
    )
    document = json.loads(run.stdout)
    assert (run.returncode, document["verdict"]) == (3, "missing")
    (runner,) = (one for one in document["runners"] if one["used"])
    assert "does not let Stepbox make namespaces" in runner["error"]["message"]
    assert "user.max_user_namespaces=15000" in runner["error"]["fix"]
    assert {one["verdict"] for one in runner["guarantees"]} == {"missing"}
    checks = {one["id"]: one for one in document["checks"]}
    assert checks["user_namespaces"]["state"] == "failed"
    assert "user.max_user_namespaces=15000" in checks["user_namespaces"]["fix"]


@as_root
def test_a_machine_without_some_commands(stepbox: Stepbox) -> None:
    """In a mount namespace of its own, where jq and git are not programs."""
    hide = "".join(f"mount --bind /dev/null {shutil.which(name)}; " for name in ("jq", "git"))
    run = subprocess.run(
        [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            f'{hide} exec "$@"',
            "sh",
            str(stepbox.bin / "stepbox"),
            "doctor",
            "--output",
            "json",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=stepbox.directory,
        env=dict(stepbox.environment),
        timeout=170,
    )
    document = json.loads(run.stdout)
    assert run.returncode == 0, document
    (commands,) = (one for one in document["checks"] if one["id"] == "commands")
    assert (commands["state"], commands["message"]) == ("warning", "shell steps miss jq, git")
    assert "jq git" in commands["fix"]


def test_an_unknown_runner_is_an_invalid_call(stepbox: Stepbox) -> None:
    assert stepbox("doctor", "--runner", "chroot").status == 2


def test_an_interrupted_examination_leaves_nothing(stepbox: Stepbox) -> None:
    process = stepbox.start("doctor", "--output", "json")
    try:
        while not planted(process.pid):
            assert process.poll() is None
            time.sleep(0.05)
        interrupt(process)
    finally:
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert json.loads(stdout)["error"]["code"] == "interrupted"
    assert "Traceback" not in stderr
    assert not Path(f"/proc/{process.pid}").exists()


def planted(pid: int) -> bool:
    """Whether the doctor holds its canary open."""
    try:
        held = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    return any("stepbox-doctor-" in path for path in held)


def test_it_does_not_import_prefect(stepbox: Stepbox) -> None:
    outcome = stepbox.python(
        "import sys\nfrom ui.cli import main\nsys.argv = ['stepbox', 'doctor', '--runner', 'nsjail']\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        "print('imported', *(name for name in ('prefect', 'docker', 'httpx') if name in sys.modules), file=sys.stderr)"
    )
    assert (outcome.status, outcome.stderr) == (0, "imported\n")

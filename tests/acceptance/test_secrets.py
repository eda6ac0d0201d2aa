"""``stepbox secrets`` as it is installed: values go in and never come out."""

import os
import pty
import stat
import subprocess

from tests.acceptance.conftest import Stepbox

VALUE = "hunter2-s3cret"


def test_a_secret_is_set_listed_and_forgotten(stepbox: Stepbox) -> None:
    made = stepbox("secrets", "set", "hook_key", "-o", "json", stdin=VALUE + "\n")
    assert (made.status, made.stderr) == (0, "")
    assert (made.json()["name"], made.json()["versions"], made.json()["last_used_at"]) == ("hook_key", 1, None)
    kept = stepbox("secrets", "rotate", "hook_key", "--overlap", "2h", stdin="another")
    assert "the value it had is live until 20" in kept.stdout
    listed = stepbox("secrets", "list", "--output", "json")
    assert [(secret["name"], secret["versions"]) for secret in listed.json()] == [("hook_key", 2)]
    shown = stepbox("secrets", "list")
    assert "hook_key" in shown.stdout
    for outcome in (made, kept, listed, shown):
        assert VALUE not in outcome.stdout + outcome.stderr
    assert stepbox("secrets", "delete", "hook_key", "--old", "-o", "json").json() == {"name": "hook_key", "deleted": 1}
    assert "has no old value" in stepbox("secrets", "delete", "hook_key", "--old").stdout
    assert stepbox("secrets", "delete", "hook_key").status == 0
    assert stepbox("secrets", "list", "-o", "json").json() == []
    gone = stepbox("secrets", "delete", "hook_key", "-o", "json")
    assert (gone.status, gone.json()["error"]["code"]) == (2, "unknown_secret")


def test_nothing_in_the_home_has_the_value(stepbox: Stepbox) -> None:
    stepbox("secrets", "set", "hook_key", stdin=VALUE)
    home = stepbox.directory / ".stepbox"
    assert stat.S_IMODE((home / "secret.key").stat().st_mode) == 0o600
    for path in home.rglob("*"):
        assert not path.is_file() or VALUE.encode() not in path.read_bytes()


def test_a_value_on_the_command_line_is_refused_and_not_repeated(stepbox: Stepbox) -> None:
    outcome = stepbox("secrets", "set", "hook_key", VALUE)
    assert outcome.status == 2
    assert "doesn't go on the command line" in outcome.stderr
    assert VALUE not in outcome.stdout + outcome.stderr
    assert stepbox("secrets", "list", "-o", "json").json() == []


def test_what_can_not_be_a_secret_is_refused(stepbox: Stepbox) -> None:
    for name, value, code in (
        ("hook_key", "", "invalid_call"),
        ("hook_key", "\n", "invalid_call"),
        ("hook_key", "x" * 64_001, "invalid_call"),
        ("Hook-Key", VALUE, "invalid_name"),
    ):
        outcome = stepbox("secrets", "set", name, "-o", "json", stdin=value)
        assert (outcome.status, outcome.json()["error"]["code"]) == (2, code)
        assert outcome.json()["error"]["fix"]


def test_a_key_that_others_may_read_is_refused_with_the_fix(stepbox: Stepbox) -> None:
    stepbox("secrets", "set", "hook_key", stdin=VALUE)
    key = stepbox.directory / ".stepbox" / "secret.key"
    key.chmod(0o644)
    outcome = stepbox("secrets", "set", "hook_key", stdin=VALUE)
    assert outcome.status == 3
    assert f"chmod 600 {key}" in outcome.stderr.replace("\n", "")
    assert stepbox("secrets", "list").status == 0


def test_on_a_terminal_the_value_is_asked_for_twice_and_not_shown(stepbox: Stepbox) -> None:
    for second, status in ((VALUE, 0), ("other", 2)):
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [stepbox.bin / "stepbox", "secrets", "set", "hook_key"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=stepbox.directory,
            env=dict(stepbox.environment),
            start_new_session=True,
        )
        os.close(theirs)
        shown = b""
        for prompt, answer in ((b"Value of hook_key: ", VALUE), (b"The same again: ", second)):
            while prompt not in shown:
                shown += os.read(ours, 1000)
            os.write(ours, answer.encode() + b"\n")
        try:
            while piece := os.read(ours, 1000):
                shown += piece
        except OSError:
            pass  # The other side of the terminal is gone.
        os.close(ours)
        assert process.wait(60) == status
        assert VALUE.encode() not in shown

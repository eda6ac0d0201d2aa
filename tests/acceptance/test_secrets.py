"""``stepbox secrets`` as it is installed: values go in and never come out."""

import os
import pty
import stat
import subprocess
from pathlib import Path

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


LEAKS = """\
flow: leaks
steps:
  - id: leak
    secrets: [token]
    python: |
      import base64, os, sys, urllib.parse
      value = secrets.token
      print(value, base64.b64encode(b"x" + value.encode()).decode(), value.encode().hex(), value[::-1])
      print(urllib.parse.quote(value, safe=""), file=sys.stderr)
      print(value[:9], end="", flush=True)
      print(value[9:])
      print(value[:10] + "\\n" + value[10:])
      os.makedirs("artifacts", exist_ok=True)
      open(f"artifacts/{value}.txt", "w").write("a file")
      return {"value": value, value: [1, base64.b64encode(value.encode()).decode()]}
  - id: call
    tool: http.request
    with: {url: "https://nowhere.invalid/?key=${{ secrets.token }}", headers: {x-key: "${{ secrets.token }}"}}
    on_error: continue
  - id: fail
    secrets: [token]
    shell: |
      echo "$(cat "$SECRETS/token") is wrong" >&2
      exit 3
"""


def test_no_door_and_no_file_of_the_home_shows_a_secret_that_a_run_was_given(stepbox: Stepbox) -> None:
    value = "s3cret+with~some=more-of-it"
    (stepbox.directory / "leaks.yaml").write_text(LEAKS)
    refused = stepbox("run", "leaks.yaml", "-o", "json")
    assert (refused.status, refused.json()["error"]["code"]) == (2, "unknown_secret")
    assert refused.json()["error"]["fix"] == "set it: stepbox secrets set token"
    assert stepbox("flows", "apply", "leaks.yaml", "-o", "json").json()["error"]["code"] == "unknown_secret"
    assert stepbox("secrets", "set", "token", stdin=value).status == 0
    ran = stepbox("run", "leaks.yaml", "-o", "json")
    run = ran.json()
    assert run["steps"]["leak"]["result"] == {"value": "•••", "•••": [1, "•••"]}
    assert run["steps"]["fail"]["error"]["message"] == "exit status 3: ••• is wrong"
    outcomes = [ran, stepbox("run", "leaks.yaml"), stepbox("flows", "apply", "leaks.yaml")]
    outcomes += [
        stepbox("runs", *arguments)
        for arguments in (
            ("show", run["run_id"]),
            ("show", run["run_id"], "-o", "json"),
            ("logs", run["run_id"]),
            ("logs", run["run_id"], "-o", "json"),
            ("artifacts", run["run_id"], "-o", "json"),
            ("list", "-o", "json"),
        )
    ]
    forms = (value, value[::-1], value.encode().hex(), value[:10], value[9:], value[10:])
    for outcome in outcomes:
        assert not [form for form in forms if form in outcome.stdout + outcome.stderr]
    files = [path for path in (stepbox.directory / ".stepbox").rglob("*") if path.is_file()]
    assert any(path.name.startswith("stepbox.db") for path in files)
    for path in files:
        content = path.read_bytes()
        assert not [form for form in forms if form.encode() in content], path


def test_the_key_is_rotated_and_the_old_one_is_kept_for_backups(stepbox: Stepbox) -> None:
    stepbox("secrets", "set", "hook_key", stdin=VALUE)
    home = stepbox.directory / ".stepbox"
    old = (home / "secret.key").read_text()
    prepared = stepbox("secrets", "rotate-key", "--prepare")
    assert "bring the key file to the other machines" in prepared.stdout
    rotated = stepbox("secrets", "rotate-key", "-o", "json")
    (kept,) = rotated.json()["kept"]
    assert (home / "secret.key").read_text() != old
    assert rotated.json()["resealed"] == 1
    assert stat.S_IMODE(Path(kept).stat().st_mode) == 0o600
    shown = stepbox("secrets", "rotate-key")
    assert "1 value is encrypted by the new key" in shown.stdout
    (home / "secret.key").write_text(old)
    wrong = stepbox("secrets", "rotate", "hook_key", "-o", "json", stdin="another")
    assert (wrong.status, wrong.json()["error"]["code"]) == (1, "secret_key")


def test_the_key_may_come_from_a_variable_or_a_command(stepbox: Stepbox) -> None:
    key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    for variable, content in (
        ("STEPBOX_SECRET_KEY", key),
        ("STEPBOX_SECRET_KEY_COMMAND", f"/bin/sh -c 'echo {key}'"),
    ):
        environment = {variable: content}
        made = stepbox("secrets", "set", "hook_key", stdin=VALUE, **environment)
        assert (made.status, made.stderr) == (0, "")
        assert not (stepbox.directory / ".stepbox" / "secret.key").exists()
        refused = stepbox("secrets", "rotate-key", **environment)
        assert refused.status == 1
        assert "openssl rand -base64 32" in refused.stderr
    missing = stepbox("secrets", "set", "hook_key", "-o", "json", stdin=VALUE)
    assert (missing.json()["error"]["code"], missing.status) == ("secret_key", 1)
    for command in ("/nowhere/at/all", "/bin/false", "/bin/echo nothing", "'"):
        outcome = stepbox("secrets", "set", "hook_key", "-o", "json", stdin=VALUE, STEPBOX_SECRET_KEY_COMMAND=command)
        assert (outcome.json()["error"]["code"], outcome.status) == ("secret_key", 1)
        assert outcome.json()["error"]["fix"]

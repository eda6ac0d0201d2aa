"""What triggers import: nothing that flows without them would pay for."""

import subprocess
import sys

LATE = (
    "croniter",
    "redis",
    "watchfiles",
    "cloudevents",
    "standardwebhooks",
    "python_multipart",
    "cryptography",
)


def imported(code: str) -> list[str]:
    """Which of them are imported after some code."""
    shown = f"{code}\nimport sys; print(*(name for name in {LATE} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()


def test_the_language_imports_no_library_of_a_trigger() -> None:
    assert imported("from engine.bootstrap import language; language()") == []


def test_the_command_line_imports_none_either() -> None:
    assert imported("import ui.cli.app") == []


def test_a_schedule_imports_its_own_alone() -> None:
    flow = "flow: f\\ntriggers: [{id: t, schedule: {cron: '0 0 * * *'}}]\\nsteps: [{id: a, shell: 'true'}]"
    code = f"from pathlib import Path; from engine.bootstrap import language; language().load_text(\"{flow}\", path='f', directory=Path())"
    assert imported(code) == ["croniter"]

"""docs/security.md lists the attacks that the suite makes."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_table_of_attacks_is_current() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "security_table.py"), "--check"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr[-2000:]

"""Makes the virtual environment of this checkout: `python3 scripts/setup.py .venv`.

Runs under any Python 3.11 or later without packages. As root on Debian or Ubuntu it installs python3-venv where that
is missing; elsewhere it says what to install.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)


def main(target: Path) -> None:
    if sys.version_info < OLDEST:
        sys.exit(f"Stepbox needs Python {'.'.join(map(str, OLDEST))} or later; this is {sys.version.split()[0]}")
    python = target / "bin" / "python"
    if not python.exists():
        make_environment(target)
    say(f"installing into {target}")
    quiet = ["--quiet", "--disable-pip-version-check"]
    run(python, "-m", "pip", "install", *quiet, "uv")
    uv = target / "bin" / "uv"
    run(uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", ROOT / "requirements/dev.txt")
    run(uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--editable", ROOT)


def make_environment(target: Path) -> None:
    """Make the environment, after installing python3-venv where it is missing and that is allowed."""
    say(f"making {target}")
    if subprocess.run([sys.executable, "-m", "venv", target], check=False, capture_output=True).returncode == 0:
        return
    shutil.rmtree(target, ignore_errors=True)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit("Python's venv module is incomplete here; install it first: sudo apt-get install python3-venv")
    say("installing python3-venv")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", "python3-venv"]):
        subprocess.run(["apt-get", *arguments], check=True, env=environment, stdout=subprocess.DEVNULL)
    run(sys.executable, "-m", "venv", target)


def run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True)


def say(line: str) -> None:
    print(f"setup: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".venv"))

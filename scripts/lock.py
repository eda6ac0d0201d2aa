"""Pins the dependencies anew: `make lock`. The lock has hashes and no addresses, so that any mirror serves it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMPILE = [
    *("uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"),
    *("--no-emit-index-url", "--no-annotate", "--no-header", "--upgrade"),
]


def main() -> None:
    runtime, dev = "requirements/runtime.txt", "requirements/dev.txt"
    uv = Path(sys.executable).parent
    command = [str(uv / COMPILE[0]), *COMPILE[1:]]
    subprocess.run([*command, "pyproject.toml", "-o", runtime], check=True, cwd=ROOT)
    subprocess.run([*command, "pyproject.toml", "--group", "dev", "-c", runtime, "-o", dev], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()

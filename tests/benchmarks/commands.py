"""What commands cost from their start to their end, and which packages their imports belong to."""

import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.figures import Figure, Size

ONE_STEP = "flow: one\nsteps:\n  - id: s\n    python: return 1\noutput: ${{ steps.s.result }}\n"
COMMANDS = {
    "validate": ["validate", "one.yaml"],
    "exec": ["exec", "--language", "python", "--file", "code.py", "--output", "json"],
    "run": ["run", "one.yaml", "--output", "json"],
}
PACKAGES = 4


def measure(size: Size) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "one.yaml").write_text(ONE_STEP)
        (directory / "code.py").write_text("return 1\n")
        for key, arguments in COMMANDS.items():
            command = [sys.executable, "-c", "from ui.cli import main; main()", *arguments]
            _run(command, directory)
            samples = []
            for _round in range(size.rounds):
                began = time.perf_counter()
                _run(command, directory)
                samples.append(1000 * (time.perf_counter() - began))
            yield Figure(key=f"command_{key}", name=f"stepbox {key}, the whole command", unit="ms", samples=samples)
            yield from _imports(key, arguments, directory)


def _imports(key: str, arguments: list[str], directory: Path) -> Iterator[Figure]:
    """The packages whose modules take longest to import, without what those import in turn.

    ``-X importtime`` slows every import alike: the shares hold, the times are larger than they are without it.
    """
    told = _run([sys.executable, "-X", "importtime", "-c", "from ui.cli import main; main()", *arguments], directory)
    spent: Counter[str] = Counter()
    for line in told.splitlines():
        fields = line.removeprefix("import time:").split("|")
        if len(fields) == 3 and fields[0].strip().isdigit():
            spent[fields[2].strip().partition(".")[0]] += int(fields[0])
    for package, microseconds in spent.most_common(PACKAGES):
        name = f"  of which imports of {package}"
        yield Figure(key=f"command_{key}_{package}", name=name, unit="ms", samples=[microseconds / 1000])


def _run(command: list[str], directory: Path) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
    return done.stderr

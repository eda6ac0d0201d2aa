"""`make bench`: what isolation costs, as ratios within one run. Prints a table and writes JSON.

    .venv/bin/python tests/benchmarks/run.py [--rounds N] [--output FILE]

Each benchmark is measured `rounds` times, alternating with what it is compared to, so that a noisy machine disturbs
both alike. Times are wall-clock seconds; the median is quoted and the ratio is that of the medians.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from engine.bootstrap import open_service
from engine.progress import NoObserver
from engine.service import FlowText

STEPS = 40
FIBO = "def fibo(n):\n    return n if n < 2 else fibo(n - 1) + fibo(n - 2)\n"
ROUNDS = 5


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One thing measured: every round's seconds."""

    name: str
    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def sequential_flow() -> FlowText:
    """A flow of 40 Python steps in a row, each computing fibo(10)."""
    body = "".join(f"      {line}\n" for line in f"{FIBO}return fibo(10)".splitlines())
    steps = "".join(f"  - id: s{number}\n    python: |\n{body}" for number in range(STEPS))
    text = f"flow: sequential\nsteps:\n{steps}output: ${{{{ steps.s{STEPS - 1}.result }}}}\n"
    return FlowText(text=text.encode(), path="sequential.yaml", directory=Path(tempfile.gettempdir()))


async def isolated() -> None:
    """The flow in this process: Prefect, store and a sandbox for each step."""
    async with open_service() as service:
        flow = sequential_flow()
        report = await service.run(service.load(flow), {}, NoObserver(), directory=flow.directory)
    assert report.run.output == 55, report


async def plain_processes() -> None:
    """The same code in one ordinary, unisolated Python process after the other."""
    for _ in range(STEPS):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-c", f"{FIBO}print(fibo(10))", stdout=subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert output == b"55\n", output


async def timed(work: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def measure(rounds: int) -> list[Figure]:
    await isolated()  # warms imports, the step interpreter's files and the database
    await plain_processes()
    figures = {"isolated": Figure(name="40 × fibo(10), isolated steps of a flow", seconds=[])}
    figures["plain"] = Figure(name="40 × fibo(10), plain python3 -I processes", seconds=[])
    for _ in range(rounds):
        figures["isolated"].seconds.append(await timed(isolated))
        figures["plain"].seconds.append(await timed(plain_processes))
    return list(figures.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--output", type=Path, default=Path(".cache/bench.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["STEPBOX_HOME"] = home
        figures = asyncio.run(measure(arguments.rounds))
    first, second = figures
    table = Table(box=None, header_style="bold")
    for column in ("", "median", "fastest", "slowest", "a step"):
        table.add_column(column, justify="right" if column else "left")
    for figure in figures:
        table.add_row(
            figure.name,
            f"{figure.median:.3f} s",
            f"{min(figure.seconds):.3f} s",
            f"{max(figure.seconds):.3f} s",
            f"{1000 * figure.median / STEPS:.1f} ms",
        )
    Console().print(table, f"isolated / plain: {first.median / second.median:.2f}×")
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"system": platform.platform(), "processors": os.cpu_count(), "python": platform.python_version()},
        "figures": [asdict(figure) | {"median": figure.median} for figure in figures],
        "ratios": {"sequential_isolated_to_plain": first.median / second.median},
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(document, indent=2) + "\n")
    Console().print(f"[dim]written to {arguments.output}[/]")


if __name__ == "__main__":
    main()

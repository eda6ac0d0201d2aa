"""`make bench`: what isolation costs, as ratios within one run. Prints a table and writes JSON.

    .venv/bin/python tests/benchmarks/run.py [--only GROUP…] [--rounds N] [--long] [--baseline FILE] [--output FILE]

What is compared is measured in turn, so that a noisy machine disturbs both alike. Times are wall-clock unless they say
otherwise; medians are quoted, and a ratio is that of the medians. Figures are compared with the baseline, which is the
last run's file unless another is named: across runs and machines look at the ratios rather than at the times.
"""

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import Coroutine
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from rich.console import Console

from engine.orchestrator.environment import prepare
from tests.benchmarks.figures import Earlier, Report, Size

ROUNDS = 5
SHORT = Size(rounds=ROUNDS, seconds=20, rate=1000, runs=1000)
LONG = Size(rounds=ROUNDS, seconds=300, rate=1000, runs=10_000)
GROUPS = {
    "sandboxes": "sandboxes",
    "containers": "containers",
    "flows": "whole_flows",
    "stages": "stages",
    "calls": "calls",
    "commands": "commands",
    "webhooks": "webhooks",
    "load": "load",
    "growth": "growth",
}
"""By name, the module that measures each: imported once prefect's settings are made, as some import prefect."""

GROWN = {
    "wall": "a run",
    "cpu": "a run's processor time",
    "accepted": "a webhook accepted",
    "runs": "50 runs listed",
    "events": "50 events listed",
}


def measure(groups: list[str], size: Size, console: Console) -> Report:
    report = Report()
    for group in groups:
        console.print(f"[dim]{group} …[/]")
        measured = import_module(f"tests.benchmarks.{GROUPS[group]}").measure(size)
        report.add(asyncio.run(measured) if isinstance(measured, Coroutine) else measured)
    plain = "plain python3 -I processes"
    report.compare("sequential", f"40 × fibo(10): steps / {plain}", "sequential", "sequential_plain", 1.5)
    report.compare("sequential_prefect", "40 × fibo(10): steps / Prefect tasks", "sequential", "sequential_prefect")
    report.compare("heavy", f"10 × fibo(33): steps / {plain}", "heavy", "heavy_plain")
    report.compare("wide", f"100 items at ten: steps / {plain}", "wide", "wide_plain")
    report.compare("wide_prefect", "100 items at ten: steps / Prefect tasks", "wide", "wide_prefect")
    for language in ("python", "javascript", "shell"):
        for kind, what in (("", "sandbox"), ("_docker", "container")):
            name = f"{language} step: ready {what} / nothing started"
            report.compare(f"ready_{language}{kind}", name, f"ready_{language}{kind}", f"new_{language}{kind}")
    run = "`docker run --rm`"
    report.compare("ready_run", f"Python step: ready container / {run}", "ready_python_docker", "docker_run", 0.05)
    report.compare("ready_llm", "Python step: ready container / llm-sandbox", "ready_python_docker", "llm_sandbox")
    report.compare("rate_run", f"the long run: {run} a second / steps a second", "loop", "sustained_docker", 1.11)
    for database in ("SQLite", "PostgreSQL"):
        for key, what in GROWN.items():
            name, of = f"{database}: {what}, after {size.runs:,} runs / after ten", f"growth_{key}"
            old, new = (f"{of}_{age}_{database.lower()}" for age in ("old", "new"))
            report.compare(f"{of}_{database.lower()}", name, old, new, 1.2)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=GROUPS, default=list(GROUPS), metavar="GROUP", help=", ".join(GROUPS)
    )
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--long", action="store_true", help="five minutes of load, and 10,000 runs")
    parser.add_argument("--seconds", type=int, help="of load")
    parser.add_argument("--rate", type=int, help="events a minute of load")
    parser.add_argument("--runs", type=int, help="that one service makes")
    parser.add_argument("--baseline", type=Path, help="the JSON of an earlier run")
    parser.add_argument("--output", type=Path, default=Path(".cache/bench.json"))
    arguments = parser.parse_args()
    given = {name: getattr(arguments, name) for name in ("rounds", "seconds", "rate", "runs")}
    size = replace(LONG if arguments.long else SHORT, **{name: value for name, value in given.items() if value})
    before = Earlier.read(arguments.baseline or arguments.output)
    if arguments.baseline and not before.found:
        parser.error(f"{arguments.baseline} is no JSON of these benchmarks")
    console = Console()
    with tempfile.TemporaryDirectory() as home:
        os.environ["STEPBOX_HOME"] = home
        prepare(Path(home), None)
        report = measure(arguments.only, size, console)
    report.show(console, before)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report.document(), indent=1) + "\n")
    console.print(f"[dim]written to {arguments.output}[/]")


if __name__ == "__main__":
    main()

"""`make bench`: what isolation costs, as ratios within one run. Prints a table and writes JSON.

    .venv/bin/python tests/benchmarks/run.py [--only GROUP…] [--rounds N] [--baseline FILE] [--output FILE]

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
from importlib import import_module
from pathlib import Path

from rich.console import Console

from engine.orchestrator.environment import prepare
from tests.benchmarks.figures import Earlier, Report

ROUNDS = 5
GROUPS = {
    "sandboxes": "sandboxes",
    "containers": "containers",
    "flows": "whole_flows",
    "stages": "stages",
    "commands": "commands",
    "webhooks": "webhooks",
}
"""By name, the module that measures each: imported once prefect's settings are made, as some import prefect."""


def measure(groups: list[str], rounds: int, console: Console) -> Report:
    report = Report()
    for group in groups:
        console.print(f"[dim]{group} …[/]")
        measured = import_module(f"tests.benchmarks.{GROUPS[group]}").measure(rounds)
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
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=GROUPS, default=list(GROUPS), metavar="GROUP", help=", ".join(GROUPS)
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--baseline", type=Path, help="the JSON of an earlier run")
    parser.add_argument("--output", type=Path, default=Path(".cache/bench.json"))
    arguments = parser.parse_args()
    before = Earlier.read(arguments.baseline or arguments.output)
    if arguments.baseline and not before.found:
        parser.error(f"{arguments.baseline} is no JSON of these benchmarks")
    console = Console()
    with tempfile.TemporaryDirectory() as home:
        os.environ["STEPBOX_HOME"] = home
        prepare(Path(home), None)
        report = measure(arguments.only, arguments.rounds, console)
    report.show(console, before)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report.document(), indent=1) + "\n")
    console.print(f"[dim]written to {arguments.output}[/]")


if __name__ == "__main__":
    main()

"""What people read on the terminal: colours only there, and never with ``NO_COLOR``."""

import json
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.errors import InvalidFlowError, Problem, StepboxError
from flows.values import Json, RunStatus, StepStatus
from ui.cli.options import Output

STYLES = {
    "succeeded": ("✓", "green"),
    "failed": ("✗", "red"),
    "timed_out": ("✗", "red"),
    "out_of_memory": ("✗", "red"),
    "limit_exceeded": ("✗", "red"),
    "killed": ("✗", "red"),
    "cancelled": ("■", "yellow"),
    "skipped": ("–", "bright_black"),
    "waiting": ("…", "yellow"),
    "queued": ("…", "bright_black"),
    "running": ("▸", "cyan"),
}


def out() -> Console:
    """The console on standard output; not wrapped where it isn't a terminal."""
    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    """The console on standard error."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(document: Json) -> None:
    """Print one JSON document on standard output: indented on a terminal, else on one line."""
    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(json.dumps(document, indent=indent, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def styled(status: RunStatus | StepStatus | str) -> Text:
    """A status with its mark and colour."""
    mark, style = STYLES[str(status)]
    return Text(f"{mark} {status}", style=style)


def show_error(problem: StepboxError, output: Output) -> None:
    """Show an error: on standard error for people, as a JSON document on standard output for programs."""
    if output is Output.JSON:
        error: dict[str, Json] = {"code": problem.code, "message": problem.message, "fix": problem.fix}
        if isinstance(problem, InvalidFlowError):
            error["problems"] = [problem_document(one) for one in problem.problems]
        print_json({"error": error})
    elif isinstance(problem, InvalidFlowError):
        show_problems(problem.problems)
    else:
        console = err()
        console.print(f"[bold red]error[/] [dim]{problem.code}[/]: {escape(problem.message)}")
        if problem.fix:
            console.print(f"  [green]fix:[/] {escape(problem.fix)}")


def problem_document(problem: Problem) -> dict[str, Json]:
    """A problem of a definition as JSON."""
    return {
        "file": problem.path,
        "line": problem.line,
        "column": problem.column,
        "code": problem.code,
        "message": problem.message,
        "fix": problem.fix,
    }


def show_problems(problems: Iterable[Problem]) -> None:
    """Show what is wrong with a definition, one place after the other, on standard error."""
    console = err()
    for problem in problems:
        place = f"{problem.path}:{problem.line}:{problem.column}"
        console.print(f"[bold]{escape(place)}[/]: [red]{problem.code}[/]: {escape(problem.message)}")
        console.print(f"  [green]fix:[/] {escape(problem.fix)}")


def duration(seconds: float) -> str:
    """A length of time as people write it: ``8 ms``, ``1.24 s``, ``2 m 05 s``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02d} s"


def table(*columns: str) -> Table:
    """A plain table with a heading line."""
    grid = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        grid.add_column(column, overflow="fold")
    return grid

"""What people read on the terminal: colours only there, and never with ``NO_COLOR``."""

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from flows.errors import InvalidFlowError, Problem, StepboxError
from ui.cli.options import Output
from ui.cli.streams import Stream

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from flows.values import Json, RunStatus, StepStatus

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
    "approved": ("✓", "green"),
    "rejected": ("✗", "red"),
    "withdrawn": ("■", "yellow"),
    "queued": ("…", "bright_black"),
    "running": ("▸", "cyan"),
    "abandoned": ("▸", "yellow"),
    "pending": ("…", "yellow"),
    "started": ("✓", "green"),
    "filtered": ("–", "bright_black"),
    "deduplicated": ("–", "bright_black"),
    "dead": ("✗", "red"),
}

_TURNS = "\u202a-\u202e\u2066-\u2069"
"""Turn the direction of writing, so that text looks like another."""
_CONTROL = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_TURNS}\ud800-\udfff]")
_JSON_CONTROL = re.compile(f"[\x7f-\x9f{_TURNS}]")


def out() -> "Console":
    """The console on standard output; not wrapped where it isn't a terminal."""
    from rich.console import Console

    return Console(file=Stream("stdout").as_file(), highlight=False, soft_wrap=True, emoji=False)


def err() -> "Console":
    """The console on standard error."""
    from rich.console import Console

    return Console(file=Stream("stderr").as_file(), highlight=False, soft_wrap=True, emoji=False)


def plain(text: str) -> str:
    r"""Text from elsewhere as a terminal may show it: what would command the terminal is written out, as ``\x1b``."""
    return _CONTROL.sub(_written_out, text)


def literal(text: str) -> str:
    """Text from elsewhere within markup: :func:`plain`, and no markup itself."""
    from rich.markup import escape

    return escape(plain(text))


def json_text(document: "Json", *, indent: int | None = None, ascii_only: bool = False) -> str:
    """JSON that a terminal may show: other characters of command than those JSON escapes are escaped as well."""
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    return _JSON_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class _Answer:
    """Whether a document has been printed, of which a command prints one."""

    given: ClassVar[bool] = False


def answered() -> bool:
    """Whether this command has printed its document."""
    return _Answer.given


def print_json(document: "Json") -> None:
    """Print one JSON document on standard output: indented on a terminal, else on one line."""
    _Answer.given = True
    stream = Stream("stdout")
    unicode = stream.encoding.lower().replace("-", "") == "utf8"
    write(json_text(document, indent=2 if stream.isatty() else None, ascii_only=not unicode) + "\n")


def print_output(output: "Json") -> None:
    """Print the output of a run: in colour on a terminal."""
    console = out()
    if not console.is_terminal:
        print_json(output)
        return
    from rich.highlighter import JSONHighlighter
    from rich.text import Text

    text = Text(json_text(output, indent=2))
    JSONHighlighter().highlight(text)
    console.print(text)


def write(text: str, *, to: str = "stdout") -> None:
    """Write text as it is."""
    stream = Stream("stderr" if to == "stderr" else "stdout")
    stream.write(text)
    stream.flush()


def styled(status: "RunStatus | StepStatus | str") -> "Text":
    """A status with its mark and colour."""
    from rich.text import Text

    mark, style = STYLES[str(status)]
    return Text(f"{mark} {status}", style=style)


def show_error(problem: StepboxError, output: Output) -> None:
    """Show an error: on standard error for people, as a JSON document on standard output for programs."""
    if output is Output.JSON:
        print_json({"error": error_document(problem)})
    elif isinstance(problem, InvalidFlowError):
        show_problems(problem.problems)
    else:
        console = err()
        console.print(f"[bold red]error[/] [dim]{problem.code}[/]: {literal(problem.message)}")
        if problem.fix:
            console.print(f"  [green]fix:[/] {literal(problem.fix)}")


def error_document(problem: StepboxError) -> "dict[str, Json]":
    """An error of a call as JSON."""
    error: dict[str, Json] = {"code": problem.code, "message": problem.message, "fix": problem.fix}
    if isinstance(problem, InvalidFlowError):
        from engine.documents import problem_document

        error["problems"] = [problem_document(one) for one in problem.problems]
    return error


def show_problems(problems: Iterable[Problem]) -> None:
    """Show what is wrong with a definition, one place after the other, on standard error."""
    console = err()
    for problem in problems:
        place = f"{problem.path}:{problem.line}:{problem.column}"
        console.print(f"[bold]{literal(place)}[/]: [red]{problem.code}[/]: {literal(problem.message)}")
        console.print(f"  [green]fix:[/] {literal(problem.fix)}")


def duration(seconds: float) -> str:
    """A length of time as people write it: ``8 ms``, ``1.24 s``, ``2 m 05 s``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02d} s"


def size(count: int) -> str:
    """A number of bytes as people write it: ``812 B``, ``1.4 MB``."""
    if count < 1000:  # noqa: PLR2004 - a kilobyte
        return f"{count} B"
    amount, units = count / 1000, iter(("kB", "MB", "GB"))
    unit = next(units)
    while amount >= 999.95 and unit != "GB":  # noqa: PLR2004 - what would be shown as 1000.0
        amount, unit = amount / 1000, next(units)
    return f"{amount:.1f} {unit}"


def table(*columns: str) -> "Table":
    """A plain table with a heading line."""
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        grid.add_column(column, overflow="fold")
    return grid


def _written_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004 - two digits' end

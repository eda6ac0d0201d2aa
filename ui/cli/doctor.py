"""``stepbox doctor``: does this machine hold what Stepbox promises?"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from ui.cli.doors import leave
from ui.cli.options import Output, OutputOption
from ui.cli.show import err, out, plain, print_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from engine.diagnosis import Diagnosis, RunnerDiagnosis, Tried


class RunnerChoice(StrEnum):
    """The runners that can be asked about."""

    DOCKER = "docker"
    NSJAIL = "nsjail"


Row = tuple[str, str, Sequence["Text"]]
"""A state, a name, and what is said of it: one text a line."""

STATES = {
    "enforced": ("✓", "green"),
    "watched": ("!", "yellow"),
    "missing": ("✗", "red"),
    "absent": ("–", "bright_black"),
    "ok": ("✓", "green"),
    "warning": ("!", "yellow"),
    "failed": ("✗", "red"),
}
HEADINGS = {
    "machine": "The machine",
    "network": "The network",
    "privileges": "Privileges",
    "limits": "Limits",
    "channel": "What Stepbox takes from code",
    "remains": "Other sandboxes, and afterwards",
}


def doctor(
    runner: Annotated[
        RunnerChoice | None, typer.Option(help="Examine this one only, as if it were the one in use; else all.")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Prove each guarantee of the sandbox on this machine by trying to break it, and say what else steps need.

    A guarantee is enforced, watched (looked at often, and ended when it is passed) or missing, with the command that
    fixes it. Exits with 3 where one is missing or the isolation is weaker than STEPBOX_MIN_ISOLATION, with 1 where
    something else that steps need doesn't work, else with 0.

    Example: `stepbox doctor --output json`
    """

    async def work() -> int:
        from engine.bootstrap import open_service

        async with open_service() as service:
            with _progress() as notice:
                diagnosis = await service.diagnose(notice, runner=None if runner is None else runner.value)
        if output is Output.JSON:
            print_json(diagnosis.document())
        else:
            _show(diagnosis)
        return diagnosis.exit_status

    leave(work, output)


@contextmanager
def _progress() -> "Iterator[Callable[[Tried], None]]":
    """Shows on a terminal what is being tried."""
    console = err()
    if not console.is_terminal:
        yield lambda _tried: None
        return
    with console.status("trying to break the sandbox") as status:
        yield lambda tried: status.update(
            f"trying to break the sandbox: {tried.runner} {tried.done}/{tried.total} [dim]{tried.proof.guarantee.id}[/]"
        )


def _show(diagnosis: "Diagnosis") -> None:
    from rich.text import Text

    console, fixes = out(), _Fixes()
    _print(console, Text(plain(_versions(diagnosis)), style="dim"))
    for runner in sorted(diagnosis.runners, key=lambda runner: not runner.used):
        _show_runner(console, runner, fixes)
    console.print("\n[bold]What else steps need[/]")
    rows = [(check.state, check.id, [Text(plain(check.message)), *fixes.of(check.fix)]) for check in diagnosis.checks]
    _print_rows(console, rows, _width(diagnosis))
    console.print()
    for line in _verdict(diagnosis):
        _print(console, line)


class _Fixes:
    """Shows a fix in full once, since one may be that of several things."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def of(self, fix: str | None) -> "list[Text]":
        from rich.text import Text

        if fix is None:
            return []
        told = "as above" if fix in self._shown else plain(fix)
        self._shown.add(fix)
        return [Text.assemble(("fix: ", "green"), told)]


def _show_runner(console: "Console", runner: "RunnerDiagnosis", fixes: _Fixes) -> None:
    from rich.text import Text

    isolation = f"isolation: {runner.isolation}, " if runner.isolation else ""
    console.print(f"\n[bold]{runner.name}[/] [dim]{isolation}{'in use' if runner.used else 'not in use'}[/]")
    if runner.refused is not None:
        state = "missing" if runner.used else "absent"
        lines = [Text(plain(runner.refused.message)), *fixes.of(runner.refused.fix)]
        _print_rows(console, [(state, "", lines)], 0)
        return
    width = max(len(proof.guarantee.id) for proof in runner.proofs)
    for subject, proofs in groupby(runner.proofs, key=lambda proof: proof.guarantee.subject):
        console.print(f"\n[bold]{HEADINGS[subject]}[/]")
        rows = []
        for proof in proofs:
            lines = [Text(plain(proof.evidence))]
            if proof.verdict == "missing":
                lines.append(Text(f"promised: {proof.guarantee.promise}", style="dim"))
            rows.append((proof.verdict, proof.guarantee.id, [*lines, *fixes.of(proof.fix)]))
        _print_rows(console, rows, width)


def _print_rows(console: "Console", rows: Sequence[Row], width: int) -> None:
    """Print rows in columns, folded to the terminal; elsewhere each line whole, for programs that look for words."""
    from rich.table import Table
    from rich.text import Text

    if not console.is_terminal:
        for state, name, lines in rows:
            mark, style = STATES[state]
            head = Text.assemble((f"{mark} {state:8}", style), f"  {name:{width}}  " if width else "  ")
            console.print(head + lines[0])
            for line in lines[1:]:
                console.print(Text(" " * len(head)) + line)
        return
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, min_width=width)
    grid.add_column(overflow="fold")
    for state, name, lines in rows:
        mark, style = STATES[state]
        grid.add_row(Text(f"{mark} {state:8}", style=style), name, lines[0])
        for line in lines[1:]:
            grid.add_row("", "", line)
    console.print(grid, soft_wrap=False)


def _print(console: "Console", text: "Text") -> None:
    console.print(text, soft_wrap=not console.is_terminal)


def _width(diagnosis: "Diagnosis") -> int:
    """That of the names of guarantees, so that all columns stand in line."""
    names = [proof.guarantee.id for runner in diagnosis.runners for proof in runner.proofs]
    return max(map(len, [*names, *(check.id for check in diagnosis.checks)]))


def _versions(diagnosis: "Diagnosis") -> str:
    known = {name: version for name, version in diagnosis.versions.items() if version}
    system = f"{known.pop('system', 'Linux')}, Linux {known.pop('kernel')} {known.pop('architecture')}"
    return f"{', '.join(f'{name} {version}' for name, version in known.items())}; {system}"


def _verdict(diagnosis: "Diagnosis") -> "Iterator[Text]":
    """The last line: what all of it comes to; before it, what else keeps steps from running."""
    from rich.text import Text

    used = diagnosis.used
    broken = [check.id for check in diagnosis.checks if check.state == "failed"]
    if broken:
        yield Text(f"✗ doesn't work: {', '.join(broken)}", style="red")
    if diagnosis.unmet is not None:
        yield Text.assemble(("fix: ", "green"), plain(diagnosis.unmet.fix or ""))
        yield Text(f"✗ refused: {plain(diagnosis.unmet.message)}", style="bold red")
    elif used.refused is not None:
        yield Text(f"✗ {used.name} starts no sandbox here, so steps that run code are refused", style="bold red")
    elif used.verdict == "missing":
        names = ", ".join(proof.guarantee.id for proof in used.proofs if proof.verdict == "missing")
        count = f"{used.count('missing')} of {len(used.proofs)} guarantees"
        yield Text(f"✗ {used.name} misses {count}: {names}", style="bold red")
    elif used.verdict == "watched":
        names = ", ".join(proof.guarantee.id for proof in used.proofs if proof.verdict == "watched")
        yield Text(
            f"! {used.name} enforces {used.count('enforced')} guarantees and watches {names}", style="bold yellow"
        )
    else:
        yield Text(f"✓ {used.name} enforces all of its {len(used.proofs)} guarantees here", style="bold green")

"""``stepbox init``: make an installation here."""

from typing import Annotated

import typer
from rich.markup import escape

from engine.bootstrap import initialise
from engine.progress import Notice, Progress
from ui.cli.doors import leave
from ui.cli.options import Output, OutputOption
from ui.cli.show import err, out, print_json


class NoticeView:
    """Shows what is being set up."""

    def notice(self, progress: Progress) -> None:
        if isinstance(progress, Notice):
            err().print(f"[dim]{escape(progress.message)}[/]")


def init(
    example: Annotated[
        str | None, typer.Option(metavar="NAME", help="Also copy this flow of the library here; `list` names them.")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make an installation under STEPBOX_HOME (default ./.stepbox) and the interpreter that Python steps run in.

    Safe to repeat: what is there stays.

    Example: `stepbox init --example close_stale_tasks`
    """

    async def work() -> int:
        made = await initialise(NoticeView(), example=example)
        if output is Output.JSON:
            print_json(made.document())
            return 0
        console = out()
        if made.examples:
            for name, description in made.examples.items():
                console.print(f"[bold]{name}[/]  {escape(description)}")
            return 0
        console.print(f"[green]✓[/] home         {escape(str(made.home))}")
        console.print(f"[green]✓[/] database     {escape(made.database)}")
        console.print(f"[green]✓[/] interpreter  {escape(str(made.interpreter))}")
        for path in made.copied:
            console.print(f"[green]✓[/] example      {escape(str(path))}")
        if made.copied:
            console.print(f"\nRun it: [bold]stepbox run {escape(str(made.copied[0]))}[/]")
        return 0

    leave(work, output)

"""``stepbox init``: make an installation here."""

from typing import Annotated

import typer

from ui.cli.doors import leave
from ui.cli.options import Output, OutputOption
from ui.cli.show import err, literal, out, print_json


def init(
    example: Annotated[
        str | None, typer.Option(metavar="NAME", help="Also copy this flow of the library here; `list` names them.")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make an installation under STEPBOX_HOME (default ./.stepbox) and the interpreter that Python steps run in.

    Safe to repeat: what is there stays, and files of an example that differ from yours are named.

    Example: `stepbox init --example close_stale_tasks`
    """

    async def work() -> int:
        from engine.bootstrap import initialise
        from ui.cli.progress import PlainView

        made = await initialise(PlainView(err()), example=example)
        if output is Output.JSON:
            print_json(made.document())
            return 0
        console = out()
        if made.examples:
            width = max(map(len, made.examples))
            for name, description in made.examples.items():
                console.print(f"[bold]{name:<{width}}[/]  {literal(description)}")
            return 0
        console.print(f"[green]✓[/] home         {literal(str(made.home))}")
        console.print(f"[green]✓[/] database     {literal(made.database)}")
        console.print(f"[green]✓[/] interpreter  {literal(str(made.interpreter))}")
        for path in made.copied:
            console.print(f"[green]✓[/] example      {literal(str(path))}")
        for path in made.kept:
            console.print(
                f"[yellow]–[/] kept         {literal(str(path))}  [dim]yours, it differs from the library's[/]"
            )
        if example is not None:
            console.print(f"\nRun it: [bold]stepbox run {example}.yaml[/]")
        return 0

    leave(work, output)

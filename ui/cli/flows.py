"""``stepbox flows``: the flows that the installation knows."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ui.cli.doors import leave
from ui.cli.options import Output, OutputOption, once, read_flow
from ui.cli.show import literal, out, plain, print_json, styled, table, write

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from engine.service import FlowText

app = typer.Typer(help="The flows that the installation knows.", no_args_is_help=True)


@app.command("list")
def list_(output: OutputOption = Output.TEXT) -> None:
    """List the flows, each with its current version and its last run.

    Example: `stepbox flows list`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.documents import flow_document

        async with open_service() as service:
            summaries = await service.flows()
        if output is Output.JSON:
            print_json([flow_document(summary) for summary in summaries])
            return 0
        grid = table("FLOW", "VERSION", "UPDATED", "LAST RUN")
        for summary in summaries:
            last = "never" if summary.last_run is None else styled(summary.last_run.status)
            grid.add_row(summary.flow, str(summary.number), f"{summary.updated_at:%Y-%m-%d %H:%M}", last)
        out().print(grid if summaries else "[dim]no flows yet: run one, or `stepbox flows apply FLOW.yaml`[/]")
        return 0

    leave(work, output)


@app.command()
def show(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="The flow's name.")], output: OutputOption = Output.TEXT
) -> None:
    """Show the current version of a flow as it was written.

    Example: `stepbox flows show close_stale_tasks`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.documents import version_document

        async with open_service() as service:
            version = await service.flow(flow)
        if output is Output.JSON:
            print_json(version_document(version))
        else:
            write(plain(version.text).removesuffix("\n") + "\n")
        return 0

    leave(work, output)


@app.command()
def apply(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Flow files.")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Keep flows in the installation, so that other flows can start them: all of the files, or none.

    Example: `stepbox flows apply flows/*.yaml`
    """

    def work() -> "Coroutine[None, None, int]":
        once(*files)
        return _apply([read_flow(file) for file in files], output)

    leave(work, output)


async def _apply(texts: "Sequence[FlowText]", output: Output) -> int:
    from engine.bootstrap import open_service
    from engine.documents import version_document

    async with open_service() as service:
        versions = await service.apply(texts)
    if output is Output.JSON:
        print_json([version_document(version) for version in versions])
    else:
        for version in versions:
            out().print(f"[green]✓[/] {literal(version.flow)} [dim]version {version.number}[/]")
    return 0

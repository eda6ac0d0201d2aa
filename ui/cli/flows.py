"""``stepbox flows``: the flows that the installation knows."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ui.cli.doors import leave
from ui.cli.options import STANDARD_INPUT, Output, OutputOption, once, read_flow
from ui.cli.show import duration, literal, out, plain, print_json, styled, table, write

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from datetime import datetime

    from engine.service import FlowText
    from engine.upcoming import Upcoming
    from flows.definition import Definition

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


@app.command("next")
def next_(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="The flow's name, or a flow file; `-`: standard input.")],
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many times.")] = 5,
    output: OutputOption = Output.TEXT,
) -> None:
    """List when the schedules of a flow come due next, each time on the clock of its zone.

    Example: `stepbox flows next close_stale_tasks.yaml --count 10`
    """

    def work() -> "int | Coroutine[None, None, int]":
        path = Path(flow)
        if path == STANDARD_INPUT or path.suffix in {".yaml", ".yml"} or path.is_file():
            from engine.bootstrap import language

            text = read_flow(path)
            return _next(language().load_text(text.text, path=text.path, directory=text.directory), count, output)
        return _next_of_stored(flow, count, output)

    leave(work, output)


async def _next_of_stored(flow: str, count: int, output: Output) -> int:
    from engine.bootstrap import language, open_service

    async with open_service() as service:
        version = await service.flow(flow)
    return _next(language().load_stored(version.text, dict(version.files), path=flow), count, output)


def _next(definition: "Definition", count: int, output: Output) -> int:
    from datetime import UTC, datetime

    from engine.documents import upcoming_document
    from engine.records import DEFAULT_WORKSPACE
    from engine.upcoming import upcoming

    now = datetime.now(UTC)
    times = upcoming(definition, workspace=DEFAULT_WORKSPACE, after=now, count=count)
    if output is Output.JSON:
        print_json([upcoming_document(time) for time in times])
        return 0
    grid = table("TRIGGER", "TIME", "ZONE", "IN")
    for time in times:
        local = time.scheduled_at.astimezone(time.zone)
        jitter = (time.due_at - time.scheduled_at).total_seconds()
        later = f" [dim]+{duration(jitter)}[/]" if jitter else ""
        grid.add_row(time.trigger, f"{local:%a} {local.isoformat(sep=' ')}{later}", time.zone.key, _until(time, now))
    out().print(grid if times else "[dim]no schedule of the flow comes due any more[/]")
    return 0


def _until(time: "Upcoming", now: "datetime") -> str:
    """How long it is until then, roughly: ``3 d 4 h``."""
    minutes, seconds = divmod(round((time.due_at - now).total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")]
    first = next((position for position, (amount, _) in enumerate(parts) if amount), len(parts) - 1)
    return " ".join(f"{amount} {unit}" for amount, unit in parts[first : first + 2] if amount) or "now"

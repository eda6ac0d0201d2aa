"""``stepbox flows``: the flows that the installation knows."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.errors import InvalidCallError
from ui.cli.doors import leave
from ui.cli.options import STANDARD_INPUT, Output, OutputOption, once, read_flow
from ui.cli.show import duration, err, literal, out, plain, print_json, styled, table, write

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from datetime import datetime

    from engine.service import AppliedFlow, FlowText
    from engine.upcoming import Upcoming
    from flows.definition import Definition

app = typer.Typer(help="The flows that the installation knows.", no_args_is_help=True)


FlowArgument = Annotated[str, typer.Argument(metavar="FLOW", help="The flow's name.")]


@app.command("list")
def list_(output: OutputOption = Output.TEXT) -> None:
    """List the flows, each with its current version and its last run.

    Example: `stepbox flows list`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.documents import flow_document

        async with open_service() as service:
            summaries = (await service.flows()).items
        if output is Output.JSON:
            print_json([flow_document(summary) for summary in summaries])
            return 0
        grid = table("FLOW", "STATE", "VERSION", "UPDATED", "LAST RUN")
        styles = {"enabled": "green", "disabled": "yellow", "draft": "dim"}
        for summary in summaries:
            last = "never" if summary.last_run is None else styled(summary.last_run.status)
            state = f"[{styles[summary.state]}]{summary.state}[/]"
            grid.add_row(summary.flow, state, str(summary.number), f"{summary.updated_at:%Y-%m-%d %H:%M}", last)
        out().print(grid if summaries else "[dim]no flows yet: run one, or `stepbox flows apply FLOW.yaml`[/]")
        return 0

    leave(work, output)


@app.command()
def show(flow: FlowArgument, output: OutputOption = Output.TEXT) -> None:
    """Show the current version of a flow as it was written.

    Example: `stepbox flows show close_stale_tasks`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.documents import detail_document

        async with open_service() as service:
            detail = await service.flow(flow)
        if output is Output.JSON:
            print_json(detail_document(detail))
        else:
            write(plain(detail.version.text).removesuffix("\n") + "\n")
        return 0

    leave(work, output)


@app.command()
def versions(flow: FlowArgument, output: OutputOption = Output.TEXT) -> None:
    """List the versions of a flow, the newest first.

    Example: `stepbox flows versions close_stale_tasks`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.documents import version_document

        async with open_service() as service:
            detail = await service.flow(flow)
            page = await service.flow_versions(flow, limit=1000)
        if output is Output.JSON:
            print_json([version_document(version) for version in page.items])
            return 0
        grid = table("VERSION", "CREATED", "DIGEST", "FILES")
        for version in page.items:
            current = "[green]●[/]" if version.number == detail.version.number else " "
            files = ", ".join(sorted(version.files))
            created = f"{version.created_at:%Y-%m-%d %H:%M}"
            grid.add_row(f"{current} {version.number}", created, version.digest[:12], literal(files))
        out().print(grid)
        return 0

    leave(work, output)


@app.command()
def apply(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="FILE|DIR…", help="Flow files, and directories with them; `-` reads standard input."),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Put flows into service: all of the files, or none. Subflows that lie beside them come with them.

    What changes is shown. An unchanged flow keeps its version; a run keeps the one that it began with.

    Example: `stepbox flows apply flows/ --dry-run`
    """

    def work() -> "Coroutine[None, None, int]":
        once(*paths)
        return _apply([read_flow(file) for file in _files(paths)], output, dry_run=dry_run)

    leave(work, output)


@app.command()
def disable(flow: FlowArgument, output: OutputOption = Output.TEXT) -> None:
    """Let nothing start a flow until it is enabled again. Runs that go on do so.

    Example: `stepbox flows disable close_stale_tasks`
    """
    _enable(flow, output, enabled=False)


@app.command()
def enable(flow: FlowArgument, output: OutputOption = Output.TEXT) -> None:
    """Let a flow start again.

    Example: `stepbox flows enable close_stale_tasks`
    """
    _enable(flow, output, enabled=True)


@app.command()
def delete(flow: FlowArgument, output: OutputOption = Output.TEXT) -> None:
    """Forget a flow. Its runs stay, with the versions that they ran.

    Example: `stepbox flows delete close_stale_tasks`
    """

    async def work() -> int:
        from engine.bootstrap import open_service

        async with open_service() as service:
            await service.delete_flow(flow)
        if output is Output.JSON:
            print_json({"flow": flow, "deleted": True})
        else:
            out().print(f"[green]✓[/] {literal(flow)} deleted; its runs stay")
        return 0

    leave(work, output)


def _enable(flow: str, output: Output, *, enabled: bool) -> None:
    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.documents import detail_document

        async with open_service() as service:
            detail = await service.enable_flow(flow, enabled=enabled)
        if output is Output.JSON:
            print_json(detail_document(detail))
        else:
            out().print(f"[green]✓[/] {literal(flow)} {detail.state}")
        return 0

    leave(work, output)


def _files(paths: "Sequence[Path]") -> "list[Path]":
    """The flow files among these: a file as it is, of a directory those that hold a flow, however deep."""
    from engine.flow_files import flow_files

    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        flows, others = flow_files(path)
        if not flows:
            raise InvalidCallError(f"{path} has no flow file", fix="name a directory with .yaml files of flows")
        for other in others:
            err().print(f"[dim]skipped {literal(str(other))}: it has no `flow:`[/]")
        found += flows
    return found


async def _apply(texts: "Sequence[FlowText]", output: Output, *, dry_run: bool) -> int:
    from engine.bootstrap import open_service
    from engine.documents import applied_document

    async with open_service() as service:
        applied = await service.apply(texts, dry_run=dry_run)
    if output is Output.JSON:
        print_json([applied_document(one) for one in applied])
        return 0
    for one in applied:
        _show_applied(one)
    if dry_run:
        err().print("[dim]nothing was changed: --dry-run[/]")
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
            directory = text.directory or Path()
            return _next(language().load_text(text.text, path=text.path, directory=directory), count, output)
        return _next_of_stored(flow, count, output)

    leave(work, output)


async def _next_of_stored(flow: str, count: int, output: Output) -> int:
    from engine.bootstrap import open_service

    async with open_service() as service:
        return _show_next(await service.upcoming(flow, count=count), output)


def _next(definition: "Definition", count: int, output: Output) -> int:
    from datetime import UTC, datetime

    from engine.records import DEFAULT_WORKSPACE
    from engine.upcoming import upcoming

    times = upcoming(definition, workspace=DEFAULT_WORKSPACE, after=datetime.now(UTC), count=count)
    return _show_next(times, output)


def _show_next(times: "Sequence[Upcoming]", output: Output) -> int:
    from datetime import UTC, datetime

    from engine.documents import upcoming_document

    now = datetime.now(UTC)
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


def _show_applied(applied: "AppliedFlow") -> None:
    from rich.text import Text

    mark, style = {"created": ("+", "green"), "updated": ("~", "yellow"), "unchanged": ("=", "bright_black")}[
        applied.change
    ]
    version = "" if applied.version is None else f"version {applied.version}"
    line = Text.assemble((f"{mark} {plain(applied.flow)}", f"bold {style}"), f" {applied.change} ", (version, "dim"))
    console = out()
    console.print(line)
    if applied.approval is not None:
        console.print(
            "    [yellow]its `network: full` waits for an admin:[/]", f"stepbox approvals show {applied.approval}"
        )
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for text in applied.diff.splitlines():
        console.print(Text(f"    {plain(text)}", style=styles.get(text[:1], "dim")))

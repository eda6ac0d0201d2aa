"""``stepbox runs``: what ran, how it ended and what it printed."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flows.errors import InvalidCallError, StepboxError
from ui.cli.artifacts import artifacts, download, show_artifacts
from ui.cli.doors import leave
from ui.cli.options import Output, OutputOption, RunArgument, parsed
from ui.cli.run import EXIT_STATUS, show_outcome, show_report, show_waiting, watch_run
from ui.cli.show import (
    duration,
    err,
    error_document,
    literal,
    out,
    plain,
    print_json,
    print_output,
    show_error,
    size,
    styled,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rich.text import Text

    from engine.progress import Observer
    from engine.records import EgressRecord, RunSummary
    from engine.report import RunReport
    from engine.service import Service
    from flows.definition import Definition
    from flows.values import Json, RunStatus

app = typer.Typer(help="What ran, how it ended and what it printed.", no_args_is_help=True)

app.command()(artifacts)
app.command()(download)


@app.command("list")
def list_(
    flow: Annotated[str | None, typer.Option(help="Only runs of this flow.")] = None,
    status: Annotated[str | None, typer.Option(help="Only runs with this status, such as failed.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    output: OutputOption = Output.TEXT,
) -> None:
    """List runs, the newest first.

    Example: `stepbox runs list --status failed --limit 5`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.documents import run_document

        wanted = None if status is None else _status(status)
        async with open_service() as service:
            runs = (await service.runs(flow=flow, status=wanted, limit=limit)).items
        if output is Output.JSON:
            print_json([run_document(run) for run in runs])
            return 0
        grid = table("RUN", "FLOW", "STATUS", "STARTED", "TOOK")
        for run in runs:
            grid.add_row(
                run.id,
                run.flow,
                _status_of(run),
                f"{run.created_at:%Y-%m-%d %H:%M:%S}",
                "" if run.took is None else duration(run.took),
            )
        out().print(grid if runs else "[dim]no runs[/]")
        return 0

    leave(work, output)


@app.command()
def show(run: RunArgument, output: OutputOption = Output.TEXT) -> None:
    """Show a run: its steps, their results and errors, its output, and what its code asked of the network.

    Example: `stepbox runs show 01JD --output json`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.documents import egress_document

        async with open_service() as service:
            report = await service.run_report(run)
            egress = await service.run_egress(run)
        if output is Output.JSON:
            document = {**report.document(), "abandoned": report.run.abandoned}
            print_json({**document, "egress": [egress_document(record) for record in egress]})
        else:
            _show(report)
            _show_egress(egress)
        return 0

    leave(work, output)


@app.command()
def resume(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="RUN", help="Ids, or enough of their beginnings; none: all.")
    ] = None,
    output: OutputOption = Output.TEXT,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress, only the outcome.")] = False,
) -> None:
    """Continue runs that wait, or whose engine has ended: steps that had ended are not done again.

    Without RUN: all that are abandoned or have waited long enough, one after the other. Exit status as of
    `stepbox run`; of several runs, that of the first that did not succeed.

    Example: `stepbox runs resume 01JD`
    """

    async def work() -> int:
        from engine.bootstrap import open_service

        async with open_service() as service:
            if runs and len(runs) == 1:
                return await resume_one(service, runs[0], output, quiet=quiet)
            wanted = runs or [run.id for run in await service.abandoned()]
            return await resume_all(service, wanted, output, quiet=quiet)

    leave(work, output)


async def resume_one(service: "Service", run: str, output: Output, *, quiet: bool) -> int:
    """Resume one run and show how it ends; the exit status."""

    async def go_on(observer: "Observer") -> "RunReport":
        return await service.resume(run, observer)

    return await _see_one(service, await service.definition_of(run), go_on, output, quiet=quiet)


async def _see_one(
    service: "Service",
    definition: "Definition",
    work: "Callable[[Observer], Awaitable[RunReport]]",
    output: Output,
    *,
    quiet: bool,
) -> int:
    """Show one run while it goes on and how it ends; the exit status."""
    import asyncio

    status: int | None = None

    def done(report: "RunReport") -> None:
        nonlocal status
        show_outcome(report, output)
        status = EXIT_STATUS[report.run.status]

    try:
        await watch_run(service, definition, work, done, lines=output is Output.TEXT, quiet=quiet)
    except asyncio.CancelledError:
        if status is None:
            raise
    return status or 0


async def resume_all(service: "Service", runs: "Sequence[str]", output: Output, *, quiet: bool) -> int:
    """Resume one after the other; what goes wrong with one is none of the others' business."""
    statuses: list[int] = []
    documents: list[Json] = []

    def done(report: "RunReport") -> None:
        documents.append(report.document())
        statuses.append(EXIT_STATUS[report.run.status])
        if output is Output.TEXT:
            show_report(report)

    try:
        for run in runs:
            try:
                await _watch(service, run, done, output, quiet=quiet)
            except StepboxError as problem:
                documents.append({"run_id": run, "error": error_document(problem)})
                statuses.append(problem.exit_status)
                if output is Output.TEXT:
                    show_error(problem, output)
    finally:
        if output is Output.JSON:
            print_json(documents)
    if not runs and output is Output.TEXT:
        err().print("[dim]no runs to continue[/]")
    return next((status for status in statuses if status), 0)


async def _watch(
    service: "Service", run: str, done: "Callable[[RunReport], None]", output: Output, *, quiet: bool
) -> None:
    async def go_on(observer: "Observer") -> "RunReport":
        return await service.resume(run, observer)

    definition = await service.definition_of(run)
    await watch_run(service, definition, go_on, done, lines=output is Output.TEXT, quiet=quiet)


@app.command()
def retry(
    run: RunArgument,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="STEP", help="Begin with this step, and do again all that comes after it."),
    ] = None,
    output: OutputOption = Output.TEXT,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress, only the outcome.")] = False,
) -> None:
    """Make a run that has ended again: a new run of the same version and inputs, which goes on where that one failed.

    What had ended before keeps its results and is not executed again. Exit status as of `stepbox run`.

    Example: `stepbox runs retry 01JD --from load`
    """

    async def work() -> int:
        from engine.bootstrap import open_service

        async with open_service() as service:

            async def again(observer: "Observer") -> "RunReport":
                return await service.retry(run, step=from_, observer=observer)

            return await _see_one(service, await service.definition_of(run), again, output, quiet=quiet)

    leave(work, output)


@app.command()
def logs(
    run: RunArgument,
    step: Annotated[str | None, typer.Option(help="Only of this step.")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what the code of a run printed.

    Example: `stepbox runs logs 01JD --step report`
    """

    async def work() -> int:
        from rich.text import Text

        from engine.bootstrap import open_service
        from engine.documents import line_document

        async with open_service() as service:
            lines = (await service.run_logs(run, step=step)).items
        if output is Output.JSON:
            print_json([line_document(line) for line in lines])
            return 0
        console = out()
        for line in lines:
            style = "dim" if line.stream == "stderr" else ""
            at = f"{line.at:%H:%M:%S.%f}"[:-3]
            console.print(Text.assemble((f"{at} ", "dim"), (f"{line.label} │ ", "cyan"), (plain(line.line), style)))
        return 0

    leave(work, output)


@app.command()
def cancel(run: RunArgument, output: OutputOption = Output.TEXT) -> None:
    """Cancel a run, whoever drives it: its steps are killed, then its `finally` runs.

    Asked for once more, that is cut short as well.

    Example: `stepbox runs cancel 01JD`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.documents import run_document

        async with open_service() as service:
            cancelled = await service.cancel(run)
        if output is Output.JSON:
            print_json(run_document(cancelled))
        elif cancelled.status == "cancelled":
            out().print(styled(cancelled.status), f"run {cancelled.id}, which no engine drove")
        else:
            out().print(
                styled(cancelled.status), f"run {cancelled.id} is asked to end; asked once more, it skips `finally`"
            )
        return 0

    leave(work, output)


@app.command()
def prune(
    older_than: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Remove runs that ended longer ago, whatever the settings say."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many runs that are.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Remove what has been kept for as long as STEPBOX_KEEP_RUNS and its like say; a service does so every hour.

    Example: `stepbox runs prune --older-than 30d --dry-run`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from flows.values import parse_duration

        age = None if older_than is None else parsed("--older-than", parse_duration, older_than)
        async with open_service() as service:
            removed = await service.prune(older_than=age, dry_run=dry_run)
        if output is Output.JSON:
            print_json({"removed": not dry_run, **asdict(removed)})
        elif dry_run:
            out().print(f"would remove {_count(removed.runs, 'run')}")
        else:
            more = {"lines": "line", "artifacts": "artifact", "events": "event", "contents": "stored file"}
            counts = [_count(getattr(removed, name), word) for name, word in more.items() if getattr(removed, name)]
            out().print(f"removed {', '.join([_count(removed.runs, 'run'), *counts])}")
        return 0

    leave(work, output)


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def _status(text: str) -> "RunStatus":
    from flows.values import RunStatus

    try:
        return RunStatus(text)
    except ValueError:
        known = ", ".join(status.value for status in RunStatus)
        raise InvalidCallError(f"--status {text} is not a run's status", fix=f"use one of {known}") from None


def _status_of(run: "RunSummary") -> "Text":
    return styled("abandoned" if run.abandoned else run.status)


def _show(report: "RunReport") -> None:
    from rich.text import Text

    console, run = out(), report.run
    console.print(_status_of(run), f"[bold]{run.flow}[/] [dim]run {run.id}, {run.created_at:%Y-%m-%d %H:%M:%S} UTC[/]")
    console.print(f"[dim]acts for {literal(run.principal)}[/]")
    if run.abandoned:
        console.print("its engine has ended before it had")
        console.print(f"[green]fix:[/] stepbox runs resume {run.id}")
    if run.error is not None:
        console.print(f"[red]{literal(run.error.message)}[/]")
        if run.error.fix:
            console.print(f"[green]fix:[/] {literal(run.error.fix)}")
    show_waiting(report, console)
    grid = table("STEP", "STATUS", "TOOK", "ATTEMPTS", "ISOLATION", "RESULT")
    for step_id, step in report.steps.items():
        final = step.final
        if final.error is not None:
            line = f"line {final.error.line}: " if final.error.line else ""
            style = "yellow" if final.status == "waiting" else "red"
            result = Text(plain(line + final.error.message), style=style)
        elif step.queued:
            items = "" if final.queued else f"{_count(step.queued, 'item')} "
            result = Text(f"{items}queued for a code slot", style="yellow")
        else:
            result = Text(plain(_short(final.result)))
        grid.add_row(
            step_id, styled(final.status), duration(final.duration), str(step.attempts), final.isolation or "–", result
        )
    console.print(grid)
    for line in show_artifacts(report):
        console.print(line)
    for image in sorted({step.final.image for step in report.steps.values() if step.final.image}):
        console.print(f"[dim]image {literal(image)}[/]")
    if run.output is not None:
        console.print("[bold]output[/]")
        print_output(run.output)


def _show_egress(records: "Sequence[EgressRecord]") -> None:
    from rich.text import Text

    if not records:
        return
    console = out()
    console.print("[bold]network[/]")
    grid = table("STEP", "DESTINATION", "ADDRESS", "SENT", "RECEIVED", "DECISION")
    for record in records:
        decision = "allowed" if record.allowed else "refused"
        grid.add_row(
            record.label,
            Text(plain(f"{record.host}:{record.port}" if record.port else record.host)),
            record.address or "–",
            "…" if record.sent is None else size(record.sent),
            "…" if record.received is None else size(record.received),
            Text(
                plain(decision if record.reason is None else f"{decision}: {record.reason}"),
                style="green" if record.allowed and record.reason is None else "red",
            ),
        )
    console.print(grid)


def _short(value: object, length: int = 80) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= length else text[: length - 1] + "…"

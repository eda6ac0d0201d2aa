"""``stepbox run``: run a flow here and now."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ui.cli import INTERRUPTED
from ui.cli.artifacts import show_artifacts
from ui.cli.doors import leave
from ui.cli.options import InputOption, InputsOption, Output, OutputOption, once, read_flow, read_inputs, split_inputs
from ui.cli.show import duration, err, literal, print_json, print_output, styled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from rich.console import Console

    from engine.progress import Observer
    from engine.report import RunReport
    from engine.service import FlowText, Service
    from flows.definition import Definition
    from flows.values import Json

EXIT_STATUS = {"succeeded": 0, "failed": 1, "cancelled": INTERRUPTED, "waiting": 4}


def run(
    flow: Annotated[
        Path,
        typer.Argument(
            metavar="FLOW", help="The flow's file, such as flow.yaml, or `-`; or the name of a flow that was applied."
        ),
    ],
    input_: InputOption = None,
    inputs: InputsOption = None,
    output: OutputOption = Output.TEXT,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress, only the outcome.")] = False,
) -> None:
    """Run a flow and show its steps and logs as they happen.

    What looks like a name and is no file here, such as `close_stale_tasks`, is a flow that the installation knows.

    Exit status: 0 succeeded, 1 the run failed, 2 the flow or the call is invalid, 3 a guarantee or limit can't be
    enforced here, 4 parked, 130 interrupted.

    Example: `stepbox run close_stale_tasks.yaml -i status=in_progress --output json`
    """

    def work() -> "Coroutine[None, None, int]":
        once(flow, inputs)
        target = str(flow) if _is_name(flow) else read_flow(flow)
        return _run(target, read_inputs(inputs), split_inputs(input_), output, quiet=quiet)

    leave(work, output)


def _is_name(flow: Path) -> bool:
    from flows.names import NAME

    return NAME.fullmatch(str(flow)) is not None and not flow.exists()


async def _run(
    target: "str | FlowText", given: "dict[str, Json]", pairs: dict[str, str], output: Output, *, quiet: bool
) -> int:
    import asyncio

    from engine.bootstrap import open_service
    from flows.inputs import parse_input

    status: int | None = None

    def done(report: "RunReport") -> None:
        nonlocal status
        show_outcome(report, output)
        status = EXIT_STATUS[report.run.status]

    try:
        async with open_service() as service:
            definition = await service.definition(target) if isinstance(target, str) else service.load(target)
            for name, value in pairs.items():
                given[name] = parse_input(definition.flow.inputs.get(name, {}), value)

            async def run(observer: "Observer") -> "RunReport":
                if isinstance(target, str):
                    return await service.run_known(target, given, observer)
                return await service.run(definition, given, observer, directory=target.directory or Path())

            await watch_run(service, definition, run, done, lines=output is Output.TEXT, quiet=quiet)
    except asyncio.CancelledError:
        # What has been shown stands, however the rest was cut short.
        if status is None:
            raise
    return status or 0


async def watch_run(
    service: "Service",
    definition: "Definition | None",
    run: "Callable[[Observer], Awaitable[RunReport]]",
    done: "Callable[[RunReport], None]",
    *,
    lines: bool,
    quiet: bool,
) -> None:
    """Show a run while it goes on; ``done`` hears how it ended, also where it was cancelled.

    Without its definition, the view shows steps only once they begin.
    """
    import asyncio

    from engine.cancellation import Interruption
    from ui.cli.progress import Watch, progress_view

    with Interruption() as interruption:
        with progress_view(definition, lines=lines, quiet=quiet) as view:
            watch = Watch(view)
            try:
                report = await run(watch)
            except asyncio.CancelledError:
                if watch.run_id is None:
                    raise
                report = await interruption.outlast(service.run_report(watch.run_id))
        done(report)


def show_outcome(report: "RunReport", output: Output) -> None:
    """Show how a run ended, in the form that was asked for."""
    if output is Output.JSON:
        print_json(report.document())
    else:
        show_report(report)


def show_waiting(report: "RunReport", console: "Console") -> None:
    """What a run waits for, and the commands that end that and continue it."""
    if report.run.status != "waiting":
        return
    for step_id, step in report.steps.items():
        error = step.final.error
        if step.final.status == "waiting" and error is not None:
            console.print(f"  step {literal(step_id)} {literal(error.message)}")
            if error.fix:
                console.print(f"  [green]fix:[/] {literal(error.fix)}")
    console.print(f"  [green]continue:[/] stepbox runs resume {report.run.id}")
    console.print("  [dim]a service does so by itself[/]")


def show_report(report: "RunReport") -> None:
    """Show how a run ended, for people: the outcome on standard error, its output on standard output."""
    run, console = report.run, err()
    took = "" if run.took is None else f" in {duration(run.took)}"
    console.print(styled(run.status), f"[bold]{run.flow}[/]{took} [dim]run {run.id}[/]")
    if run.error is not None:
        console.print(f"  {literal(run.error.message)}")
        if run.error.fix:
            console.print(f"  [green]fix:[/] {literal(run.error.fix)}")
    show_waiting(report, console)
    for line in show_artifacts(report):
        console.print(f"  {line}")
    if run.output is not None:
        print_output(run.output)

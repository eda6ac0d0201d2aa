"""``stepbox run``: run a flow here and now."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ui.cli import INTERRUPTED
from ui.cli.doors import leave
from ui.cli.options import InputOption, InputsOption, Output, OutputOption, once, read_flow, read_inputs, split_inputs
from ui.cli.show import duration, err, literal, print_json, print_output, styled

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from engine.report import RunReport
    from engine.service import FlowText
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
    from engine.cancellation import Interruption
    from flows.inputs import parse_input
    from ui.cli.progress import Watch, progress_view

    status: int | None = None
    try:
        async with open_service() as service:
            definition = await service.definition(target) if isinstance(target, str) else service.load(target)
            for name, value in pairs.items():
                given[name] = parse_input(definition.flow.inputs.get(name, {}), value)
            with Interruption() as interruption:
                with progress_view(definition, lines=output is Output.TEXT, quiet=quiet) as view:
                    watch = Watch(view)
                    try:
                        if isinstance(target, str):
                            report = await service.run_known(target, given, watch)
                        else:
                            report = await service.run(definition, given, watch, directory=target.directory or Path())
                    except asyncio.CancelledError:
                        if watch.run_id is None:
                            raise
                        report = await interruption.outlast(service.run_report(watch.run_id))
                if output is Output.JSON:
                    print_json(report.document())
                else:
                    show_report(report)
                status = EXIT_STATUS[report.run.status]
    except asyncio.CancelledError:
        # What has been shown stands, however the rest was cut short.
        if status is None:
            raise
    return status


def show_report(report: "RunReport") -> None:
    """Show how a run ended, for people: the outcome on standard error, its output on standard output."""
    run, console = report.run, err()
    took = "" if run.took is None else f" in {duration(run.took)}"
    console.print(styled(run.status), f"[bold]{run.flow}[/]{took} [dim]run {run.id}[/]")
    if run.error is not None:
        console.print(f"  {literal(run.error.message)}")
        if run.error.fix:
            console.print(f"  [green]fix:[/] {literal(run.error.fix)}")
    if run.output is not None:
        print_output(run.output)

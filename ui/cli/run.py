"""``stepbox run``: run a flow here and now."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from engine.bootstrap import open_service
from engine.progress import NoObserver
from engine.report import RunReport
from engine.service import FlowText
from flows.inputs import parse_input
from flows.values import Json, RunStatus
from ui.cli.doors import leave
from ui.cli.options import InputOption, InputsOption, Output, OutputOption, read_inputs, read_text, split_inputs
from ui.cli.progress import progress_view
from ui.cli.show import duration, err, out, print_json, styled

EXIT_STATUS = {RunStatus.SUCCEEDED: 0, RunStatus.FAILED: 1, RunStatus.CANCELLED: 130, RunStatus.WAITING: 4}


def run(
    flow: Annotated[Path, typer.Argument(metavar="FLOW.yaml", help="The flow's file; `-` reads standard input.")],
    input_: InputOption = None,
    inputs: InputsOption = None,
    output: OutputOption = Output.TEXT,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress, only the outcome.")] = False,
) -> None:
    """Run a flow and show its steps and logs as they happen.

    Exit status: 0 succeeded, 1 the run failed, 2 the flow or the call is invalid, 3 a guarantee or limit can't be
    enforced here, 4 parked, 130 interrupted.

    Example: `stepbox run close_stale_tasks.yaml -i status=in_progress --output json`
    """

    async def work() -> int:
        standard_input = str(flow) == "-"
        text = FlowText(
            text=read_text(flow),
            path="<stdin>" if standard_input else str(flow),
            directory=Path.cwd() if standard_input else flow.parent,
        )
        async with open_service() as service:
            definition = service.load(text)
            given: dict[str, Json] = read_inputs(inputs)
            for name, value in split_inputs(input_).items():
                given[name] = parse_input(definition.flow.inputs.get(name, {}), value)
            if quiet:
                report = await service.run(text, given, NoObserver())
            else:
                with progress_view(definition, lines=output is Output.TEXT) as view:
                    report = await service.run(text, given, view)
        if output is Output.JSON:
            print_json(report.document())
        else:
            show_report(report)
        return EXIT_STATUS[report.run.status]

    leave(work, output)


def show_report(report: RunReport) -> None:
    """Show how a run ended, for people: the outcome on standard error, its output on standard output."""
    run, console = report.run, err()
    took = (
        ""
        if run.started_at is None or run.ended_at is None
        else f" in {duration((run.ended_at - run.started_at).total_seconds())}"
    )
    console.print(styled(run.status), f"[bold]{run.flow}[/]{took} [dim]run {run.id}[/]")
    if run.error is not None:
        console.print(f"  {escape(run.error.message)}")
        if run.error.fix:
            console.print(f"  [green]fix:[/] {escape(run.error.fix)}")
    if run.output is not None:
        out().print_json(data=run.output, ensure_ascii=False) if out().is_terminal else print_json(run.output)

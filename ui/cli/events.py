"""``stepbox events``: what came in, and what became of it."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.errors import InvalidCallError
from ui.cli.doors import leave
from ui.cli.options import Output, OutputOption
from ui.cli.show import err, json_text, literal, out, plain, print_json, styled, table

if TYPE_CHECKING:
    from rich.text import Text

    from engine.deliveries import Accepted, Delivery, DeliveryStatus

app = typer.Typer(help="What came in, and what became of it.", no_args_is_help=True)

EventArgument = Annotated[str, typer.Argument(metavar="EVENT", help="The event's id, or enough of its beginning.")]


@app.command("list")
def list_(
    flow: Annotated[str | None, typer.Option(help="Only what concerns a trigger of this flow.")] = None,
    status: Annotated[
        str | None, typer.Option(help="Only what has become this somewhere: started, filtered, skipped, dead, pending.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    output: OutputOption = Output.TEXT,
) -> None:
    """List events, the newest first, each with what became of it at every trigger that it concerns.

    Example: `stepbox events list --status dead`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.documents import event_document

        wanted = None if status is None else _status(status)
        async with open_service() as service:
            page = await service.events(flow=flow, status=wanted, limit=limit)
        if output is Output.JSON:
            print_json([event_document(each) for each in page.items])
        elif not page.items:
            out().print("[dim]no events[/]")
        else:
            _list(page.items)
            if page.next is not None:
                err().print(f"[dim]there are more: --limit {limit * 5}[/]")
        return 0

    leave(work, output)


@app.command()
def show(event: EventArgument, output: OutputOption = Output.TEXT) -> None:
    """Show an event: what it holds, and why it started a run, or why not.

    Example: `stepbox events show 01JD`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.documents import event_document

        async with open_service() as service:
            found = await service.event(event)
        if output is Output.JSON:
            print_json(event_document(found))
        else:
            _show(found)
        return 0

    leave(work, output)


@app.command()
def redrive(
    event: Annotated[str | None, typer.Argument(metavar="EVENT", help="The event, or one of its deliveries.")] = None,
    flow: Annotated[str | None, typer.Option(help="All that is dead of this flow, instead.")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Try once more what is dead, with the versions that the flows have now. A running service starts the runs.

    Example: `stepbox events redrive --flow close_stale_tasks`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.documents import delivery_document

        if (event is None) == (flow is None):
            raise InvalidCallError("what is to be redriven?", fix="name an event, or a flow by --flow")
        async with open_service() as service:
            done = await service.redrive(event) if event is not None else await service.redrive_flow(str(flow))
        if output is Output.JSON:
            print_json([delivery_document(each) for each in done])
        elif not done:
            out().print("[dim]nothing is dead[/]")
        for each in done if output is Output.TEXT else ():
            out().print(styled("pending"), f"{literal(each.flow)}/{literal(each.trigger_id)} [dim]{each.event_id}[/]")
        return 0

    leave(work, output)


def _status(text: str) -> "DeliveryStatus":
    from engine.deliveries import DeliveryStatus

    try:
        return DeliveryStatus(text)
    except ValueError:
        fix = f"one of {', '.join(each.value for each in DeliveryStatus)}"
        raise InvalidCallError(f"there is no status {text!r}", fix=fix) from None


def _list(events: "tuple[Accepted, ...]") -> None:
    from rich.text import Text

    grid = table("EVENT", "CAME", "TRIGGER", "WHAT BECAME OF IT")
    for column in grid.columns[:2]:
        column.no_wrap = True
    for each in events:
        event = each.event
        came = f"{event.received_at:%m-%d %H:%M:%S}"
        for number, delivery in enumerate(each.deliveries or (None,)):
            place = (event.id, came) if number == 0 else ("", "")
            trigger = plain(event.origin) if delivery is None else f"{delivery.flow}/{delivery.trigger_id}"
            outcome = Text("no trigger is for it", style="dim") if delivery is None else _outcome(delivery)
            grid.add_row(*place, trigger, outcome)
    out().print(grid)


def _show(found: "Accepted") -> None:
    from rich.text import Text

    console, event = out(), found.event
    console.print(f"[bold]{literal(event.origin)}[/] [dim]{event.id}[/]")
    grid = table("", "")
    grid.show_header = False
    grid.add_row("came", f"{event.received_at:%Y-%m-%d %H:%M:%S} UTC")
    if event.key is not None:
        grid.add_row("key", Text(plain(event.key)))
    if found.repeats:
        times = "once" if found.repeats == 1 else f"{found.repeats:,} times"
        last = f", last at {found.repeated_at:%Y-%m-%d %H:%M:%S} UTC" if found.repeated_at else ""
        grid.add_row("again", f"{times}{last}: deduplicated, which started nothing more")
    if event.causes:
        grid.add_row("because of", Text(plain(" → ".join(event.causes))))
    grid.add_row("data", Text(json_text(dict(event.data), indent=2)))
    console.print(grid)
    if not found.deliveries:
        console.print("[dim]no trigger of an enabled flow was for it when it came[/]")
    for delivery in found.deliveries:
        console.print(Text.assemble((f"{delivery.flow}/{delivery.trigger_id} ", "bold"), _outcome(delivery)))
        if delivery.error is not None and delivery.error.fix:
            console.print(f"  [green]fix:[/] {literal(delivery.error.fix)}")
        if delivery.run_id is not None:
            console.print(f"  [dim]stepbox runs show {delivery.run_id}[/]")
        if delivery.status == "dead":
            console.print(f"  [dim]then: stepbox events redrive {delivery.id}[/]")


def _outcome(delivery: "Delivery") -> "Text":
    from rich.text import Text

    text = styled(delivery.status.value)
    reason = delivery.reason or (delivery.error.message if delivery.error else None) or delivery.run_id
    if delivery.status == "pending" and delivery.due_at is not None and delivery.attempts:
        reason = f"attempt {delivery.attempts} failed: {reason}; again at {delivery.due_at:%H:%M:%S} UTC"
    return Text.assemble(text, " ", plain(reason or ""))

"""``stepbox approvals``, ``approve`` and ``reject``: what runs wait for people to decide."""

from typing import TYPE_CHECKING, Annotated

import typer

from ui.cli.doors import leave
from ui.cli.options import Output, OutputOption
from ui.cli.show import literal, out, plain, print_json, styled, table

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from engine.records import Approval, Decision

app = typer.Typer(help="What runs wait for people to decide.", no_args_is_help=True)

TargetArgument = Annotated[
    str,
    typer.Argument(metavar="RUN|APPROVAL", help="An approval's id, or that of the run; or enough of its beginning."),
]
CommentOption = Annotated[str | None, typer.Option(help="Why; it is kept with the decision.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Then continue the run, here and now.")]


@app.command("list")
def list_(
    run: Annotated[str | None, typer.Option(help="Only those of this run and its subflows.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Those that are decided, too.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """List what runs wait for people to decide, the newest first.

    Example: `stepbox approvals list --run 01JD`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.documents import approval_document

        async with open_service() as service:
            found = (await service.approvals(run=run, undecided=not all_)).items
        if output is Output.JSON:
            print_json([approval_document(one) for one in found])
            return 0
        if not found:
            out().print("[dim]nothing waits for a decision[/]")
        for one in found:
            _show(one)
        return 0

    leave(work, output)


def approve(
    target: TargetArgument,
    value: Annotated[
        list[str] | None, typer.Option("--value", metavar="NAME=VALUE", help="A value of the form; repeatable.")
    ] = None,
    comment: CommentOption = None,
    resume: ResumeOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say yes to what a run asks. Without --resume it goes on with `stepbox runs resume`.

    Example: `stepbox approve 01JD --value channel=beta --comment "as agreed" --resume`
    """

    def work() -> "Coroutine[None, None, int]":
        from ui.cli.options import split_inputs

        return _decide(target, "approved", split_inputs(value), comment, output, resume=resume)

    leave(work, output)


def reject(
    target: TargetArgument,
    comment: CommentOption = None,
    resume: ResumeOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say no to what a run asks: the step fails. Without --resume the run goes on with `stepbox runs resume`.

    Example: `stepbox reject 01JD --comment "not before Monday" --resume`
    """

    def work() -> "Coroutine[None, None, int]":
        return _decide(target, "rejected", {}, comment, output, resume=resume)

    leave(work, output)


async def _decide(
    target: str, decision: "Decision", pairs: dict[str, str], comment: str | None, output: Output, *, resume: bool
) -> int:
    from engine.bootstrap import open_service
    from engine.documents import approval_document
    from ui.cli.runs import resume_one

    async with open_service() as service:
        decided, run = await service.decide(target, decision, pairs=pairs, comment=comment)
        if output is Output.JSON and not resume:
            print_json({**approval_document(decided), "resume": run})
        if output is Output.TEXT:
            out().print(styled(decision), f"[bold]{literal(decided.message)}[/] [dim]{decided.label}, {decided.id}[/]")
            if not resume:
                out().print(f"  [green]continue:[/] stepbox runs resume {run}")
        return await resume_one(service, run, output, quiet=False) if resume else 0


def _show(one: "Approval") -> None:
    import json

    from rich.text import Text

    console = out()
    console.print(styled(one.decision or "waiting"), f"[bold]{literal(one.message)}[/] [dim]{one.id}[/]")
    grid = table("", "")
    grid.show_header = False
    grid.add_row("run", f"{one.run_id}, step {one.label}")
    grid.add_row("asked", f"{one.requested_at:%Y-%m-%d %H:%M:%S} UTC")
    if one.details is not None:
        grid.add_row("what", Text(plain(json.dumps(one.details, ensure_ascii=False, indent=2))))
    if one.form is not None:
        grid.add_row("values", Text(plain(json.dumps(one.form, ensure_ascii=False))))
    if one.approvers:
        grid.add_row("by", Text(plain(", ".join(one.approvers))))
    if one.decided_at is not None:
        by = f" by {one.decided_by}" if one.decided_by else ""
        grid.add_row("decided", Text(plain(f"{one.decided_at:%Y-%m-%d %H:%M:%S} UTC{by}")))
        if one.comment:
            grid.add_row("comment", Text(plain(one.comment)))
    elif one.expires_at is not None:
        outcome = "it counts as a no" if one.on_timeout == "reject" else "the step times out"
        grid.add_row("until", f"{one.expires_at:%Y-%m-%d %H:%M:%S} UTC, then {outcome}")
    console.print(grid)

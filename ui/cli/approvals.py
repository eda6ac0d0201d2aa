"""``stepbox approvals``, ``approve`` and ``reject``: what runs wait for people to decide."""

from typing import TYPE_CHECKING, Annotated

import typer

from ui.cli.doors import leave
from ui.cli.options import Output, OutputOption
from ui.cli.questions import show_detail, show_question
from ui.cli.show import err, literal, out, print_json, styled, write

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from engine.questions import Decision

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
            show_question(one)
        return 0

    leave(work, output)


@app.command()
def show(target: TargetArgument, output: OutputOption = Output.TEXT) -> None:
    """Show exactly what will happen, who may decide it, and who was told.

    Example: `stepbox approvals show 01JD`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.documents import approval_detail_document

        async with open_service() as service:
            detail = await service.approval(target)
        if output is Output.JSON:
            print_json(approval_detail_document(detail))
        else:
            show_detail(detail)
        return 0

    leave(work, output)


@app.command()
def link(
    target: TargetArgument,
    for_: Annotated[str, typer.Option("--for", metavar="PRINCIPAL", help="Who may decide by it.")],
    expires: Annotated[str | None, typer.Option(help="After how long it opens nothing, such as 1h.")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Print a signed link by which somebody decides without a token. Whoever has it may decide in their name.

    Example: `stepbox approvals link 01JD --for ann --expires 1h`
    """

    async def work() -> int:
        from engine.bootstrap import open_service

        lasts = None if expires is None else _seconds(expires)
        async with open_service() as service:
            made = await service.approval_link(target, for_, lasts=lasts)
        if output is Output.JSON:
            print_json({"url": made.url, "principal": made.principal, "expires_at": made.expires_at.isoformat()})
        else:
            err().print(f"for [bold]{literal(made.principal)}[/] alone, until {made.expires_at:%Y-%m-%d %H:%M} UTC:")
            write(f"{made.url}\n")
        return 0

    leave(work, output)


@app.command()
def revoke(target: TargetArgument, output: OutputOption = Output.TEXT) -> None:
    """Take back a decision on `network: full` of a flow: its next step asks for it anew.

    Example: `stepbox approvals revoke 01JD`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.documents import approval_document

        async with open_service() as service:
            revoked = await service.revoke_approval(target)
        if output is Output.JSON:
            print_json(approval_document(revoked))
        else:
            out().print(f"[yellow]■[/] taken back: [bold]{literal(revoked.message)}[/] [dim]{revoked.id}[/]")
        return 0

    leave(work, output)


def _seconds(text: str) -> float:
    from flows.errors import InvalidCallError
    from flows.values import parse_duration

    try:
        return parse_duration(text)
    except ValueError as problem:
        raise InvalidCallError(f"--expires {text}: {problem}", fix="write it such as 90d or 12h") from problem


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
    from ui.cli.runs import resume_all, resume_one

    async with open_service() as service:
        decided, run = await service.decide(target, decision, pairs=pairs, comment=comment)
        if output is Output.JSON and not resume:
            print_json({**approval_document(decided), "resume": run})
        if output is Output.TEXT:
            out().print(styled(decision), f"[bold]{literal(decided.message)}[/] [dim]{decided.label}, {decided.id}[/]")
            if not resume:
                out().print(f"  [green]continue:[/] stepbox runs resume {run or ''}")
        if not resume:
            return 0
        if run is None:
            waiting = [one.id for one in await service.abandoned()]
            return await resume_all(service, waiting, output, quiet=False)
        return await resume_one(service, run, output, quiet=False)

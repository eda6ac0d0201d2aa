"""``stepbox audit``: who did what, and whether that record is what it was."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.errors import InvalidCallError
from ui.cli.doors import leave
from ui.cli.options import Output, OutputOption
from ui.cli.show import err, literal, out, print_json, table, write

if TYPE_CHECKING:
    from datetime import datetime

    from engine.audit import Act
    from engine.audit_verdict import Verdict

app = typer.Typer(help="Who did what, in a record that shows tampering.", no_args_is_help=True)

SinceOption = Annotated[
    str | None, typer.Option(metavar="WHEN", help="Only since then: 2026-05-01, 2026-05-01T08:00Z, or 2h ago as 2h.")
]


@app.command("list")
def list_(
    actor: Annotated[str | None, typer.Option(help="Only what this principal did.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action; `secret.` for all that begin so.")] = None,
    since: SinceOption = None,
    run: Annotated[str | None, typer.Option(help="Only what concerns this run; enough of its id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
    output: OutputOption = Output.TEXT,
) -> None:
    """List entries, the newest first.

    Example: `stepbox audit list --action secret. --since 7d`
    """

    async def work() -> int:
        from engine.audit_documents import entry_document
        from engine.bootstrap import open_service

        after = None if since is None else _moment(since)
        async with open_service() as service:
            page = await service.audit(actor=actor, action=action, since=after, run=run, limit=limit)
        if output is Output.JSON:
            print_json([entry_document(entry) for entry in page.items])
            return 0
        grid = table("NO", "TIME", "WHO", "ACTION", "OUTCOME", "WHAT")
        styles = {"succeeded": "green", "cancelled": "yellow"}
        for entry in page.items:
            act = entry.act
            style = styles.get(act.outcome, "red")
            grid.add_row(
                str(entry.number),
                f"{entry.at:%Y-%m-%d %H:%M:%S}",
                literal(act.actor.name),
                literal(act.action),
                f"[{style}]{act.outcome}[/]",
                literal(_what(act)),
            )
        out().print(grid if page.items else "[dim]no entries[/]")
        if page.next is not None:
            err().print(f"[dim]there are more: --limit {min(limit * 5, 1000)}, or stepbox audit export[/]")
        return 0

    leave(work, output)


@app.command()
def verify(
    since: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECKPOINT", help="Look from a checkpoint on that this printed; one for a workspace."),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Look whether entries were changed, removed, added or moved. Exits with 1 if so.

    It prints a checkpoint: kept elsewhere and given back with --since, it shows also that all was written anew.

    Example: `stepbox audit verify --since default:120:0f3c…`
    """

    async def work() -> int:
        from engine.audit_documents import verdict_document
        from engine.bootstrap import open_service

        async with open_service() as service:
            verdicts = await service.verify_audit(since or ())
        if output is Output.JSON:
            print_json([verdict_document(verdict) for verdict in verdicts])
        else:
            for verdict in verdicts:
                _show(verdict)
        return 1 if any(verdict.problem is not None for verdict in verdicts) else 0

    leave(work, output)


@app.command()
def export(
    since: SinceOption = None,
    format_: Annotated[
        Literal["jsonl"], typer.Option("--format", help="`jsonl`: a JSON object a line.", show_default=False)
    ] = "jsonl",
) -> None:
    """Write all entries to standard output, the oldest first, with what others need to verify them.

    Example: `stepbox audit export --since 2026-05-01 > audit.jsonl`
    """
    del format_

    async def work() -> int:
        from engine.audit_documents import entry_document
        from engine.bootstrap import open_service
        from ui.cli.show import json_text

        after = None if since is None else _moment(since)
        async with open_service() as service:
            async for entry in await service.export_audit(since=after):
                write(json_text(entry_document(entry), ascii_only=True) + "\n")
        return 0

    leave(work)


@app.command()
def rekey() -> None:
    """Go on with a new key where the one that seals entries is lost.

    What was recorded before can't be verified any more but by its hashes, and `verify` says so.

    Example: `stepbox audit rekey`
    """

    async def work() -> int:
        from engine.bootstrap import open_service

        async with open_service() as service:
            await service.rekey_audit()
        out().print("[green]✓[/] entries are sealed by a new key from now on")
        return 0

    leave(work)


def _show(verdict: "Verdict") -> None:
    name = literal(verdict.workspace)
    if verdict.problem is not None:
        out().print(f"[red]✗[/] [bold]{name}[/]: {literal(verdict.problem.message)}")
        return
    if not verdict.entries:
        out().print(f"[dim]–[/] [bold]{name}[/]: no entries")
        return
    out().print(f"[green]✓[/] [bold]{name}[/]: entries {verdict.first} to {verdict.last} are as they were")
    out().print(f"  checkpoint: {verdict.checkpoint}")
    for note in verdict.notes:
        out().print(f"  [yellow]note:[/] {literal(note)}")


def _what(act: "Act") -> str:
    target = "" if act.target is None else f"{act.target.kind} {act.target.id}"
    flow = act.details.get("flow")
    code = act.details.get("code") or act.details.get("error")
    also = [str(one) for one in (flow, code) if one]
    return f"{target} ({', '.join(also)})" if also else target


def _moment(text: str) -> "datetime":
    from datetime import UTC, datetime, timedelta

    from flows.values import parse_duration

    try:
        return datetime.now(UTC) - timedelta(seconds=parse_duration(text))
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidCallError(
            f"--since {text[:100]}: this is no time", fix="write it such as 2026-05-01T08:00Z, or 2h for two hours ago"
        ) from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)

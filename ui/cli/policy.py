"""``stepbox policy``: what the flows of the workspace may do at most."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ui.cli.doors import leave
from ui.cli.options import Output, OutputOption, read_flow
from ui.cli.show import err, literal, out, plain, print_json, table, write

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from engine.service.policy import PolicyChange
    from engine.workspace_policy import PolicyVersion

app = typer.Typer(help="What the flows of the workspace may do at most.", no_args_is_help=True)


@app.command()
def show(
    version: Annotated[int | None, typer.Option(min=1, help="An earlier version, by its number.")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show the policy in force, as YAML that `stepbox policy set` takes.

    Example: `stepbox policy show > policy.yaml`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.policy_documents import policy_document

        async with open_service() as service:
            found = await (service.policy() if version is None else service.policy_version(version))
        if output is Output.JSON:
            print_json(policy_document(found))
        else:
            write(_text(found))
        return 0

    leave(work, output)


@app.command("set")
def set_(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A file of YAML or JSON; `-` reads standard input.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Put a policy in force, in place of the one there is. What changes is shown.

    It holds for what is applied and started from now on, and for runs that go on from their next attempt.

    Example: `stepbox policy set policy.yaml --dry-run`
    """

    def work() -> "Coroutine[None, None, int]":
        return _set(path, output, dry_run=dry_run)

    leave(work, output)


async def _set(path: Path, output: Output, *, dry_run: bool) -> int:
    from engine.bootstrap import open_service
    from engine.policy_documents import policy_change_document
    from engine.workspace_policy import read

    given = read_flow(path)
    document = read(given.text, path=given.path)
    async with open_service() as service:
        change = await service.set_policy(document, dry_run=dry_run)
    if output is Output.JSON:
        print_json(policy_change_document(change))
        return 0
    _show_change(change)
    if dry_run:
        err().print("[dim]nothing was changed: --dry-run[/]")
    return 0


@app.command()
def versions(output: OutputOption = Output.TEXT) -> None:
    """List the versions of the policy, the newest first.

    Example: `stepbox policy versions`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.policy_documents import policy_document

        async with open_service() as service:
            found = (await service.policy_versions(limit=1000)).items
        if output is Output.JSON:
            print_json([policy_document(one) for one in found])
            return 0
        grid = table("VERSION", "SET", "BY", "SAYS")
        for position, one in enumerate(found):
            mark = " " if position else "[green]●[/]"
            at = "" if one.set_at is None else f"{one.set_at:%Y-%m-%d %H:%M}"
            grid.add_row(f"{mark} {one.number}", at, literal(one.set_by or ""), literal(", ".join(one.document)))
        out().print(grid if found else "[dim]no policy yet: `stepbox policy set FILE`[/]")
        return 0

    leave(work, output)


def _text(version: "PolicyVersion") -> str:
    from engine.workspace_policy import CONCURRENT_CODE, as_text

    if version.number == 0:
        return f"# Nobody has set a policy: this is all that holds.\nconcurrent_code: {CONCURRENT_CODE}\n"
    at = "" if version.set_at is None else f" at {version.set_at:%Y-%m-%d %H:%M} UTC"
    head = f"# Version {version.number} of the policy of {version.workspace}, set by {version.set_by}{at}."
    return plain(f"{head}\n{as_text(version.document)}")


def _show_change(change: "PolicyChange") -> None:
    from rich.text import Text

    mark, style = {"created": ("+", "green"), "updated": ("~", "yellow"), "unchanged": ("=", "bright_black")}[
        change.change
    ]
    number = change.version.number
    console = out()
    line = (f"{mark} policy", f"bold {style}"), f" {change.change} ", (f"version {number}" if number else "", "dim")
    console.print(Text.assemble(*line))
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for text in change.diff.splitlines():
        console.print(Text(f"    {plain(text)}", style=styles.get(text[:1], "dim")))

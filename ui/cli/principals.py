"""``stepbox principals``: people and services, their roles, and what they are granted."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ui.cli.doors import leave
from ui.cli.options import Output, OutputOption
from ui.cli.show import literal, out, print_json, table

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from engine.principals import GrantKind, PrincipalRecord
    from engine.service import Service

app = typer.Typer(help="People and services: their roles, and what they are granted.", no_args_is_help=True)


class RoleName(StrEnum):
    """Each may do what those before it may."""

    VIEWER = "viewer"
    EDITOR = "editor"
    APPROVER = "approver"
    ADMIN = "admin"


NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The principal's name.")]
ToolsOption = Annotated[
    list[str] | None,
    typer.Option("--tool", metavar="PATTERN", help="Tools, such as http.request or workspace.*; repeat it for more."),
]
FlowsOption = Annotated[
    list[str] | None,
    typer.Option("--flow", metavar="PATTERN", help="Flows, such as nightly or reports_*; repeat it for more."),
]


@app.command()
def create(
    name: NameArgument,
    role: Annotated[RoleName, typer.Option(help="What it may do.")],
    service: Annotated[bool, typer.Option("--service", help="It is a service, not a person.")] = False,
    tool: ToolsOption = None,
    flow: FlowsOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a principal, who may then have tokens.

    Without --tool it is granted all tools, without --flow all flows. An admin isn't limited by that.

    Example: `stepbox principals create ci --role editor --service --flow 'reports_*' --tool 'workspace.*'`
    """

    async def work(there: "Service") -> "PrincipalRecord":
        from engine.principals import GrantPatterns

        grants = GrantPatterns(tools=tool or (), flows=flow or ())
        return await there.create_principal(
            name, role=role.value, kind="service" if service else "person", grants=grants
        )

    _change(work, output, f"make a token of it: stepbox tokens create {name}")


@app.command("list")
def list_(output: OutputOption = Output.TEXT) -> None:
    """List the principals of the workspace.

    Example: `stepbox principals list`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.principal_documents import principal_document

        async with open_service() as service:
            found = (await service.principals()).items
        if output is Output.JSON:
            print_json([principal_document(one) for one in found])
            return 0
        grid = table("NAME", "KIND", "ROLE", "STATE", "TOOLS", "FLOWS")
        for one in found:
            grid.add_row(one.name, one.kind, one.role, _state(one), _granted(one, "tool"), _granted(one, "flow"))
        out().print(
            grid if found else "[dim]no principals: make one with `stepbox principals create NAME --role ROLE`[/]"
        )
        return 0

    leave(work, output)


@app.command()
def show(name: NameArgument, output: OutputOption = Output.TEXT) -> None:
    """Show a principal, with what it is granted, by whom.

    Example: `stepbox principals show ci`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.principal_documents import principal_document

        async with open_service() as service:
            found = await service.principal(name)
        if output is Output.JSON:
            print_json(principal_document(found))
            return 0
        out().print(f"[bold]{literal(found.name)}[/]  {found.kind}, {found.role}, {_state(found)}")
        out().print(f"[dim]in the workspace {found.workspace} since {found.created_at:%Y-%m-%d %H:%M} UTC[/]")
        if found.role == "admin":
            out().print("an admin may use all tools and flows, whatever it is granted")
        grid = table("GRANTED", "PATTERN", "BY", "AT")
        for grant in found.grants:
            grid.add_row(grant.kind, grant.pattern, grant.granted_by, f"{grant.granted_at:%Y-%m-%d %H:%M}")
        out().print(grid if found.grants else "[dim]nothing is granted[/]")
        return 0

    leave(work, output)


@app.command()
def set_role(
    name: NameArgument,
    role: Annotated[RoleName, typer.Argument(metavar="ROLE", help="viewer, editor, approver or admin.")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Give a principal another role; it holds for what its runs do next, too.

    Example: `stepbox principals set-role ann approver`
    """
    _change(lambda service: service.set_role(name, role.value), output)


@app.command()
def disable(name: NameArgument, output: OutputOption = Output.TEXT) -> None:
    """Let a principal do nothing: its tokens open nothing, and runs that act for it go no further.

    Example: `stepbox principals disable ann`
    """
    _change(lambda service: service.enable_principal(name, enabled=False), output)


@app.command()
def enable(name: NameArgument, output: OutputOption = Output.TEXT) -> None:
    """Let a principal act again.

    Example: `stepbox principals enable ann`
    """
    _change(lambda service: service.enable_principal(name, enabled=True), output)


@app.command()
def grant(
    name: NameArgument, tool: ToolsOption = None, flow: FlowsOption = None, output: OutputOption = Output.TEXT
) -> None:
    """Grant a principal tools and flows.

    Example: `stepbox principals grant ci --tool http.request --flow 'reports_*'`
    """

    async def work(service: "Service") -> "PrincipalRecord":
        from engine.principals import GrantPatterns

        return await service.grant(name, GrantPatterns(tools=tool or (), flows=flow or ()))

    _change(work, output)


@app.command()
def revoke(
    name: NameArgument, tool: ToolsOption = None, flow: FlowsOption = None, output: OutputOption = Output.TEXT
) -> None:
    """Take grants back, by the patterns that `stepbox principals show NAME` has.

    Example: `stepbox principals revoke ci --tool '*'`
    """

    async def work(service: "Service") -> "PrincipalRecord":
        from engine.principals import GrantPatterns

        return await service.ungrant(name, GrantPatterns(tools=tool or (), flows=flow or ()))

    _change(work, output)


@app.command()
def delete(name: NameArgument, output: OutputOption = Output.TEXT) -> None:
    """Take a principal away, with its tokens. What it did stays, and nobody else gets its name.

    Example: `stepbox principals delete ann`
    """

    async def work() -> int:
        from engine.bootstrap import open_service

        async with open_service() as service:
            await service.delete_principal(name)
        if output is Output.JSON:
            print_json({"name": name, "deleted": True})
        else:
            out().print(f"[green]✓[/] {literal(name)} is deleted, and its tokens open nothing any more")
        return 0

    leave(work, output)


def _change(work: "Callable[[Service], Awaitable[PrincipalRecord]]", output: Output, then: str | None = None) -> None:
    """Change a principal, and say what it is then."""

    async def change() -> int:
        from engine.bootstrap import open_service
        from engine.principal_documents import principal_document

        async with open_service() as service:
            changed = await work(service)
        if output is Output.JSON:
            print_json(principal_document(changed))
            return 0
        what = f"{changed.kind}, {changed.role}, {_state(changed)}"
        limits = (
            "" if changed.role == "admin" else f"; tools {_granted(changed, 'tool')}; flows {_granted(changed, 'flow')}"
        )
        out().print(f"[green]✓[/] [bold]{literal(changed.name)}[/]: {what}{limits}")
        if then is not None:
            out().print(f"  [dim]{literal(then)}[/]")
        return 0

    leave(change, output)


def _state(one: "PrincipalRecord") -> str:
    return "[green]enabled[/]" if one.is_enabled else "[red]disabled[/]"


def _granted(one: "PrincipalRecord", kind: "GrantKind") -> str:
    patterns: Sequence[str] = one.patterns(kind)
    return ", ".join(patterns) or "[yellow]none[/]"

"""``stepbox workspaces``: each has its own flows, runs, secrets and principals."""

from typing import Annotated

import typer

from ui.cli.doors import leave
from ui.cli.options import Output, OutputOption
from ui.cli.show import err, literal, out, print_json, table, write

app = typer.Typer(help="Workspaces: each has its own flows, runs, secrets and principals.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The workspace's name.")]


@app.command()
def create(
    name: NameArgument,
    admin: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Make a principal of that name as its admin, and print a token of it."),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a workspace.

    On the service's machine, STEPBOX_WORKSPACE says in which one the commands work. A token is of one workspace.

    Example: `stepbox workspaces create ops --admin ann`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.principal_documents import token_document, workspace_document

        async with open_service() as service:
            made, issued = await service.create_workspace(name, admin=admin)
        if output is Output.JSON:
            token = None if issued is None else {**token_document(issued.record), "token": issued.text}
            print_json({**workspace_document(made), "token": token})
        elif issued is None:
            out().print(f"[green]✓[/] workspace [bold]{literal(made.name)}[/]")
        else:
            admin_is = f"its admin is {literal(issued.record.principal)}, whose token is shown only now:"
            err().print(f"[green]✓[/] workspace [bold]{literal(made.name)}[/]; {admin_is}")
            write(f"{issued.text}\n")
        return 0

    leave(work, output)


@app.command("list")
def list_(output: OutputOption = Output.TEXT) -> None:
    """List the workspaces.

    Example: `stepbox workspaces list`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.principal_documents import workspace_document

        async with open_service() as service:
            found = await service.workspaces()
        if output is Output.JSON:
            print_json([workspace_document(one) for one in found])
            return 0
        grid = table("WORKSPACE", "CREATED")
        for one in found:
            grid.add_row(one.name, f"{one.created_at:%Y-%m-%d %H:%M}")
        out().print(grid)
        return 0

    leave(work, output)


@app.command()
def delete(name: NameArgument, output: OutputOption = Output.TEXT) -> None:
    """Remove a workspace in which nothing is left but principals, with these.

    Example: `stepbox workspaces delete ops`
    """

    async def work() -> int:
        from engine.bootstrap import open_service

        async with open_service() as service:
            await service.delete_workspace(name)
        if output is Output.JSON:
            print_json({"name": name, "deleted": True})
        else:
            out().print(f"[green]✓[/] workspace {literal(name)} is deleted")
        return 0

    leave(work, output)

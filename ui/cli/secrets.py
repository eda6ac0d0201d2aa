"""``stepbox secrets``: what flows need and nobody should read."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flows.errors import InvalidCallError
from ui.cli.doors import leave
from ui.cli.options import Output, OutputOption
from ui.cli.show import literal, out, print_json, table

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from datetime import datetime

app = typer.Typer(help="Secrets, encrypted; nothing ever shows their values.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The secret's name.")]


@app.command("set")
def set_(
    name: NameArgument,
    value: Annotated[str | None, typer.Argument(hidden=True)] = None,
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="Keep the value that it had live as well, until it is deleted.")
    ] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Set a secret to what standard input holds; on a terminal, it is asked for.

    One line end at the end is left out. With --keep-old, webhooks are verified by either value, so that the other side
    can change over; then `stepbox secrets delete NAME --old`.

    Example: `printf %s "$TOKEN" | stepbox secrets set hook_key`
    """

    def work() -> "Coroutine[None, None, int]":
        if value is not None:
            message = "the value of a secret doesn't go on the command line, where others can read it"
            fix = f"give it on standard input: stepbox secrets set {name} < FILE"
            raise InvalidCallError(message, fix=fix)
        return _set(name, _read_value(name), output, keep_old=keep_old)

    leave(work, output)


async def _set(name: str, value: str, output: Output, *, keep_old: bool) -> int:
    from engine.bootstrap import open_service
    from engine.documents import secret_document

    async with open_service() as service:
        secret = await service.set_secret(name, value, keep_old=keep_old)
    if output is Output.JSON:
        print_json(secret_document(secret))
    else:
        also = " [dim]the value it had is live too[/]" if secret.versions > 1 else ""
        out().print(f"[green]✓[/] {literal(secret.name)}{also}")
    return 0


def _read_value(name: str) -> str:
    """The value from standard input, or from a person, to whom it isn't shown."""
    from engine.secrets import MAX_SECRET

    if sys.stdin.isatty():
        from getpass import getpass

        value = getpass(f"Value of {name}: ")
        if value != getpass("The same again: "):
            raise InvalidCallError("the two values differ", fix="try again")
        return value
    content = sys.stdin.buffer.read(MAX_SECRET + 2)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise InvalidCallError(
            "the value is not UTF-8 text", fix="encode it: base64 FILE | stepbox secrets set …"
        ) from None
    return text.removesuffix("\n").removesuffix("\r")


@app.command("list")
def list_(output: OutputOption = Output.TEXT) -> None:
    """List the secrets, without their values.

    Example: `stepbox secrets list`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.documents import secret_document

        async with open_service() as service:
            secrets = await service.secrets()
        if output is Output.JSON:
            print_json([secret_document(secret) for secret in secrets])
            return 0
        grid = table("SECRET", "VALUES", "CREATED", "UPDATED", "LAST USED")
        for secret in secrets:
            times = (_time(moment) for moment in (secret.created_at, secret.updated_at, secret.last_used_at))
            grid.add_row(secret.name, str(secret.versions), *times)
        out().print(grid if secrets else "[dim]no secrets yet: `stepbox secrets set NAME`[/]")
        return 0

    leave(work, output)


def _time(moment: "datetime | None") -> str:
    return "never" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


@app.command()
def delete(
    name: NameArgument,
    old: Annotated[
        bool, typer.Option("--old", help="Only the value that it had before, which --keep-old kept.")
    ] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Forget a secret, or the value that it had before.

    Example: `stepbox secrets delete hook_key --old`
    """

    async def work() -> int:
        from engine.bootstrap import open_service

        async with open_service() as service:
            gone = await service.delete_secret(name, old_only=old)
        if output is Output.JSON:
            print_json({"name": name, "deleted": gone})
        elif old and not gone:
            out().print(f"[yellow]–[/] {literal(name)} has no old value")
        else:
            what = "the old value of " if old else ""
            out().print(f"[green]✓[/] {what}{literal(name)} is deleted")
        return 0

    leave(work, output)

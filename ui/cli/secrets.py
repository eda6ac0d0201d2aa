"""``stepbox secrets``: what flows need and nobody should read."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flows.errors import InvalidCallError
from ui.cli.doors import leave
from ui.cli.options import Output, OutputOption, parsed
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
    output: OutputOption = Output.TEXT,
) -> None:
    """Set a secret to what standard input holds; on a terminal, it is asked for.

    One line end at the end is left out. The value that it had is gone at once: `stepbox secrets rotate` keeps it for a
    while.

    Example: `printf %s "$TOKEN" | stepbox secrets set hook_key`
    """
    leave(lambda: _set(name, _given(name, value, "set"), output), output)


@app.command()
def rotate(
    name: NameArgument,
    value: Annotated[str | None, typer.Argument(hidden=True)] = None,
    overlap: Annotated[
        str, typer.Option(metavar="DURATION", help="How long the value that it had stays live as well.")
    ] = "24h",
    output: OutputOption = Output.TEXT,
) -> None:
    """Give a secret another value, while the one that it had stays live for a while.

    Webhooks are verified by either, so that the other side can change over; everything else gets the new one.
    `stepbox secrets delete NAME --old` ends the old one before its time.

    Example: `stepbox secrets rotate hook_key --overlap 2h < new.txt`
    """

    def work() -> "Coroutine[None, None, int]":
        from flows.values import parse_duration

        seconds = parsed("--overlap", parse_duration, overlap)
        return _set(name, _given(name, value, "rotate"), output, overlap=seconds)

    leave(work, output)


def _given(name: str, argument: str | None, command: str) -> str:
    if argument is not None:
        message = "the value of a secret doesn't go on the command line, where others can read it"
        fix = f"give it on standard input: stepbox secrets {command} {name} < FILE"
        raise InvalidCallError(message, fix=fix)
    return _read_value(name)


async def _set(name: str, value: str, output: Output, *, overlap: float | None = None) -> int:
    from engine.bootstrap import open_service
    from engine.documents import secret_document
    from steps.disguises import SHORTEST

    async with open_service() as service:
        if overlap is None:
            secret = await service.set_secret(name, value)
        else:
            secret = await service.rotate_secret(name, value, overlap=overlap)
    if output is Output.JSON:
        print_json(secret_document(secret))
        return 0
    also = "" if secret.old_until is None else f" [dim]the value it had is live until {_time(secret.old_until)}[/]"
    out().print(f"[green]✓[/] {literal(secret.name)}{also}")
    if len(value) < SHORTEST:
        out().print(f"[yellow]–[/] shorter than {SHORTEST} characters: it can't be masked, so steps don't get it")
    return 0


@app.command("rotate-key")
def rotate_key(
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only make the new key, so that its file can be brought elsewhere first.")
    ] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Encrypt all secrets by a new key, while services go on.

    The file secret.key gets one by itself. Where the key comes from STEPBOX_SECRET_KEY or a command, let that give the
    new key and the present one, with a space between them. The old key is what backups of the database need that were
    made before.

    Example: `stepbox secrets rotate-key`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.documents import key_rotation_document

        async with open_service() as service:
            rotation = await service.rotate_secret_key(prepare=prepare)
        if output is Output.JSON:
            print_json(key_rotation_document(rotation))
            return 0
        if rotation.resealed is None:
            out().print(f"[green]✓[/] the new key {rotation.key_id} is known; bring the key file to the other machines")
            out().print("  [dim]then: stepbox secrets rotate-key[/]")
            return 0
        values = "1 value is" if rotation.resealed == 1 else f"{rotation.resealed:,} values are"
        out().print(f"[green]✓[/] {values} encrypted by the new key {rotation.key_id}")
        for path in rotation.kept:
            out().print(f"  the key before it is in {literal(path)}")
        out().print("  [dim]backups of the database made until now need it: keep it with them, and delete it here[/]")
        return 0

    leave(work, output)


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
        grid = table("SECRET", "VALUES", "CREATED", "UPDATED", "LAST USED", "OLD ONE UNTIL")
        for secret in secrets:
            times = (_time(moment) for moment in (secret.created_at, secret.updated_at, secret.last_used_at))
            until = "" if secret.old_until is None else _time(secret.old_until)
            grid.add_row(secret.name, str(secret.versions), *times, until)
        out().print(grid if secrets else "[dim]no secrets yet: `stepbox secrets set NAME`[/]")
        return 0

    leave(work, output)


def _time(moment: "datetime | None") -> str:
    return "never" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


@app.command()
def delete(
    name: NameArgument,
    old: Annotated[bool, typer.Option("--old", help="Only the value that it had before, which `rotate` kept.")] = False,
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

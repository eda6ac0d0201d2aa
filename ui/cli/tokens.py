"""``stepbox tokens``: who may talk to the service."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from flows.errors import InvalidCallError
from ui.cli.doors import leave
from ui.cli.options import Output, OutputOption
from ui.cli.show import err, literal, out, print_json, table, write

if TYPE_CHECKING:
    from engine.principals import TokenRecord

app = typer.Typer(help="Who may talk to the service.", no_args_is_help=True)


@app.command()
def create(
    principal: Annotated[str, typer.Argument(metavar="PRINCIPAL", help="Whose it is; see `stepbox principals`.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="What it is for, such as runs.start or 'flows.*'; repeat it for more."),
    ] = None,
    only_flow: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Which flows it is for; repeat it for more.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="After how long it opens nothing, such as 90d.")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a token of a principal and print it: the only time that it can be read.

    It opens what its principal may do, cut down to its scopes and its flows.

    Example: `stepbox tokens create ci --expires 90d --scope runs.start --scope runs.read --only-flow 'reports_*'`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.principal_documents import token_document
        from engine.principals import TokenScope

        expires_at = None if expires is None else _expiry(expires)
        wanted = TokenScope(actions=scope or ("*",), only_flows=only_flow or ("*",), expires_at=expires_at)
        async with open_service() as service:
            issued = await service.create_token(principal, wanted)
        if output is Output.JSON:
            print_json({**token_document(issued.record), "token": issued.text})
            return 0
        until = "" if expires_at is None else f", until {expires_at:%Y-%m-%d %H:%M} UTC"
        err().print(
            f"[green]✓[/] token [bold]{issued.record.id}[/] of {literal(principal)}{until}; it is shown only now:"
        )
        write(f"{issued.text}\n")
        return 0

    leave(work, output)


@app.command("list")
def list_(output: OutputOption = Output.TEXT) -> None:
    """List the tokens, with when each was last used.

    Example: `stepbox tokens list`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.principal_documents import token_document

        async with open_service() as service:
            tokens = await service.tokens()
        if output is Output.JSON:
            print_json([token_document(token) for token in tokens])
            return 0
        grid = table("TOKEN", "PRINCIPAL", "STATE", "FOR", "CREATED", "LAST USED", "EXPIRES")
        for token in tokens:
            state, style = _state(token)
            grid.add_row(
                token.id,
                token.principal,
                f"[{style}]{state}[/]",
                _scope(token),
                _moment(token.created_at),
                _moment(token.last_used_at, "never"),
                _moment(token.expires_at, "never"),
            )
        out().print(grid if tokens else "[dim]no tokens: make one with `stepbox tokens create PRINCIPAL`[/]")
        return 0

    leave(work, output)


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="The token's id, as `stepbox tokens list` has it.")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a token open nothing from now on.

    Example: `stepbox tokens revoke k3j9x0q2m5zt`
    """

    async def work() -> int:
        from engine.bootstrap import open_service
        from engine.principal_documents import token_document

        async with open_service() as service:
            revoked = await service.revoke_token(token)
        if output is Output.JSON:
            print_json(token_document(revoked))
        else:
            out().print(f"[green]✓[/] token {revoked.id} of {literal(revoked.principal)} opens nothing any more")
        return 0

    leave(work, output)


def _expiry(text: str) -> datetime:
    from datetime import UTC, timedelta

    from flows.values import parse_duration

    try:
        return datetime.now(UTC) + timedelta(seconds=parse_duration(text))
    except ValueError as problem:
        raise InvalidCallError(f"--expires {text}: {problem}", fix="write it such as 90d or 12h") from problem


def _state(token: "TokenRecord") -> tuple[str, str]:
    from datetime import UTC

    if token.revoked_at is not None:
        return "revoked", "red"
    if token.disabled_at is not None:
        return "disabled", "red"
    return ("valid", "green") if token.is_valid(datetime.now(UTC)) else ("expired", "yellow")


def _scope(token: "TokenRecord") -> str:
    """What a token is for: ``all``, or its scopes, then its flows."""
    actions = "" if "*" in token.scopes else ", ".join(token.scopes)
    flows = "" if "*" in token.only_flows else f"only {', '.join(token.only_flows)}"
    return "; ".join(filter(None, (actions, flows))) or "all"


def _moment(at: datetime | None, otherwise: str = "") -> str:
    return otherwise if at is None else f"{at:%Y-%m-%d %H:%M}"

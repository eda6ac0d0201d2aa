"""Questions to people on the terminal."""

import json
from typing import TYPE_CHECKING

from ui.cli.show import literal, out, plain, styled, table

if TYPE_CHECKING:
    from rich.table import Table

    from engine.questions import Approval, Notice
    from engine.service import ApprovalDetail
    from flows.values import Json

_MOMENT = "%Y-%m-%d %H:%M:%S"


def show_question(one: "Approval") -> None:
    """A question as a listing has it: of a flow version without its code."""
    console = out()
    console.print(styled(one.decision or "waiting"), f"[bold]{literal(one.message)}[/] [dim]{one.id}[/]")
    console.print(_facts(one))
    if one.kind == "network":
        console.print(f"  [green]read it:[/] stepbox approvals show {one.id}")


def show_detail(detail: "ApprovalDetail") -> None:
    """All of a question: what will happen, who may decide, who was told."""
    one = detail.approval
    console = out()
    console.print(styled(one.decision or "waiting"), f"[bold]{literal(one.message)}[/] [dim]{one.id}[/]")
    grid = _facts(one)
    for notice in detail.notices:
        grid.add_row("told", _told(notice))
    console.print(grid)
    if one.kind == "network":
        _show_steps(one.details)
    if one.decision is None:
        if detail.refusal is not None:
            console.print(f"  [yellow]not for you:[/] {literal(detail.refusal)}")
        else:
            console.print(f"  [green]yes:[/] stepbox approve {one.id}    [green]no:[/] stepbox reject {one.id}")


def _facts(one: "Approval") -> "Table":
    from rich.text import Text

    from engine.deciders import names

    grid = table("", "")
    grid.show_header = False
    if one.run_id is not None:
        grid.add_row("run", Text(plain(f"{one.run_id} of {one.flow}, step {one.label}")))
    grid.add_row("asked", f"{one.requested_at:{_MOMENT}} UTC")
    if one.requesters:
        grid.add_row("for", Text(plain(", ".join(one.requesters))))
    if one.kind != "network" and one.details is not None:
        grid.add_row("what", Text(plain(json.dumps(one.details, ensure_ascii=False, indent=2))))
    if one.form is not None:
        grid.add_row("values", Text(plain(json.dumps(one.form, ensure_ascii=False))))
    if one.approvers:
        grid.add_row("by", Text(plain(names(one.approvers))))
    if one.decided_at is not None:
        by = f" by {one.decided_by}" if one.decided_by else ""
        via = " (by a signed link)" if one.decided_via == "link" else ""
        grid.add_row("decided", Text(plain(f"{one.decided_at:{_MOMENT}} UTC{by}{via}")))
        if one.comment:
            grid.add_row("comment", Text(plain(one.comment)))
        if one.revoked_at is not None:
            grid.add_row("taken back", Text(plain(f"{one.revoked_at:{_MOMENT}} UTC by {one.revoked_by}")))
    elif one.expires_at is not None:
        outcome = "it counts as a no" if one.on_timeout == "reject" else "the step times out"
        grid.add_row("until", f"{one.expires_at:{_MOMENT}} UTC, then {outcome}")
    return grid


def _told(notice: "Notice") -> str:
    to = literal(notice.target)
    if notice.sent_at is not None:
        return f"[green]✓[/] {to}, {notice.sent_at:{_MOMENT}} UTC"
    if notice.dropped:
        return f"[dim]– {to}: decided before it was sent[/]"
    if notice.error is None:
        return f"[dim]… {to}: to be sent by the service[/]"
    again = "given up" if notice.due_at is None else f"again at {notice.due_at:{_MOMENT}} UTC"
    return f"[red]✗[/] {to}: {literal(notice.error)}; {notice.attempts} tries, {again}"


def _show_steps(details: "Json") -> None:
    from rich.text import Text

    console = out()
    for step in details["steps"]:
        console.print(f"\n  step [bold]{literal(step['step'])}[/] [dim]{literal(step['kind'])}[/]")
        given = {key: value for key, value in step.items() if key not in {"step", "kind", "code"}}
        for key, value in given.items():
            console.print(Text(f"    {key}: {plain(json.dumps(value, ensure_ascii=False))}"))
        for line in str(step.get("code", "")).splitlines():
            console.print(Text(f"    {plain(line)}", style="cyan"))
    if details["diff"]:
        console.print(f"\n  changed since version {details['approved_before']}, which is approved:")
        styles = {"+": "green", "-": "red", "@": "cyan"}
        for line in str(details["diff"]).splitlines():
            console.print(Text(f"    {plain(line)}", style=styles.get(line[:1], "dim")))
    elif details["approved_before"] is None:
        console.print("\n  [dim]no version of this flow is approved yet[/]")

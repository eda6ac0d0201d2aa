"""What a principal may do: the one function that every use case passes, and what a run may do for the one it acts for.

What is allowed is what the role allows, of that what the token is for, and of the flows those that the principal is
granted and the token is for.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias, get_args

from engine.principal import Principal
from engine.principals import PrincipalRecord
from engine.reach import EVERYTHING, fits
from engine.records import DEFAULT_WORKSPACE, LOCAL, Role
from flows.errors import InvalidCallError

Action: TypeAlias = Literal[
    "flows.read",
    "flows.change",
    "runs.read",
    "runs.start",
    "runs.cancel",
    "runs.remove",
    "approvals.decide",
    "approvals.link",
    "network.open",
    "code.execute",
    "events.read",
    "events.redrive",
    "events.send",
    "secrets.read",
    "secrets.change",
    "secrets.rotate",
    "tokens.own",
    "tokens.read",
    "tokens.change",
    "principals.read",
    "principals.change",
    "workspaces.read",
    "workspaces.change",
    "installation.watch",
    "policy.read",
    "policy.change",
    "installation.examine",
    "audit.read",
    "audit.change",
]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)

_VIEWER: frozenset[Action] = frozenset(
    {"flows.read", "runs.read", "events.read", "tokens.own", "installation.watch", "policy.read"}
)
_EDITOR: frozenset[Action] = _VIEWER | {
    "flows.change",
    "runs.start",
    "runs.cancel",
    "code.execute",
    "events.redrive",
    "events.send",
    "secrets.read",
}
_APPROVER: frozenset[Action] = _EDITOR | {"approvals.decide"}
_ALLOWED: Mapping[Role, frozenset[Action]] = {
    "viewer": _VIEWER,
    "editor": _EDITOR,
    "approver": _APPROVER,
    "admin": frozenset(ACTIONS),
}
OF_INSTALLATION: Final[frozenset[Action]] = frozenset(
    {
        "runs.remove",
        "secrets.rotate",
        "audit.change",
        "workspaces.read",
        "workspaces.change",
        "installation.watch",
        "installation.examine",
    }
)
"""What concerns all workspaces, so that only who is of the default one may do it."""


class ForbiddenError(InvalidCallError):
    """The principal's role, its grants or the scope of its token don't allow the action."""

    code = "forbidden"


def require(principal: Principal, action: Action, *, flow: str | None = None) -> None:
    """Let the principal do this, where it is about a flow with that one, ``*`` where it may be about any.

    Raises:
        ForbiddenError: the role doesn't allow it, the token isn't for it, or it isn't granted that flow.
    """
    who = principal.name
    if action not in _ALLOWED.get(principal.role, frozenset()):
        raise ForbiddenError(
            f"{who}, whose role is {principal.role}, may not do {action}",
            fix="use a token of a principal with a role that allows it",
        )
    if not fits(principal.scopes, action):
        raise ForbiddenError(
            f"the token of {who} is not for {action}, only for {', '.join(principal.scopes)}",
            fix=f"use one that is: stepbox tokens create {who} --scope {action}",
        )
    if action in OF_INSTALLATION and principal.kind != "local" and principal.workspace != DEFAULT_WORKSPACE:
        raise ForbiddenError(
            f"{action} concerns all workspaces, and {who} is of the workspace {principal.workspace}",
            fix=f"use a token of the workspace {DEFAULT_WORKSPACE}",
        )
    if flow is None or principal.flows.covers(flow):
        return
    which = "all flows" if flow == EVERYTHING else f"the flow '{flow}'"
    if not fits(principal.only_flows, flow):
        raise ForbiddenError(
            f"the token of {who} is not for {which}, only for {', '.join(principal.only_flows)}",
            fix=f"use one that is: stepbox tokens create {who} --only-flow {flow}",
        )
    raise ForbiddenError(
        f"{who} is not granted {which}", fix=f"have it granted: stepbox principals grant {who} --flow '{flow}'"
    )


def require_narrower(principal: Principal, actions: Sequence[str], flows: Sequence[str]) -> None:
    """Let the principal make a token for actions and flows, by patterns: its own token is for all of them.

    Raises:
        ForbiddenError: it isn't.
    """
    given = ((principal.scopes, actions, "action"), (principal.only_flows, flows, "flow"))
    for own, wanted, what in given:
        for each in wanted:
            if not fits(own, each):
                raise ForbiddenError(
                    f"the token of {principal.name} is not for the {what} {each}, so it makes none that is",
                    fix=f"leave it out: it is for {', '.join(own)}",
                )


def may(principal: Principal, action: Action) -> bool:
    """Whether :func:`require` lets the principal do this."""
    try:
        require(principal, action)
    except ForbiddenError:
        return False
    return True


def require_acting(name: str, record: PrincipalRecord | None, flow: str) -> None:
    """Let a run of a flow act for a principal, by what is known of that now; None: there is none of that name.

    Raises:
        ForbiddenError: it is gone or disabled, its role doesn't allow to start runs, or it isn't granted that flow.
    """
    if name == LOCAL:
        return
    if record is None:
        raise ForbiddenError(
            f"'{name}', for whom the run acts, is no principal any more", fix="let somebody else start it"
        )
    if not record.is_enabled:
        raise ForbiddenError(
            f"'{name}', for whom the run acts, is disabled", fix=f"enable it: stepbox principals enable {name}"
        )
    if "runs.start" not in _ALLOWED[record.role]:
        raise ForbiddenError(
            f"'{name}', for whom the run acts, has the role {record.role}, which starts no runs",
            fix=f"give it another: stepbox principals set-role {name} editor",
        )
    if not fits(record.patterns("flow"), flow):
        raise ForbiddenError(
            f"'{name}', for whom the run acts, is not granted the flow '{flow}'",
            fix=f"have it granted: stepbox principals grant {name} --flow {flow}",
        )


def require_tool(name: str, record: PrincipalRecord | None, flow: str, tool: str) -> None:
    """Let a run of a flow call a tool, by its full name, for a principal; see :func:`require_acting`.

    Raises:
        ForbiddenError: as there, or it isn't granted that tool.
    """
    require_acting(name, record, flow)
    if record is not None and name != LOCAL and not fits(record.patterns("tool"), tool):
        raise ForbiddenError(
            f"'{name}', for whom the run acts, is not granted the tool {tool}",
            fix=f"have it granted: stepbox principals grant {name} --tool {tool}",
        )

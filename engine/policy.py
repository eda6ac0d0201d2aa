"""What a principal may do: the one function that every use case passes."""

from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

from engine.principal import Principal
from engine.records import Role
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
    "tokens.read",
    "tokens.change",
    "installation.examine",
]

_VIEWER: frozenset[Action] = frozenset({"flows.read", "runs.read", "events.read"})
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
    "admin": frozenset(get_args(Action)),
}


class ForbiddenError(InvalidCallError):
    """The principal's role doesn't allow the action."""

    code = "forbidden"


def require(principal: Principal, action: Action) -> None:
    """Let the principal do this.

    Raises:
        ForbiddenError: the role doesn't allow it.
    """
    if action not in _ALLOWED.get(principal.role, frozenset()):
        raise ForbiddenError(
            f"{principal.name}, whose role is {principal.role}, may not do {action}",
            fix="use a token of a principal with a role that allows it",
        )

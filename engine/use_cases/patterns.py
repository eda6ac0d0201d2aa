"""What people write for many names at once, checked before it is kept."""

import re
from collections.abc import Sequence
from typing import Final

from engine.policy import ACTIONS
from engine.principals import GrantPatterns
from engine.reach import EVERYTHING, fits
from engine.records import LOCAL
from flows.errors import InvalidCallError
from flows.names import MAX_NAME, NAME
from flows.suggestions import instead

MAX_PATTERNS: Final = 100
_FLOWS: Final = re.compile(r"[a-z0-9_*]{1,100}")
_TOOLS: Final = re.compile(r"[A-Za-z0-9_.*-]{1,200}")


def check_name(name: str, what: str) -> None:
    """Make sure that a text can be the name of a principal or a workspace.

    Raises:
        InvalidCallError: it can't.
    """
    if not NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise InvalidCallError(
            f"{name[:100]!r} can't be the name of {what}",
            fix=f"use lower-case letters, digits and _, from a letter on, at most {MAX_NAME} characters",
        )
    if name == LOCAL:
        raise InvalidCallError(f"'{LOCAL}' is whoever uses the service's machine", fix="choose another name")


def check_grants(grants: GrantPatterns) -> GrantPatterns:
    """The patterns, each once. Raises :class:`InvalidCallError` where one is none."""
    tools, flows = _checked(grants.tools, _TOOLS, "tools"), check_flows(grants.flows)
    return GrantPatterns(tools=tools, flows=flows)


def check_flows(patterns: Sequence[str]) -> tuple[str, ...]:
    """Patterns of names of flows, each once. Raises :class:`InvalidCallError` where one is none."""
    return _checked(patterns, _FLOWS, "flows")


def check_scopes(patterns: Sequence[str]) -> tuple[str, ...]:
    """Patterns of actions, each once. Raises :class:`InvalidCallError` where one fits no action."""
    for pattern in patterns:
        if not any(fits((pattern,), action) for action in ACTIONS):
            raise InvalidCallError(
                f"no action is {pattern[:100]!r}",
                fix=instead(pattern, ACTIONS, otherwise=f"name some of {', '.join(ACTIONS)}, or a pattern: flows.*"),
            )
    return tuple(dict.fromkeys(patterns[:MAX_PATTERNS]))


def _checked(patterns: Sequence[str], like: re.Pattern[str], what: str) -> tuple[str, ...]:
    if len(patterns) > MAX_PATTERNS:
        raise InvalidCallError(f"{len(patterns)} patterns are too many", fix=f"give {MAX_PATTERNS} at most")
    for pattern in patterns:
        if not like.fullmatch(pattern):
            raise InvalidCallError(
                f"{pattern[:100]!r} is no pattern of {what}",
                fix=f"write a name, in which {EVERYTHING} may stand for any text",
            )
    return tuple(dict.fromkeys(patterns))

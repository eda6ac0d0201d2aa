"""Who may decide what runs ask of people.

Whoever may use the home may decide anything. Others need a role that allows it, to be among the approvers where some
are named, and not to be who asks where that is refused.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from engine.policy import ForbiddenError, require
from engine.principal import Principal
from engine.questions import Approval
from engine.records import Role
from flows.contracts import OwnApprovals
from flows.errors import InvalidCallError

_OF_ROLE: Final = "role:"
_WITH_MORE: Final[Mapping[str, tuple[Role, ...]]] = {"approver": ("approver", "admin"), "admin": ("admin",)}
"""The roles that count as one."""


class NotApproverError(ForbiddenError):
    """The question is for others to decide."""

    code = "not_an_approver"


class OwnApprovalError(ForbiddenError):
    """Who asks for something may not decide it here."""

    code = "own_approval"


class UnknownApproverError(InvalidCallError):
    """A step names approvers who couldn't decide, so that its runs would wait in vain."""

    code = "unknown_approver"


def require_decider(asked: Approval, principal: Principal, *, own: OwnApprovals | None) -> None:
    """Let the principal decide a question. ``own`` is what the workspace says of requesters.

    Raises:
        ForbiddenError: the role doesn't allow it, others are named (:class:`NotApproverError`), or the principal asks
            for it (:class:`OwnApprovalError`).
    """
    require(principal, "network.open" if asked.kind == "network" else "approvals.decide")
    if principal.kind == "local":
        return
    if asked.approvers and not _is_among(principal.name, principal.role, asked.approvers):
        raise NotApproverError(
            f"{principal.name} may not decide this: it is for {names(asked.approvers)}",
            fix=f"ask one of them, or whoever may use the home of the installation: stepbox approvals show {asked.id}",
        )
    if principal.name in asked.requesters and not may_be_own(asked, own):
        raise OwnApprovalError(
            f"{principal.name} asks for this, so somebody else has to decide it",
            fix=f"ask another one: {names(asked.approvers)}; or whoever may use the home of the installation",
        )


def may_be_own(asked: Approval, own: OwnApprovals | None) -> bool:
    """Whether who asks may decide.

    No where the workspace or the step says so; else yes where one of them says that. Where neither says anything, yes
    for a step of ``approval`` only.
    """
    if "refuse" in (own, asked.own):
        return False
    return "allow" in (own, asked.own) or asked.kind == "step"


def deciders(asked: Approval, principals: Mapping[str, Role], *, own: OwnApprovals | None) -> Iterator[Principal]:
    """Who of the principals may decide a question now, by name."""
    for name in sorted(principals):
        principal = Principal(name=name, workspace=asked.workspace, role=principals[name], kind="link")
        try:
            require_decider(asked, principal, own=own)
        except ForbiddenError:
            continue
        yield principal


def names(approvers: Iterable[str]) -> str:
    """Approvers in words; where none are named, whoever may approve."""
    words = [f"any {one.removeprefix(_OF_ROLE)}" if one.startswith(_OF_ROLE) else one for one in approvers]
    return " or ".join(words) or "any approver"


def refuse_unknown(flow: str, step: str, approvers: Iterable[str], principals: Mapping[str, Role]) -> None:
    """Make sure that the approvers of a step are there and may approve.

    Raises:
        UnknownApproverError: one isn't, or may not.
    """
    able = [name for name, role in sorted(principals.items()) if role in _WITH_MORE["approver"]]
    for one in approvers:
        if one.startswith(_OF_ROLE) or one in able:
            continue
        wrong = f"is {principals[one]}, who may not approve" if one in principals else "is no principal"
        known = f"name one of {', '.join(able)}" if able else "name a role: role:approver"
        raise UnknownApproverError(
            f"flow '{flow}', step '{step}': the approver '{one[:80]}' {wrong} of this workspace",
            fix=f"{known}; or make the principal first",
        )


def _is_among(name: str, role: Role, approvers: Iterable[str]) -> bool:
    for one in approvers:
        if one == name:
            return True
        if one.startswith(_OF_ROLE) and role in _WITH_MORE.get(one.removeprefix(_OF_ROLE), ()):
            return True
    return False

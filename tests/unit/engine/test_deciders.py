"""Who may decide a question: the rule for each combination of role, approvers, requester and policy."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from engine.deciders import NotApproverError, UnknownApproverError, deciders, refuse_unknown, require_decider
from engine.policy import ForbiddenError
from engine.principal import LOCAL_ADMIN, Principal
from engine.questions import Approval, Kind
from engine.records import Role
from flows.contracts import OwnApprovals

ASKED = Approval(
    id="01",
    workspace="default",
    flow="f",
    run_id="02",
    step_id="ask",
    message="Go?",
    requested_at=datetime(2026, 1, 1, tzinfo=UTC),
)
PRINCIPALS: dict[str, Role] = {"ada": "admin", "ann": "approver", "bob": "approver", "eve": "editor", "vic": "viewer"}


def who(asked: Approval, own: OwnApprovals | None = None) -> str:
    return " ".join(one.name for one in deciders(asked, PRINCIPALS, own=own))


@pytest.mark.parametrize(
    ("approvers", "may"),
    [
        ((), "ada ann bob"),
        (("ann",), "ann"),
        (("role:approver",), "ada ann bob"),
        (("role:admin",), "ada"),
        (("role:admin", "bob"), "ada bob"),
        (("eve",), ""),
    ],
)
def test_only_approvers_decide(approvers: tuple[str, ...], may: str) -> None:
    assert who(replace(ASKED, approvers=approvers)) == may


@pytest.mark.parametrize(
    ("kind", "step", "workspace", "may"),
    [
        ("step", None, None, True),
        ("tool", None, None, False),
        ("step", "refuse", None, False),
        ("step", "refuse", "allow", False),
        ("step", "allow", "refuse", False),
        ("step", None, "refuse", False),
        ("tool", None, "allow", True),
        ("network", None, None, False),
        ("network", None, "allow", True),
    ],
)
def test_a_requester_decides_where_nothing_says_no(
    kind: Kind, step: OwnApprovals | None, workspace: OwnApprovals | None, *, may: bool
) -> None:
    asked = replace(ASKED, kind=kind, own=step, requesters=("ada",))
    assert ("ada" in who(asked, workspace).split()) is may


def test_the_whole_network_is_for_admins_whatever_the_approvers() -> None:
    assert who(replace(ASKED, kind="network", approvers=("ann", "role:approver"))) == "ada"


def test_who_may_use_the_home_decides_anything() -> None:
    for kind in ("step", "tool", "network"):
        require_decider(replace(ASKED, kind=kind, approvers=("ann",), requesters=("local",)), LOCAL_ADMIN, own="refuse")


def test_the_message_names_who_may() -> None:
    bob = Principal(name="bob", workspace="default", role="approver", kind="token")
    with pytest.raises(NotApproverError, match="bob may not decide this: it is for ann or any admin"):
        require_decider(replace(ASKED, approvers=("ann", "role:admin")), bob, own=None)
    with pytest.raises(ForbiddenError, match="whose role is viewer"):
        require_decider(ASKED, replace(bob, role="viewer"), own=None)


@pytest.mark.parametrize(("approver", "said"), [("zoe", "is no principal"), ("eve", "is editor, who may not approve")])
def test_approvers_who_could_not_decide_are_refused(approver: str, said: str) -> None:
    refuse_unknown("f", "ask", ("ann", "role:admin"), PRINCIPALS)
    with pytest.raises(UnknownApproverError, match=said) as refused:
        refuse_unknown("f", "ask", ("ann", approver), PRINCIPALS)
    assert "ada, ann, bob" in str(refused.value.fix)

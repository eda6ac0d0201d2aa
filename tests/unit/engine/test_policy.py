"""What is allowed is what the role allows, cut down to the token's scope and to the flows of both."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from engine.policy import ACTIONS, Action, ForbiddenError, may, require, require_narrower
from engine.principal import LOCAL_ADMIN, Principal
from engine.principals import Grant, PrincipalRecord
from engine.reach import Reach, fits

EDITOR = Principal(name="ann", workspace="default", role="editor", kind="token")


def test_the_local_admin_may_do_all_of_it_in_any_workspace() -> None:
    for action in ACTIONS:
        require(LOCAL_ADMIN, action, flow="*")
        require(replace(LOCAL_ADMIN, workspace="ops"), action)


@pytest.mark.parametrize(
    ("scopes", "allowed", "refused"),
    [
        (("runs.start",), ["runs.start"], ["runs.read", "flows.read", "code.execute"]),
        (("flows.*", "runs.read"), ["flows.read", "flows.change", "runs.read"], ["runs.start", "secrets.read"]),
        (("*.read",), ["flows.read", "secrets.read"], ["flows.change", "principals.read"]),
        (("*",), ["runs.start", "code.execute"], ["approvals.decide", "tokens.change"]),
        ((), [], list(ACTIONS)),
    ],
)
def test_a_token_is_for_its_scopes_of_what_the_role_allows(
    scopes: tuple[str, ...], allowed: list[Action], refused: list[Action]
) -> None:
    principal = replace(EDITOR, scopes=scopes)
    assert [action for action in [*allowed, *refused] if may(principal, action)] == allowed


def test_a_refusal_says_what_is_too_small_and_what_to_do() -> None:
    for principal, said, fix in (
        (replace(EDITOR, role="viewer"), "whose role is viewer", "role that allows it"),
        (replace(EDITOR, scopes=("flows.*",)), "is not for runs.start, only for flows.*", "--scope runs.start"),
        (replace(EDITOR, only_flows=("a_*",)), "not for the flow 'b', only for a_*", "--only-flow b"),
        (replace(EDITOR, granted_flows=("a_*",)), "ann is not granted the flow 'b'", "principals grant ann --flow 'b'"),
    ):
        with pytest.raises(ForbiddenError) as refused:
            require(principal, "runs.start", flow="b")
        assert said in refused.value.message
        assert fix in (refused.value.fix or "")


def test_flows_are_those_of_the_grants_and_of_the_token() -> None:
    principal = replace(EDITOR, granted_flows=("a_*", "b"), only_flows=("*_x", "b"))
    flows = ("a_x", "a_y", "b", "c_x")
    assert [flow for flow in flows if may_start(principal, flow)] == ["a_x", "b"]
    assert [flow for flow in flows if principal.flows.covers(flow)] == ["a_x", "b"]
    assert not may_start(principal, "*")
    assert may_start(EDITOR, "*")
    assert Reach.within(["*"], ["*"]).is_all
    assert not Reach.within([]).covers("a")


def may_start(principal: Principal, flow: str) -> bool:
    try:
        require(principal, "runs.start", flow=flow)
    except ForbiddenError:
        return False
    return True


@pytest.mark.parametrize(
    ("own", "wanted", "narrower"),
    [("*", "*", True), ("a*", "*", False), ("a*", "ab*", True), ("a*c", "a*c", True), ("*b", "a*", False)],
)
def test_a_token_makes_none_that_opens_more(own: str, wanted: str, *, narrower: bool) -> None:
    assert fits((own,), wanted) is narrower
    for principal, actions, flows in (
        (replace(LOCAL_ADMIN, scopes=(own,)), [wanted], ["x"]),
        (replace(LOCAL_ADMIN, only_flows=(own,)), ["x"], [wanted]),
    ):
        if narrower:
            require_narrower(principal, actions, flows)
        else:
            with pytest.raises(ForbiddenError, match="so it makes none that is"):
                require_narrower(principal, actions, flows)


def test_grants_do_not_limit_an_admin() -> None:
    grant = Grant(kind="tool", pattern="a.*", granted_by="x", granted_at=datetime.now(UTC))
    record = PrincipalRecord(
        id="1",
        workspace="default",
        name="ann",
        kind="person",
        role="editor",
        created_at=datetime.now(UTC),
        grants=(grant,),
    )
    assert (record.patterns("tool"), record.patterns("flow")) == (("a.*",), ())
    assert replace(record, role="admin").patterns("flow") == ("*",)

"""Questions to people, on both databases: put once, decided once, in time."""

import asyncio
from datetime import timedelta

import pytest

from engine.records import Run
from engine.store import Store
from engine.store.errors import DecidedError, LeaseLostError, UnknownRecordError
from flows.contracts import Question
from flows.values import RunStatus

FULL = Question(
    message="Go?",
    details={"list": [1, None]},
    form={"type": "object"},
    approvers=("ops", "ann"),
    timeout=3600,
    on_timeout="reject",
)
PLAIN = Question(message="Go?")


@pytest.fixture
async def run(store: Store) -> Run:
    version = await store.flows.put_version("default", "f", "flow: f", {}, "digest")
    return await store.runs.create(version, {}, running=True)


async def test_a_question_is_put_once_a_place_and_kept_as_it_is(store: Store, run: Run) -> None:
    both = await asyncio.gather(*(store.approvals.ask(run.id, "ask", FULL) for _ in range(2)))
    assert both[0] == both[1]
    others = [
        await store.approvals.ask(run.id, "ask", PLAIN, item=0),
        await store.approvals.ask(run.id, "ask", PLAIN, item=0, subject="call"),
        await store.approvals.ask(run.id, "other", PLAIN),
    ]
    assert len({one.id for one in (both[0], *others)}) == 4
    newest, *_, first = await store.approvals.list()
    assert (newest.label, newest.form, newest.expires_at, newest.approvers) == ("other", None, None, ())
    assert (first.details, first.form, first.approvers) == (FULL.details, FULL.form, FULL.approvers)
    assert first.expires_at == first.requested_at + timedelta(hours=1)
    assert (first.on_timeout, first.decision, first.workspace) == ("reject", None, run.workspace)


async def test_a_decision_is_made_once_and_heard(store: Store, run: Run) -> None:
    asked = await store.approvals.ask(run.id, "ask", FULL)
    both = await asyncio.gather(
        store.approvals.decide(asked.id, "approved", by="ann", comment="yes", values={"a": 1}),
        store.approvals.decide(asked.id, "rejected", by="bob"),
        return_exceptions=True,
    )
    (made,) = [one for one in both if not isinstance(one, BaseException)]
    (refused,) = [one for one in both if isinstance(one, BaseException)]
    assert isinstance(refused, DecidedError)
    assert made.decided_by is not None
    assert made.decided_by in str(refused)
    heard = await store.approvals.ask(run.id, "ask", FULL)
    assert (heard.decision, heard.by, heard.values) == (made.decision, made.decided_by, made.form_values)
    assert await store.approvals.list(undecided=True) == ()
    with pytest.raises(UnknownRecordError):
        await store.approvals.decide("0" * 26, "approved", by="ann")


async def test_it_says_for_whom_it_is_asked_and_how_it_was_decided(store: Store) -> None:
    version = await store.flows.put_version("default", "f", "flow: f", {}, "digest")
    run = await store.runs.create(version, {}, running=True, principal="bob")
    child = await store.runs.create(version, {}, running=True, parent_id=run.id, principal="bob")
    question = Question(message="Go?", own="refuse", notify=("ops",))
    asked = await store.approvals.ask(child.id, "ask", question, subject="call", kind="tool")
    await store.approvals.decide(asked.id, "approved", by="ann", via="link")
    found = await store.approvals.get(asked.id)
    assert found is not None
    assert (found.kind, found.flow, found.requesters, found.own, found.notify) == (
        "tool",
        "f",
        ("bob",),
        "refuse",
        ("ops",),
    )
    assert found.decided_via == "link"


async def test_time_is_over_without_anybody_doing_anything(store: Store, run: Run) -> None:
    await store.approvals.ask(run.id, "ask", Question(message="Go?", timeout=0))
    assert await store.approvals.list(undecided=True) == ()
    (late,) = await store.approvals.list(runs=[run.id])
    assert (late.decision, late.decided_at) == ("timed_out", late.expires_at)
    with pytest.raises(DecidedError, match="time was over"):
        await store.approvals.decide(late.id, "approved", by="ann")
    assert (await store.approvals.ask(run.id, "ask", PLAIN)).decision == "timed_out"


async def test_only_the_owner_of_the_run_asks_and_its_end_withdraws(store: Store, run: Run) -> None:
    asked = await store.approvals.ask(run.id, "ask", PLAIN)
    await store.runs.park(run.id)
    with pytest.raises(LeaseLostError):
        await store.approvals.ask(run.id, "other", PLAIN)
    await store.leases.take_over(run.id)
    await store.runs.finish(run.id, RunStatus.CANCELLED)
    with pytest.raises(DecidedError, match="the run ended"):
        await store.approvals.decide(asked.id, "approved", by="ann")
    (withdrawn,) = await store.approvals.list(prefix=asked.id[:20])
    assert (withdrawn.decision, withdrawn.decided_by) == ("withdrawn", None)

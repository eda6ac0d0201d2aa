"""Questions about flow versions, on both databases: one that stands a version, decided once, taken back."""

import asyncio

import pytest

from engine.records import FlowVersion
from engine.store import Store
from engine.store.errors import DecidedError, NotRevocableError
from flows.contracts import Question
from flows.values import RunStatus

QUESTION = Question(message="Open?", approvers=("role:admin",))


async def put(store: Store, text: str) -> FlowVersion:
    return await store.flows.put_version("default", "f", text, {}, f"digest of {text}")


@pytest.fixture
async def version(store: Store) -> FlowVersion:
    return await put(store, "one")


async def test_a_version_has_one_question_with_all_who_ask(store: Store, version: FlowVersion) -> None:
    assert await store.full_network.state(version.id) is None
    both = await asyncio.gather(
        *(store.full_network.ask(version, QUESTION, requesters=(name,)) for name in ("ann", "bob"))
    )
    assert both[0].id == both[1].id
    (asked,) = await store.approvals.list(undecided=True)
    assert (asked.kind, asked.run_id, asked.flow_version_id, asked.label) == ("network", None, version.id, "f")
    assert set(asked.requesters) == {"ann", "bob"}
    other = await store.full_network.ask(await put(store, "two"), QUESTION, requesters=())
    assert other.id != asked.id


async def test_a_decision_lets_the_runs_that_wait_go_on(store: Store, version: FlowVersion) -> None:
    runs = [await store.runs.create(version, {}, running=True) for _ in range(2)]
    asked = await store.full_network.ask(version, QUESTION, requesters=())
    for run in runs:
        await store.runs.park(run.id)
    assert list(await store.undriven.due(workspace="default")) == []
    await store.approvals.decide(asked.id, "approved", by="ann")
    assert {run for run, _ in await store.undriven.due(workspace="default")} == {run.id for run in runs}
    with pytest.raises(DecidedError):
        await store.approvals.decide(asked.id, "rejected", by="bob")


async def test_the_end_of_a_run_takes_no_question_about_its_version_back(store: Store, version: FlowVersion) -> None:
    run = await store.runs.create(version, {}, running=True)
    asked = await store.full_network.ask(version, QUESTION, requesters=())
    await store.runs.finish(run.id, RunStatus.CANCELLED)
    assert (await store.full_network.state(version.id)) == asked
    assert [one.id for one in await store.approvals.list(runs=[run.id])] == [asked.id]


async def test_what_is_taken_back_is_asked_for_anew_with_those_who_asked_before(
    store: Store, version: FlowVersion
) -> None:
    asked = await store.full_network.ask(version, QUESTION, requesters=("ann",))
    with pytest.raises(NotRevocableError):
        await store.full_network.revoke(asked.id, by="root")
    await store.approvals.decide(asked.id, "approved", by="bob")
    assert await store.full_network.last_approved("default", "f") == version.id
    revoked = await store.full_network.revoke(asked.id, by="root")
    assert (revoked.decision, revoked.revoked_by) == ("approved", "root")
    assert await store.full_network.last_approved("default", "f") is None
    assert await store.full_network.state(version.id) is None
    with pytest.raises(NotRevocableError):
        await store.full_network.revoke(asked.id, by="root")
    anew = await store.full_network.ask(version, QUESTION, requesters=("carol",))
    found = await store.approvals.get(anew.id)
    assert anew.id != asked.id
    assert found is not None
    assert set(found.requesters) == {"ann", "carol"}


async def test_whoever_puts_it_into_use_may_decide_by_that(store: Store, version: FlowVersion) -> None:
    assert await store.full_network.decided(version, QUESTION, by="root", via="local", comment="run from a file")
    assert not await store.full_network.decided(version, QUESTION, by="root", via="local", comment="again")
    (found,) = await store.approvals.list()
    assert (found.decision, found.decided_by, found.comment) == ("approved", "root", "run from a file")

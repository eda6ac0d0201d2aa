"""The outbox of notices, on both databases: told to each once it is settled, claimed by one, tried again."""

import asyncio

import pytest

from engine.records import Run
from engine.store import Store
from flows.contracts import Question
from flows.values import RunStatus


@pytest.fixture
async def run(store: Store) -> Run:
    version = await store.flows.put_version("default", "f", "flow: f", {}, "digest")
    return await store.runs.create(version, {}, running=True)


async def test_a_question_is_announced_once(store: Store, run: Run) -> None:
    asked = await store.approvals.ask(run.id, "ask", Question(message="Go?", notify=("step",)))
    (found,) = await store.notices.unannounced()
    assert (found.id, found.notify) == (asked.id, ("step",))
    await asyncio.gather(*(store.notices.announce(asked.id, ["step", "ops"]) for _ in range(2)))
    assert await store.notices.unannounced() == []
    assert [one.target for one in await store.notices.of(asked.id)] == ["ops", "step"]


async def test_a_question_that_is_rolled_back_announces_nothing(store: Store, run: Run) -> None:
    async def ask_and_fail() -> None:
        async with store.transaction():
            await store.approvals.ask(run.id, "ask", Question(message="Go?"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await ask_and_fail()
    assert await store.notices.unannounced() == []


async def test_a_notice_is_claimed_by_one_and_again_once_its_time_is_over(store: Store, run: Run) -> None:
    asked = await store.approvals.ask(run.id, "ask", Question(message="Go?"))
    await store.notices.announce(asked.id, ["ops"])
    claims = await asyncio.gather(*(store.notices.claim(seconds=60, limit=9) for _ in range(3)))
    (claimed,) = [one for each in claims for one in each]
    assert await store.notices.claim(seconds=60, limit=9) == []
    await store.notices.failed(claimed.id, "no route", again=0)
    (again,) = await store.notices.claim(seconds=0, limit=9)
    assert (again.attempts, again.error) == (1, "no route")
    # Whoever had claimed it has died.
    assert [one.id for one in await store.notices.claim(seconds=60, limit=9)] == [claimed.id]
    await store.notices.sent(claimed.id)
    (sent,) = await store.notices.of(asked.id)
    assert (sent.attempts, sent.error, sent.due_at, sent.sent_at is None) == (2, None, None, False)


async def test_pruning_a_run_takes_its_notices_with_it(store: Store, run: Run) -> None:
    asked = await store.approvals.ask(run.id, "ask", Question(message="Go?"))
    await store.notices.announce(asked.id, ["ops"])
    await store.runs.finish(run.id, RunStatus.SUCCEEDED)
    assert await store.retention.remove_runs(beyond=0) == 1
    assert await store.approvals.get(asked.id) is None
    assert await store.notices.of(asked.id) == []

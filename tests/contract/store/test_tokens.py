"""Tokens and start keys: what is kept of them, and that a key has one run."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from engine.principals import GrantPatterns, TokenRecord
from engine.store import Store
from engine.store.errors import NameTakenError, RunDrivenError
from flows.values import RunStatus

NOW = datetime.now(UTC)


EVERYTHING = GrantPatterns(tools=["*"], flows=["*"])


async def make(store: Store, token: str = "abc", principal: str = "ci", **given: datetime) -> TokenRecord:
    with suppress(NameTakenError):
        await store.principals.create(principal, kind="person", role="admin", grants=EVERYTHING, by="test")
    found = await store.principals.find(principal)
    return await store.tokens.create(token, f"hash of {token}", principal=found, **given)  # type: ignore[arg-type]


async def test_a_token_is_found_as_it_was_made(store: Store) -> None:
    assert await store.tokens.find("abc") is None
    made = await make(store, expires_at=NOW + timedelta(days=1))
    assert await store.tokens.find("abc") == made
    assert (made.principal, made.workspace, made.role, made.last_used_at) == ("ci", "default", "admin", None)
    assert made.is_valid(NOW)
    assert not made.is_valid(NOW + timedelta(days=1))


async def test_tokens_of_one_name_have_one_principal(store: Store) -> None:
    first, second, other = await make(store), await make(store, "def"), await make(store, "ghi", "me")
    assert first.principal_id == second.principal_id != other.principal_id
    assert [token.id for token in await store.tokens.list()] == ["abc", "def", "ghi"]


async def test_a_revoked_token_stays_revoked_and_others_do_not_change(store: Store) -> None:
    made, other = await make(store), await make(store, "def")
    assert await store.tokens.revoke("abc", workspace="elsewhere") is None
    revoked = await store.tokens.revoke("abc")
    assert revoked is not None
    assert not revoked.is_valid(NOW)
    assert revoked == replace(made, revoked_at=revoked.revoked_at)
    assert await store.tokens.revoke("abc") == revoked
    assert await store.tokens.revoke("nothing") is None
    assert await store.tokens.find("def") == other


async def test_the_last_use_is_kept_to_the_minute(store: Store) -> None:
    await make(store)
    await store.tokens.touch("abc", NOW)
    await store.tokens.touch("abc", NOW + timedelta(seconds=59))
    assert (await store.tokens.find("abc") or await make(store)).last_used_at == NOW
    await store.tokens.touch("abc", NOW + timedelta(seconds=61))
    assert (await store.tokens.find("abc") or await make(store)).last_used_at == NOW + timedelta(seconds=61)


async def test_one_of_many_that_claim_a_key_at_once_gets_it(store: Store) -> None:
    version = await store.flows.put_version("default", "flow", "text", {}, "digest")
    runs = [await store.runs.create(version, {}) for _ in range(5)]
    claims = await asyncio.gather(*(store.start_keys.claim("default", "key", "d", run.id) for run in runs))
    assert sum(claims) == 1
    assert await store.start_keys.find("default", "key") == ("d", runs[claims.index(True)].id)
    assert await store.start_keys.find("default", "other") is None


async def test_one_of_many_that_claim_a_queued_run_drives_it(store: Store) -> None:
    version = await store.flows.put_version("default", "flow", "text", {}, "digest")
    first, second = await store.runs.create(version, {}), await store.runs.create(version, {})
    assert await store.undriven.queued() == (first.id, second.id)
    taken = await asyncio.gather(*(store.leases.take_over(first.id) for _ in range(5)), return_exceptions=True)
    assert [problem for problem in taken if not isinstance(problem, RunDrivenError)] == [None]
    assert await store.undriven.queued() == (second.id,)
    assert (await store.runs.get(first.id)).started_at is not None


async def test_only_runs_that_go_on_can_be_asked_to_end(store: Store) -> None:
    version = await store.flows.put_version("default", "flow", "text", {}, "digest")
    driven, other = [await store.runs.create(version, {}, running=True) for _ in range(2)]
    part = await store.runs.create(version, {}, running=True, parent_id=other.id)
    parked, queued = await store.runs.create(version, {}, running=True), await store.runs.create(version, {})
    await store.runs.park(parked.id)
    for run in (driven, part, parked, queued):
        await store.runs.request_cancel(run.id)
    assert await store.runs.asked_to_cancel() == {driven.id: False}
    assert await store.undriven.cancelled() == (parked.id, queued.id)
    first = (await store.runs.get(driven.id)).cancel_requested_at
    for _ in range(2):
        await store.runs.request_cancel(driven.id)
        assert await store.runs.asked_to_cancel() == {driven.id: True}
    assert (await store.runs.get(driven.id)).cancel_requested_at == first is not None
    await store.runs.finish(driven.id, RunStatus.CANCELLED)
    await store.runs.finish(parked.id, RunStatus.CANCELLED)
    assert await store.runs.cancel_queued(queued.id)
    assert (await store.runs.asked_to_cancel(), await store.undriven.cancelled()) == ({}, ())

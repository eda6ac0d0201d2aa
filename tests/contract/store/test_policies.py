"""Policies, as both databases keep them, and how soon a new one is in force."""

import asyncio

import pytest
from sqlalchemy.exc import IntegrityError

from engine.policies import Policies
from engine.store import Store
from engine.workspace_policy import DEFAULT, InvalidPolicyError, PolicyVersion


async def put(store: Store, number: int, document: dict[str, object]) -> PolicyVersion:
    async with store.transaction():
        await store.policies.lock("default")
        return await store.policies.add("default", number, document, "ann")


async def test_versions_are_kept_as_they_were_written(store: Store) -> None:
    assert await store.policies.current("default") == PolicyVersion(workspace="default")
    first = await put(store, 1, {"limits": {"memory": "1GB"}, "networks": ["none"]})
    second = await put(store, 2, {})
    assert await store.policies.current("default") == second
    assert await store.policies.find("default", 1) == first
    assert (first.set_by, first.document) == ("ann", {"limits": {"memory": "1GB"}, "networks": ["none"]})
    assert await store.policies.find("default", 3) is None
    assert await store.policies.list("default", limit=10) == (second, first)
    assert await store.policies.list("default", limit=10, before=2) == (first,)
    assert await store.policies.list("default", limit=1) == (second,)


async def test_a_number_is_taken_once(store: Store) -> None:
    await put(store, 1, {})
    with pytest.raises(IntegrityError):
        await put(store, 1, {"concurrent_code": 1})


async def test_policies_of_other_workspaces_are_others(store: Store) -> None:
    await put(store, 1, {"concurrent_code": 1})
    assert (await store.policies.current("other")).number == 0


async def test_policy_is_in_force_at_once_here_and_soon_elsewhere(store: Store) -> None:
    here, elsewhere = Policies.of(store), Policies.of(store)
    assert await here.current("default") == await elsewhere.current("default") == DEFAULT
    here.changed(await put(store, 1, {"concurrent_code": 3}))
    assert (await here.current("default")).concurrent_code == 3
    async with asyncio.timeout(30):
        while (await elsewhere.in_force("default")).number != 1:  # noqa: ASYNC110 - its time must pass
            await asyncio.sleep(0.05)
    assert (await elsewhere.current("default")).concurrent_code == 3


async def test_older_version_never_takes_the_place_of_a_newer_one(store: Store) -> None:
    policies = Policies.of(store)
    old, new = await put(store, 1, {"concurrent_code": 1}), await put(store, 2, {"concurrent_code": 2})
    policies.changed(new)
    policies.changed(old)
    assert policies.known("default").number == 2
    assert (await policies.current("default")).concurrent_code == 2


async def test_policy_that_this_version_can_not_read_lets_nothing_run(store: Store) -> None:
    await put(store, 1, {"of_a_newer_version": True})
    with pytest.raises(InvalidPolicyError):
        await Policies.of(store).ceilings("default")

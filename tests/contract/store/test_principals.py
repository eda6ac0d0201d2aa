"""Principals and workspaces: what is kept of them, that changes are known at once, and that an admin is always left."""

import asyncio

import pytest

from engine.principals import GrantPatterns, PrincipalRecord
from engine.reach import Reach
from engine.records import Role
from engine.store import Store
from engine.store.errors import LastAdminError, NameTakenError, UnknownRecordError, WorkspaceInUseError
from engine.store.principals import Principals

EVERYTHING = GrantPatterns(tools=["*"], flows=["*"])


async def make(
    store: Store, name: str, role: Role = "editor", workspace: str = "default", grants: GrantPatterns = EVERYTHING
) -> PrincipalRecord:
    return await store.principals.create(name, kind="person", role=role, grants=grants, by="test", workspace=workspace)


async def test_a_principal_is_found_as_it_was_made(store: Store) -> None:
    made = await make(store, "ann", grants=GrantPatterns(tools=["workspace.*"], flows=["b_*", "a"]))
    assert await store.principals.find("ann") == made == await store.principals.current("default", "ann")
    assert (made.patterns("tool"), made.patterns("flow")) == (("workspace.*",), ("a", "b_*"))
    assert {(grant.granted_by, grant.granted_at) for grant in made.grants} == {("test", made.created_at)}
    with pytest.raises(NameTakenError):
        await make(store, "ann")
    with pytest.raises(UnknownRecordError):
        await store.principals.find("nobody")
    assert await store.principals.current("default", "nobody") is None


async def test_grants_are_given_once_and_taken_back_by_their_patterns(store: Store) -> None:
    first = await make(store, "ann", grants=GrantPatterns(tools=["a.*"]))
    again = await store.principals.grant("ann", GrantPatterns(tools=["a.*", "b"], flows=["f"]), by="other")
    assert [(grant.pattern, grant.granted_by) for grant in again.grants] == [
        ("a.*", "test"),
        ("b", "other"),
        ("f", "other"),
    ]
    with pytest.raises(UnknownRecordError, match=r"not granted the tool 'a\.x'"):
        await store.principals.revoke("ann", GrantPatterns(tools=["b", "a.x"]))
    assert await store.principals.find("ann") == again
    assert await store.principals.revoke("ann", GrantPatterns(tools=["b"], flows=["f"])) == first


async def test_what_changes_is_known_at_once_here_and_soon_elsewhere(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(store, "ann")
    elsewhere = Principals(store._database)
    assert await elsewhere.current("default", "ann") == await store.principals.current("default", "ann")
    disabled = await store.principals.enable("ann", enabled=False)
    assert await store.principals.current("default", "ann") == disabled
    assert not disabled.is_enabled
    known = await elsewhere.current("default", "ann")
    assert known is not None
    assert known.is_enabled
    monkeypatch.setattr("engine.store.principals.CURRENT_FOR", 0.0)
    assert await elsewhere.current("default", "ann") == disabled


async def test_an_admin_is_always_left(store: Store) -> None:
    await make(store, "ann", "admin")
    principals = store.principals
    for change in (principals.enable("ann", enabled=False), principals.set_role("ann", "viewer")):
        with pytest.raises(LastAdminError):
            await change
    with pytest.raises(LastAdminError):
        await principals.delete("ann")
    assert (await principals.find("ann")).is_enabled
    await make(store, "bob", "admin")
    ended = await asyncio.gather(
        principals.delete("ann"), principals.enable("bob", enabled=False), return_exceptions=True
    )
    assert [type(one) for one in ended].count(LastAdminError) == 1
    await store.workspaces.create("ops")
    await make(store, "ann", "admin", "ops")
    await principals.delete("ann", workspace="ops")


async def test_nobody_gets_the_name_of_one_who_is_gone(store: Store) -> None:
    ann = await make(store, "ann")
    token = await store.tokens.create("abc", "hash", principal=ann)
    await store.principals.delete("ann")
    assert (await store.principals.list()).items == ()
    assert await store.principals.current("default", "ann") is None
    found = await store.tokens.find(token.id)
    assert found is not None
    assert found.revoked_at is not None
    with pytest.raises(NameTakenError, match="there was a principal 'ann'"):
        await make(store, "ann")


async def test_principals_are_listed_by_name_and_workspace(store: Store) -> None:
    await store.workspaces.create("ops")
    for name in ("carl", "ann", "bob"):
        await make(store, name)
    await make(store, "dora", workspace="ops")
    page = await store.principals.list(limit=2)
    assert ([one.name for one in page.items], page.next) == (["ann", "bob"], "bob")
    page = await store.principals.list(limit=2, after=page.next)
    assert ([one.name for one in page.items], page.next) == (["carl"], None)
    assert [one.name for one in (await store.principals.list(workspace="ops")).items] == ["dora"]


async def test_only_an_empty_workspace_is_deleted(store: Store) -> None:
    await store.workspaces.create("ops")
    with pytest.raises(NameTakenError):
        await store.workspaces.create("ops")
    ann = await make(store, "ann", "admin", "ops")
    await store.tokens.create("abc", "hash", principal=ann)
    version = await store.flows.put_version("ops", "f", "text", {}, "digest", apply=True)
    await store.runs.create(version, {})
    with pytest.raises(WorkspaceInUseError, match="1 flow, 1 run"):
        await store.workspaces.delete("ops")
    for name, error in (("nothing", UnknownRecordError), ("default", WorkspaceInUseError)):
        with pytest.raises(error):
            await store.workspaces.delete(name)
    await store.workspaces.create("dev")
    await make(store, "ann", "admin", "dev")
    await store.workspaces.delete("dev")
    assert [one.name for one in await store.workspaces.list()] == ["default", "ops"]


async def test_who_applied_a_version_last_is_known(store: Store) -> None:
    draft = await store.flows.put_version("default", "f", "text", {}, "digest")
    assert await store.flows.applied_by(draft.id) is None
    for by in ("ann", "bob"):
        version = await store.flows.put_version("default", "f", "text", {}, "digest", apply=True, by=by)
        assert (version.id, await store.flows.applied_by(version.id)) == (draft.id, by)
    await store.flows.put_version("default", "f", "text", {}, "digest")
    assert await store.flows.applied_by(draft.id) == "bob"


async def test_listings_have_only_what_is_within_reach_and_right_cursors(store: Store) -> None:
    runs: dict[str, list[str]] = {}
    for name in ("a_one", "axone", "b_one", "a_two"):
        version = await store.flows.put_version("default", name, name, {}, name, apply=True)
        runs[name] = [(await store.runs.create(version, {})).id for _ in range(2)]
    reach = Reach.within(["a_*", "b_*"], ["*_one"])
    seen = sorted([*runs["a_one"], *runs["b_one"]], reverse=True)
    found: list[str] = []
    cursor: str | None = None
    for _ in range(4):
        page = await store.runs.list(reach=reach, limit=1, cursor=cursor)
        found += [run.id for run in page.items]
        cursor = page.next
    assert (found, cursor) == (seen, None)
    assert [flow.flow for flow in await store.flows.list(reach=reach)] == ["a_one", "b_one"]
    assert [flow.flow for flow in await store.flows.list(reach=reach, limit=1, after="a_one")] == ["b_one"]
    assert (await store.runs.find(runs["a_one"][0], reach=reach)).flow == "a_one"
    for hidden in (runs["axone"][0], runs["a_two"][0]):
        with pytest.raises(UnknownRecordError):
            await store.runs.find(hidden, reach=reach)

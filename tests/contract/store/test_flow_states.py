"""What is applied, disabled and deleted; a draft that is tried out changes nothing of it."""

import pytest

from engine.deliveries import TriggerPosition
from engine.records import FlowVersion
from engine.store import Store
from engine.store.errors import UnknownRecordError


async def put(store: Store, text: str, *, apply: bool = False, flow: str = "flow") -> int:
    return (await store.flows.put_version("default", flow, text, {}, f"digest of {text}", apply=apply)).number


async def state(store: Store, flow: str = "flow") -> tuple[int, str] | None:
    detail = await store.flows.detail(flow)
    return None if detail is None else (detail.version.number, detail.state)


async def test_a_flow_that_was_only_run_is_a_draft_and_its_last_version_the_current_one(store: Store) -> None:
    await put(store, "one")
    await put(store, "two")
    assert await state(store) == (2, "draft")


async def test_trying_out_a_draft_leaves_an_applied_flow_as_it_is(store: Store) -> None:
    await put(store, "one", apply=True)
    tag = (await store.flows.detail("flow") or 1 / 0).tag  # type: ignore[union-attr]
    assert await put(store, "two") == 2
    assert await state(store) == (1, "enabled")
    assert (await store.flows.detail("flow")).tag == tag  # type: ignore[union-attr]
    assert await put(store, "two", apply=True) == 2
    assert await state(store) == (2, "enabled")
    assert await put(store, "one", apply=True) == 1
    assert await state(store) == (1, "enabled")


async def test_disabling_outlasts_a_new_version_and_needs_an_applied_flow(store: Store) -> None:
    assert not await store.flows.enable("flow", enabled=False)
    await put(store, "one")
    assert not await store.flows.enable("flow", enabled=False)
    await put(store, "one", apply=True)
    assert await store.flows.enable("flow", enabled=False)
    await put(store, "two", apply=True)
    assert await state(store) == (2, "disabled")
    assert [(flow.number, flow.state) for flow in await store.flows.list()] == [(2, "disabled")]
    assert await store.flows.enable("flow", enabled=True)
    assert await state(store) == (2, "enabled")


async def test_a_deleted_flow_is_gone_but_for_its_runs_and_comes_back_with_its_numbers(store: Store) -> None:
    await put(store, "one", apply=True)
    version = await store.flows.current("flow")
    assert version is not None
    run = await store.runs.create(version, {})
    await store.flows.enable("flow", enabled=False)
    assert await store.flows.delete("flow")
    assert not await store.flows.delete("flow")
    assert not await store.flows.enable("flow", enabled=True)
    assert await state(store) is None
    assert await store.flows.current("flow") is None
    assert await store.flows.list() == ()
    assert (await store.flows.versions("flow")).items == ()
    assert await store.flows.version("flow", 1) is None
    assert (await store.flows.get((await store.runs.get(run.id)).flow_version_id)).text == "one"
    assert await put(store, "two") == 2
    assert await state(store) == (2, "draft")
    await store.flows.delete("flow")
    await put(store, "one", apply=True)
    assert await state(store) == (1, "enabled")


async def test_flows_and_versions_are_listed_by_pages(store: Store) -> None:
    for name in ("b", "a", "exec", "c"):
        await put(store, name, flow=name)
    listed = await store.flows.list(limit=2, hidden=("exec",))
    assert [flow.flow for flow in listed] == ["a", "b"]
    assert [flow.flow for flow in await store.flows.list(after="b", hidden=("exec",))] == ["c"]
    for text in ("two", "three"):
        await put(store, text, flow="a")
    page = await store.flows.versions("a", limit=2)
    assert ([version.number for version in page.items], page.next) == ([3, 2], "2")
    page = await store.flows.versions("a", limit=2, before=2)
    assert ([version.number for version in page.items], page.next) == ([1], None)
    assert (await store.flows.version("a", 2) or page).text == "two"  # type: ignore[union-attr]
    assert await store.flows.version("a", 9) is None


async def test_the_stamp_tells_what_may_start_and_those_are_given_in_order(store: Store) -> None:
    stamps = [await store.flows.stamp()]

    async def changed() -> bool:
        stamps.append(await store.flows.stamp())
        return stamps[-1] != stamps[-2]

    await put(store, "draft", flow="tried")
    assert not await changed()
    await put(store, "one", apply=True, flow="second")
    await put(store, "one", apply=True, flow="first")
    assert await changed()
    assert [(each.flow, each.text) for each in await store.flows.enabled()] == [("first", "one"), ("second", "one")]
    assert [await store.flows.state(name) for name in ("first", "tried", "none")] == ["enabled", "draft", None]
    await put(store, "tried out", flow="first")
    assert not await changed()
    await put(store, "two", apply=True, flow="first")
    assert await changed()
    await store.flows.enable("first", enabled=False)
    assert await changed()
    assert [each.flow for each in await store.flows.enabled()] == ["second"]
    assert await store.flows.state("first") == "disabled"
    await store.flows.enable("first", enabled=True)
    assert await changed()
    await store.flows.delete("first")
    assert await changed()
    assert await store.flows.state("first") is None


async def test_triggers_of_a_flow_that_was_disabled_or_deleted_remember_nothing(store: Store) -> None:
    async def remembers(moves: int) -> bool:
        position = TriggerPosition(workspace="default", flow="flow", trigger_id="t", moves=moves, value={"n": 1})
        if moves == 0:
            await store.events.move(position)
        return await store.events.position("default", "flow", "t") is not None

    await put(store, "one", apply=True)
    assert await remembers(0)
    await store.flows.enable("flow", enabled=True)
    assert await remembers(1)
    await store.flows.enable("flow", enabled=False)
    assert await remembers(1)
    await store.flows.enable("flow", enabled=True)
    assert not await remembers(1)
    assert await remembers(0)
    await store.flows.delete("flow")
    assert not await remembers(1)


async def test_a_version_that_was_not_kept_after_all_is_not_known(store: Store) -> None:
    kept: list[FlowVersion] = []

    async def put_and_fail() -> None:
        async with store.transaction():
            kept.append(await store.flows.put_version("default", "f", "text", {}, "digest"))
            assert await store.flows.get(kept[0].id) == kept[0]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await put_and_fail()
    with pytest.raises(UnknownRecordError):
        await store.flows.get(kept[0].id)

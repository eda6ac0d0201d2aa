"""Calls of tools: granted, checked, recorded; through the real catalogue and store."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from engine.records import Run, ToolCall
from engine.store import Store
from engine.tool_calls import Caller, ToolCaller
from flows.contracts import ToolSpec
from flows.errors import StepboxError
from flows.values import Json
from steps.tools.catalogue import ToolCatalogue
from steps.tools.contract import ToolContext, ToolServices


class BuggyTool:
    """A plug-in's tool with a bug."""

    spec = ToolSpec(name="plug.buggy", description="Fails.", arguments={"type": "object"})

    async def call(self, arguments: Mapping[str, Json], context: ToolContext) -> Json:
        raise ZeroDivisionError("a bug")


class SlowTool:
    """A plug-in's tool that takes long."""

    spec = ToolSpec(name="plug.slow", description="Sleeps.", arguments={"type": "object"})

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def call(self, arguments: Mapping[str, Json], context: ToolContext) -> Json:
        self.begun.set()
        await asyncio.sleep(60)


buggy = BuggyTool()
slow = SlowTool()


class Bench:
    """A run in a real store, and what calls tools for it."""

    def __init__(self, store: Store, run: Run, tools: ToolCaller) -> None:
        self.store = store
        self.run = run
        self.tools = tools
        at: dict[str, Any] = {"run_id": run.id, "step_id": "a", "item": None, "attempt": 1}
        self.caller = Caller(
            **at,
            workspace="default",
            principal="local",
            flow="f",
            journal=tools.journal(**at, one_call=False),
            tools_granted=frozenset({"workspace.create_doc", "plug.buggy", "plug.slow"}),
            host_directories=(),
        )

    async def calls(self) -> tuple[ToolCall, ...]:
        return await self.store.calls.list(self.run.id)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    plug_ins = [EntryPoint(f"plug.{name}", f"{__name__}:{name}", "stepbox.tools") for name in ("buggy", "slow")]
    async with await Store.open(f"sqlite:///{tmp_path}/test.db") as store:
        version = await store.flows.put_version("default", "f", "flow: f", {}, "digest")
        run = await store.runs.create(version, {}, running=True)
        services = ToolServices(content=store.content, shared=str(tmp_path / "shared"))
        yield Bench(store, run, ToolCaller(catalogue=ToolCatalogue(plug_ins), services=services, store=store))


async def test_a_tool_that_was_not_granted_is_not_called(bench: Bench) -> None:
    with pytest.raises(StepboxError) as refused:
        await bench.tools.call("workspace.search_tasks", {}, bench.caller)
    assert refused.value.code == "not_granted"
    assert "tools: [workspace.search_tasks]" in str(refused.value.fix)
    assert await bench.calls() == ()


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("workspace.create_dco", {}, "unknown_tool"),
        ("workspace.create_doc", {"docId": "a"}, "invalid_arguments"),
        ("workspace.create_doc", {"docId": "a", "content": 1}, "invalid_arguments"),
        ("workspace.create_doc", [], "invalid_arguments"),
    ],
)
async def test_a_call_that_can_not_be_made_is_not_recorded(bench: Bench, name: str, arguments: Json, code: str) -> None:
    with pytest.raises(StepboxError) as refused:
        await bench.tools.call(name, arguments, bench.caller)
    assert refused.value.code == code
    assert await bench.calls() == ()


async def test_a_call_is_recorded_with_its_result(bench: Bench) -> None:
    result = await bench.tools.call("workspace.create_doc", {"docId": "a", "content": "x"}, bench.caller)
    (call,) = await bench.calls()
    assert (call.tool, call.arguments, call.result) == ("workspace.create_doc", {"docId": "a", "content": "x"}, result)
    assert call.ended_at is not None
    assert call.error is None


async def test_a_failed_call_is_recorded_with_its_error(bench: Bench) -> None:
    await bench.tools.call("workspace.create_doc", {"docId": "a", "content": "x"}, bench.caller)
    with pytest.raises(StepboxError) as failed:
        await bench.tools.call("workspace.create_doc", {"docId": "a", "content": "y"}, replace(bench.caller, attempt=2))
    last = (await bench.calls())[-1]
    assert last.error is not None
    assert last.error.code == failed.value.code == "already_exists"


async def test_a_bug_in_a_tool_is_a_failed_call(bench: Bench) -> None:
    with pytest.raises(StepboxError) as failed:
        await bench.tools.call("plug.buggy", {}, bench.caller)
    assert failed.value.code == "tool_failed"
    assert "ZeroDivisionError: a bug" in failed.value.message
    (call,) = await bench.calls()
    assert call.error is not None


async def test_a_call_that_is_cut_off_is_recorded_as_such(bench: Bench) -> None:
    call = asyncio.create_task(bench.tools.call("plug.slow", {}, bench.caller))
    await asyncio.wait_for(slow.begun.wait(), 30)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    (record,) = await bench.calls()
    assert record.error is not None
    assert record.error.code == "tool_outcome_unknown"
    assert record.uncertain
    assert record.ended_at is not None

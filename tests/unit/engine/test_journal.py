"""Calls that have happened give their recorded results: an attempt after another, through the real store."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from engine import journal
from engine.records import ToolCall
from engine.store import Store
from engine.tool_calls import Caller, ToolCaller
from flows.contracts import Effect, StepResult, ToolSpec
from flows.errors import StepboxError
from flows.values import Json, StepStatus
from steps.tools.catalogue import ToolCatalogue
from steps.tools.contract import ToolContext, ToolError, ToolServices


class UncertainError(ToolError):
    uncertain = True


class Outside:
    """A tool of a plug-in that counts what it does. ``fails`` has how often calls with an ``n`` fail, and how."""

    def __init__(self, name: str, *, effect: Effect, idempotent: bool = False) -> None:
        self.spec = ToolSpec(
            name=f"plug.{name}", description="", arguments={"type": "object"}, effect=effect, idempotent=idempotent
        )
        self.made: list[Json] = []
        self.keys: list[str] = []
        self.fails: dict[Json, list[Exception]] = {}
        self.hangs: set[Json] = set()
        self.begun = asyncio.Event()

    def reset(self) -> None:
        self.__init__(  # type: ignore[misc]
            self.spec.short_name, effect=self.spec.effect, idempotent=self.spec.idempotent
        )

    async def call(self, arguments: Mapping[str, Json], context: ToolContext) -> Json:
        number = arguments.get("n")
        self.made.append(number)
        self.keys.append(context.idempotency_key)
        self.begun.set()
        if number in self.hangs:
            await asyncio.sleep(600)
        if self.fails.get(number):
            raise self.fails[number].pop(0)
        return f"{number} was call {len(self.made)}"


write = Outside("write", effect="write")
put = Outside("put", effect="write", idempotent=True)
read = Outside("read", effect="read")


class Bench:
    """A step of a run in a real store, whose attempts call tools."""

    def __init__(self, store: Store, run_id: str, tools: ToolCaller) -> None:
        self.store = store
        self.run_id = run_id
        self.tools = tools
        self.attempts = 0

    async def attempt(self, *, item: int | None = None, one_call: bool = False) -> "Attempt":
        self.attempts += 1
        row = await self.store.steps.start(self.run_id, "s", attempt=self.attempts, item=item)
        await self.store.steps.finish(row.id, StepResult(status=StepStatus.FAILED))
        at: dict[str, Any] = {"run_id": self.run_id, "step_id": "s", "item": item, "attempt": self.attempts}
        caller = Caller(
            **at,
            workspace="default",
            principal="local",
            flow="f",
            tools_granted=frozenset({"plug.write", "plug.put", "plug.read", "workspace.create_task", "gone.write"}),
            host_directories=(),
            journal=self.tools.journal(**at, one_call=one_call),
        )
        return Attempt(self.tools, caller)

    async def calls(self) -> tuple[ToolCall, ...]:
        return await self.store.calls.list(self.run_id)


class Attempt:
    def __init__(self, tools: ToolCaller, caller: Caller) -> None:
        self._tools = tools
        self._caller = caller

    async def __call__(self, tool: str, number: Json = None, **more: Json) -> Json:
        arguments = more if number is None else {"n": number, **more}
        return await self._tools.call(tool if "." in tool else f"plug.{tool}", arguments, self._caller)

    async def cut_off(self, tool: Outside, number: Json) -> None:
        """Make a call and cut it off while it is going on."""
        tool.hangs.add(number)
        tool.begun.clear()
        task = asyncio.create_task(self(tool.spec.short_name, number))
        await asyncio.wait_for(tool.begun.wait(), 30)
        task.cancel()
        await asyncio.wait({task})
        tool.hangs.clear()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    for tool in (write, put, read):
        tool.reset()
    plug_ins = [EntryPoint(f"plug.{name}", f"{__name__}:{name}", "stepbox.tools") for name in ("write", "put", "read")]
    async with await Store.open(f"sqlite:///{tmp_path}/test.db") as store:
        version = await store.flows.put_version("default", "f", "flow: f", {}, "digest")
        run = await store.runs.create(version, {}, running=True)
        services = ToolServices(content=store.content, shared=str(tmp_path / "shared"))
        yield Bench(store, run.id, ToolCaller(catalogue=ToolCatalogue(plug_ins), services=services, store=store))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PATIENCE", 0.1)


async def code_of(call: Any) -> str:
    with pytest.raises(StepboxError) as raised:
        await call
    return raised.value.code


async def test_calls_that_have_happened_give_their_results_and_are_not_made(bench: Bench) -> None:
    first = await bench.attempt()
    results = [await first("write", 1), await first("read", 2), await first("write", 3)]
    again = await bench.attempt()
    assert [await again("write", 1), await again("read", 2), await again("write", 3)] == results
    assert await again("write", 4) == "4 was call 3"
    assert write.made == [1, 3, 4]
    assert read.made == [2]
    third = await bench.attempt()
    assert await third("write", 4) == "4 was call 3"
    assert len(await bench.calls()) == 4


async def test_a_first_attempt_reads_no_records(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0
    earlier = bench.store.calls.earlier

    async def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal reads
        reads += 1
        return await earlier(*arguments, **options)

    monkeypatch.setattr(bench.store.calls, "earlier", counted)
    first = await bench.attempt()
    await asyncio.gather(*(first("write", number) for number in range(5)))
    assert reads == 0
    again = await bench.attempt()
    await asyncio.gather(*(again("write", number) for number in range(5)))
    assert reads == 1
    await bench.attempt()
    assert reads == 1, "nothing is read for an attempt that calls nothing"


async def test_the_order_of_calls_and_of_keys_does_not_matter(bench: Bench) -> None:
    first = await bench.attempt()
    for number in range(5):
        await first("write", number, a=1, b=2)
    again = await bench.attempt()
    await asyncio.gather(*(again("plug.write", b=2, n=number, a=1) for number in reversed(range(5))))
    assert len(write.made) == 5


async def test_each_record_is_claimed_once_of_equal_ones_the_oldest_first(bench: Bench) -> None:
    first = await bench.attempt()
    results = [await first("write", 1) for _ in range(3)]
    again = await bench.attempt()
    assert [await again("write", 1) for _ in range(4)] == [*results, "1 was call 4"]


async def test_other_items_and_steps_have_their_own_records(bench: Bench) -> None:
    await (await bench.attempt(item=0))("write", 1)
    await (await bench.attempt(item=1))("write", 1)
    assert write.made == [1, 1]


async def test_a_failed_call_is_made_again_with_a_new_key(bench: Bench) -> None:
    write.fails[1] = [ToolError("no")]
    first = await bench.attempt()
    assert await code_of(first("write", 1)) == "tool_failed"
    await first("write", 2)
    again = await bench.attempt()
    # Though a recorded write is unclaimed: this one is no other write than the ones before.
    assert await again("write", 1) == "1 was call 3"
    assert await again("write", 2) == "2 was call 2"
    assert len(set(write.keys)) == 3


async def test_a_call_that_failed_and_then_succeeded_is_not_made_again(bench: Bench) -> None:
    write.fails[1] = [ToolError("no"), ToolError("no")]
    first = await bench.attempt()
    for _ in range(2):
        assert await code_of(first("write", 1)) == "tool_failed"
    result = await first("write", 1)
    again = await bench.attempt()
    assert await again("write", 1) == result
    assert await again("write", 2) == "2 was call 4"
    assert write.made == [1, 1, 1, 2]


async def test_a_failure_that_may_have_done_its_work_is_made_again_with_the_same_key(bench: Bench) -> None:
    write.fails[1] = [UncertainError("broke off"), ZeroDivisionError("a bug")]
    for _ in range(2):
        assert await code_of((await bench.attempt())("write", 1)) == "tool_failed"
    assert await (await bench.attempt())("write", 1) == "1 was call 3"
    assert len(set(write.keys)) == 1
    assert [call.uncertain for call in await bench.calls()] == [True, True, False]
    assert await (await bench.attempt())("write", 1) == "1 was call 3"


@pytest.mark.parametrize("tool", [put, read], ids=["idempotent", "read"])
async def test_a_cut_off_call_that_may_be_made_twice_is_made_again_with_the_same_key(
    bench: Bench, tool: Outside
) -> None:
    name = tool.spec.short_name
    await (await bench.attempt()).cut_off(tool, 1)
    await (await bench.attempt()).cut_off(tool, 1)
    again = await bench.attempt()
    assert await again(name, 1) == "1 was call 3"
    assert len(set(tool.keys)) == 1
    assert await again(name, 1) == "1 was call 4", "another one, with a key of its own"
    assert len(set(tool.keys)) == 2
    last = await bench.attempt()
    assert [await last(name, 1), await last(name, 1)] == ["1 was call 3", "1 was call 4"]
    assert [call.uncertain for call in await bench.calls()] == [True, True, False, False]


async def test_a_cut_off_write_that_must_not_be_made_twice_fails_until_code_decides(bench: Bench) -> None:
    await (await bench.attempt()).cut_off(write, 1)
    assert await code_of((await bench.attempt())("write", 1)) == "tool_outcome_unknown"
    again = await bench.attempt()
    assert await code_of(again("write", 1)) == "tool_outcome_unknown"
    assert write.made == [1]
    assert await again("write", 1) == "1 was call 2", "the code has caught the error and calls again"
    await again("write", 2)
    last = await bench.attempt()
    assert await code_of(last("write", 1)) == "tool_outcome_unknown"
    assert await last("write", 1) == "1 was call 2"
    assert await last("write", 2) == "2 was call 3"


async def test_a_write_that_matches_none_while_others_are_unclaimed_is_a_mismatch(
    bench: Bench, impatient: None
) -> None:
    first = await bench.attempt()
    for number in range(6):
        await first("write", number)
    again = await bench.attempt()
    await again("write", 0)
    with pytest.raises(StepboxError) as mismatch:
        await again("write", "other")
    assert mismatch.value.code == "journal_mismatch"
    assert 'plug.write {"n":"other"}' in mismatch.value.message
    assert 'plug.write {"n":1}; plug.write {"n":2}; plug.write {"n":3} and 2 more' in mismatch.value.message
    assert "`with`" in str(mismatch.value.fix)
    assert await again("read", "new") == "new was call 1", "reads that match none are made"
    assert await again("write", 1) == "1 was call 2", "what matches goes on"
    assert write.made == list(range(6))


async def test_a_cut_off_write_counts_as_unclaimed_a_failed_one_does_not(bench: Bench, impatient: None) -> None:
    write.fails[1] = [ToolError("no")]
    first = await bench.attempt()
    assert await code_of(first("write", 1)) == "tool_failed"
    again = await bench.attempt()
    await again.cut_off(write, 2)
    assert await code_of((await bench.attempt())("write", 3)) == "journal_mismatch"


async def test_a_new_write_waits_for_the_recorded_ones_of_other_threads(bench: Bench) -> None:
    first = await bench.attempt()
    await first("write", 1)
    await first("write", 2)
    again = await bench.attempt()
    new = asyncio.create_task(again("write", "new"))
    await again("write", 1)
    done, _ = await asyncio.wait({new}, timeout=0.1)
    assert not done
    assert write.made == [1, 2]
    await again("write", 2)
    assert await asyncio.wait_for(new, 30) == "new was call 3"


async def test_it_waits_as_long_as_calls_come(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PATIENCE", 1.0)
    first = await bench.attempt()
    for number in range(8):
        await first("write", number)
    again = await bench.attempt()
    new = asyncio.create_task(again("write", "new"))
    for number in range(8):
        await asyncio.sleep(0.2)
        await again("write", number)
    assert await asyncio.wait_for(new, 30) == "new was call 9"


async def test_a_pool_that_has_fewer_threads_this_time_goes_on(bench: Bench, impatient: None) -> None:
    """As many writes as were made at once, but one, may be made before one that had overtaken them."""
    first = await bench.attempt()
    await asyncio.gather(*(first("write", number) for number in range(3)))
    again = await bench.attempt()
    await asyncio.wait_for(asyncio.gather(again("write", "a"), again("write", "b")), 30)
    assert await code_of(again("write", "c")) == "journal_mismatch"
    for number in range(3):
        await again("write", number)
    assert len(write.made) == 5
    other = await bench.attempt()
    codes = [code_of(other("write", f"other {number}")) for number in range(4)]
    assert await asyncio.gather(*codes) == ["journal_mismatch"] * 4
    assert len(write.made) == 5


async def test_it_waits_longer_for_what_came_late(bench: Bench, impatient: None) -> None:
    first = await bench.attempt()
    await asyncio.sleep(1.5)
    await first("write", 1)
    again = await bench.attempt()
    new = asyncio.create_task(again("write", "new"))
    await asyncio.sleep(0.5)
    assert await again("write", 1) == "1 was call 1"
    assert await asyncio.wait_for(new, 30) == "new was call 2"


async def test_a_step_of_one_call_waits_for_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PATIENCE", 600.0)
    await (await bench.attempt())("write", 1)
    again = await bench.attempt(one_call=True)
    assert await asyncio.wait_for(code_of(again("write", 2)), 30) == "journal_mismatch"


async def test_a_record_of_a_tool_that_is_gone_is_a_write(bench: Bench, impatient: None) -> None:
    await bench.attempt()
    await bench.store.calls.add(bench.store.calls.new(bench.run_id, "s", "gone.write", {}), result=1)
    assert await code_of((await bench.attempt())("write", 1)) == "journal_mismatch"


async def test_a_write_to_the_workspace_and_the_end_of_its_record_are_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the engine ends between the two: it is made once more, and nothing keeps other writes from being made."""
    finish = bench.store.calls.finish
    task = {"title": "t", "statusId": "open"}

    async def broken(call_id: str, **how: Any) -> None:
        await finish(call_id, **how)
        raise ZeroDivisionError

    monkeypatch.setattr(bench.store.calls, "finish", broken)
    with pytest.raises(ZeroDivisionError):
        await (await bench.attempt())("workspace.create_task", **task)
    (begun,) = await bench.calls()
    assert begun.ended_at is None
    assert await bench.store.content.task_ids("default") == ()
    monkeypatch.undo()
    monkeypatch.setattr(journal, "PATIENCE", 600.0)
    again = await bench.attempt()
    await asyncio.wait_for(again("write", "other"), 30)
    created = await again("workspace.create_task", **task)
    assert await bench.store.content.task_ids("default") == (created["id"],)
    last = await bench.attempt()
    assert await last("workspace.create_task", **task) == created


async def test_a_pool_of_threads_is_not_held_up_by_its_own_calls(bench: Bench, impatient: None) -> None:
    """Of two workers' calls the second had happened; a third waits behind the first, which hadn't."""
    task = {"statusId": "open"}
    first = await bench.attempt()
    store = bench.store
    await store.calls.begin(bench.run_id, "s", "workspace.create_task", {**task, "title": "slow"})
    await first("workspace.create_task", **task, title="quick")
    again = await bench.attempt()
    await asyncio.wait_for(again("workspace.create_task", **task, title="slow"), 30)
    await again("workspace.create_task", **task, title="quick")
    assert len(await store.content.task_ids("default")) == 2


async def test_a_write_to_the_workspace_that_is_cut_off_has_not_happened(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()
    create = bench.store.content.create_task

    async def slow(*arguments: Any) -> bool:
        created = await create(*arguments)
        begun.set()
        await asyncio.sleep(600)
        return created

    monkeypatch.setattr(bench.store.content, "create_task", slow)
    first = await bench.attempt()
    task = asyncio.create_task(first("workspace.create_task", title="t", statusId="open"))
    await asyncio.wait_for(begun.wait(), 30)
    task.cancel()
    await asyncio.wait({task})
    monkeypatch.undo()
    (call,) = await bench.calls()
    assert call.error is not None
    assert (call.error.code, call.uncertain) == ("cancelled", False)
    assert await bench.store.content.task_ids("default") == ()
    await (await bench.attempt())("workspace.create_task", title="t", statusId="open")
    assert len(await bench.store.content.task_ids("default")) == 1

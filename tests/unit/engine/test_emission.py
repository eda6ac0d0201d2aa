"""``event.emit``: events of steps are kept with the call's record, once, for the triggers that are for them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from engine.bootstrap import language
from engine.deliveries import Delivery, KeptEvent
from engine.emission import Emission
from engine.intake.receiver import Receiver
from engine.records import Run
from engine.store import Store
from engine.tool_calls import Caller, ToolCaller
from flows.contracts import StepError
from flows.errors import StepboxError
from flows.events import Event
from flows.values import Json, RunStatus
from steps.tools.catalogue import ToolCatalogue
from steps.tools.contract import ToolServices
from triggers.event.causes import MAX_CAUSES, loop

STEPS = "steps:\n  - {id: s, python: return 1}\n"
TELLER = f"flow: teller\n{STEPS}"
LISTENER = f'flow: listener\ntriggers:\n  - {{id: t, event: {{type: "order.*"}}}}\n{STEPS}'


@dataclass
class Bench:
    """A run of the flow `teller`, and what calls tools for it."""

    store: Store
    tools: ToolCaller
    run: Run
    serving: list[Receiver]

    def caller(self, run: Run | None = None, attempt: int = 1) -> Caller:
        at: dict[str, Any] = {"run_id": (run or self.run).id, "step_id": "s", "item": None, "attempt": attempt}
        return Caller(
            **at,
            workspace="default",
            principal="local",
            flow="f",
            journal=self.tools.journal(**at, one_call=False),
            tools_granted=frozenset({"event.emit"}),
            host_directories=(),
        )

    async def emit(self, *, by: Caller | None = None, **arguments: Json) -> Json:
        return await self.tools.call("event.emit", arguments, by or self.caller())

    async def apply(self, text: str) -> None:
        definition = language().load_text(text, path="flow.yaml", directory=Path())
        name, digest = definition.flow.flow, definition.digest
        await self.store.flows.put_version("default", name, text, {}, digest, apply=True)

    async def kept(self) -> list[tuple[KeptEvent, Delivery]]:
        """The events that some trigger is for, the oldest first."""
        deliveries = reversed((await self.store.events.deliveries(limit=500)).items)
        return [((await self.store.events.get(each.event_id)).event, each) for each in deliveries]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with await Store.open(f"sqlite:///{tmp_path}/test.db") as store:
        version = await store.flows.put_version("default", "teller", TELLER, {}, "digest")
        run = await store.runs.create(version, {}, running=True, trigger={"causes": ["first/R0"]})
        serving: list[Receiver] = []
        services = ToolServices(
            content=store.content,
            shared=str(tmp_path / "shared"),
            events=Emission(store=store, language=language(), receiver=lambda: next(iter(serving), None)),
        )
        yield Bench(store, ToolCaller(catalogue=ToolCatalogue([]), services=services, store=store), run, serving)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ({}, "invalid_arguments", "'type' is missing"),
        ({"type": "stepbox.run.failed"}, "invalid_arguments", "only Stepbox itself"),
        ({"type": "StepBox.x"}, "invalid_arguments", "only Stepbox itself"),
        ({"type": "order created"}, "invalid_arguments", "no spaces"),
        ({"type": "order\x00"}, "invalid_arguments", "control characters"),
        ({"type": "x" * 301}, "invalid_arguments", "type"),
        ({"type": "x", "subject": ""}, "invalid_arguments", "subject"),
        ({"type": "x", "id": "a\nb"}, "invalid_arguments", "control characters"),
        ({"type": "x", "source": "/elsewhere"}, "invalid_arguments", "unknown argument 'source'"),
        ({"type": "x", "data": "x" * 1_000_000}, "too_large", "1,000,000"),
    ],
)
async def test_what_is_not_right_is_refused_and_keeps_nothing(
    bench: Bench, arguments: dict[str, Json], code: str, said: str
) -> None:
    await bench.apply(LISTENER.replace("order.*", "*"))
    with pytest.raises(StepboxError) as refused:
        await bench.emit(**arguments)
    assert refused.value.code == code
    assert said in refused.value.message
    assert await bench.kept() == []


async def test_it_is_kept_for_the_triggers_that_are_for_it(bench: Bench) -> None:
    await bench.apply(LISTENER)
    result = await bench.emit(type="order.created", data={"n": 1}, subject="order 7", id="7")
    ((event, delivery),) = await bench.kept()
    assert result == {
        "id": "7",
        "type": "order.created",
        "source": "/workspaces/default/flows/teller",
        "event": event.id,
        "triggers": 1,
        "duplicate": False,
    }
    assert (delivery.flow, delivery.status.value) == ("listener", "pending")
    assert event.causes == ("first/R0", f"teller/{bench.run.id}")
    assert {name: event.data[name] for name in ("id", "type", "subject", "data")} == {
        "id": "7",
        "type": "order.created",
        "subject": "order 7",
        "data": {"n": 1},
    }
    assert event.data["stepboxcauses"] == f"first/R0,teller/{bench.run.id}"


async def test_one_that_nobody_triggers_on_is_kept_all_the_same(bench: Bench) -> None:
    result = await bench.emit(type="nobody.listens")
    assert result["triggers"] == 0
    assert (await bench.store.events.get(result["event"])).event.data["data"] is None


async def test_the_same_id_is_the_same_event_and_another_call_another_one(bench: Bench) -> None:
    await bench.apply(LISTENER)
    first = await bench.emit(type="order.created", id="7")
    again = await bench.emit(type="order.created", id="7", data="other")
    assert (again["event"], again["duplicate"]) == (first["event"], True)
    for _ in range(2):
        assert not (await bench.emit(type="order.created"))["duplicate"]
    assert len(await bench.kept()) == 3


async def test_code_that_runs_again_tells_of_nothing_twice(bench: Bench) -> None:
    await bench.apply(LISTENER)
    first = await bench.emit(type="order.created")
    assert await bench.emit(by=bench.caller(attempt=2), type="order.created") == first
    assert len(await bench.kept()) == 1


async def test_where_its_record_fails_it_is_not_kept(bench: Bench) -> None:
    await bench.apply(LISTENER)

    class Ending:
        """Sees the event, and ends the run, so that the call has an end before its own is recorded."""

        async def saw(self, _workspace: str, _event: Event) -> None:
            await bench.store.runs.finish(bench.run.id, RunStatus.FAILED, error=StepError(code="x", message="y"))

    services = bench.tools._services
    assert isinstance(services.events, Emission)
    services.events._keeping.witnesses.append(Ending())
    with pytest.raises(Exception, match=r"."):
        await bench.emit(type="order.created")
    assert await bench.kept() == []
    assert (await bench.store.runs.get(bench.run.id)).status is RunStatus.RUNNING


async def test_a_part_of_a_run_tells_as_its_flow_and_is_caused_by_the_whole(bench: Bench) -> None:
    version = await bench.store.flows.put_version("default", "part", f"flow: part\n{STEPS}", {}, "other")
    child = await bench.store.runs.create(version, {}, running=True, parent_id=bench.run.id)
    await bench.apply(LISTENER)
    result = await bench.emit(by=bench.caller(child), type="order.created")
    ((event, _delivery),) = await bench.kept()
    assert result["source"] == "/workspaces/default/flows/part"
    assert event.causes == ("first/R0", f"teller/{bench.run.id}")


async def test_flows_that_tell_each_other_come_to_an_end(bench: Bench) -> None:
    await bench.apply(LISTENER)
    causes = [f"teller/R{number}" for number in range(MAX_CAUSES - 1)]
    version = await bench.store.flows.put_version("default", "teller", TELLER, {}, "digest")
    run = await bench.store.runs.create(version, {}, running=True, trigger={"causes": causes})
    await bench.emit(by=bench.caller(run), type="order.created")
    ((event, _delivery),) = await bench.kept()
    as_event = Event(kind="event", key=None, occurred_at=event.occurred_at, data=event.data, causes=event.causes)
    assert f"{MAX_CAUSES} runs" in str(loop("listener", as_event))


async def test_where_nothing_keeps_events_the_call_says_so(bench: Bench) -> None:
    bench.tools._services = replace(bench.tools._services, events=None)
    with pytest.raises(StepboxError, match="can't be told of from here"):
        await bench.emit(type="order.created")

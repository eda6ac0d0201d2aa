"""Active flows, a real store, and runs that are created but not driven."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from engine.bootstrap import language
from engine.deliveries import Delivery, KeptEvent, NewEvent
from engine.intake.deliverer import Deliverer
from engine.intake.own_events import OwnEvents
from engine.intake.receiver import Receiver
from engine.intake.schedules import Schedules
from engine.intake.subscriptions import Subscriptions
from engine.language import Language
from engine.plans import Plan
from engine.records import FlowVersion, Run
from engine.store import Store
from flows.contracts import StepError
from flows.definition import Definition
from flows.values import Json

STEPS = "steps:\n  - id: s\n    python: return 1\n"


@dataclass
class Applied:
    """The flows that are active: what was applied last of each."""

    store: Store
    language: Language
    current: dict[str, FlowVersion] = field(default_factory=dict)
    changes: int = 0

    async def apply(self, text: str) -> FlowVersion:
        definition = self.language.load_text(text, path="flow.yaml", directory=Path())
        name = definition.flow.flow
        version = await self.store.flows.put_version("default", name, text, {}, definition.digest)
        self.current[name] = version
        self.changes += 1
        return version

    def remove(self, name: str) -> None:
        del self.current[name]
        self.changes += 1

    async def stamp(self) -> str:
        return str(self.changes)

    async def workspaces(self) -> Sequence[str]:
        return ["default"]

    async def versions(self) -> Sequence[FlowVersion]:
        return [self.current[name] for name in sorted(self.current)]


@dataclass
class Queue:
    """Creates runs. ``refusal`` is why the flow passes them over, ``problem`` what goes wrong instead."""

    store: Store
    refusal: str | None = None
    problem: Exception | None = None
    woken: int = 0

    async def plan(self, _version: FlowVersion, definition: Definition, inputs: Mapping[str, Json]) -> Plan:
        if self.problem is not None:
            raise self.problem
        return Plan(definition=definition, inputs=inputs, subflows={})

    async def create(self, version: FlowVersion, plan: Plan, trigger: Mapping[str, Json]) -> Run | str:
        return self.refusal or await self.store.runs.create(version, plan.inputs, trigger=trigger)

    def wake(self) -> None:
        self.woken += 1


@dataclass
class Intake:
    """All parts together, none of them running by itself."""

    store: Store
    flows: Applied
    queue: Queue
    subscriptions: Subscriptions
    deliverer: Deliverer
    schedules: Schedules
    receiver: Receiver
    secrets: dict[str, list[str]]
    dead: list[tuple[Delivery, KeptEvent, StepError]]
    own_events: OwnEvents

    async def died(self, delivery: Delivery, event: KeptEvent, error: StepError) -> None:
        self.dead.append((delivery, event, error))
        await self.own_events.died(delivery, event, error)

    async def deliver(self) -> None:
        """Deliver what is due, and what comes of it."""
        while await self.deliverer.deliver_due():
            pass

    async def apply(self, *texts: str) -> None:
        for text in texts:
            await self.flows.apply(text)
        await self.subscriptions.refresh()

    async def give(self, flow: str, trigger: str, data: Mapping[str, Json], *, causes: Sequence[str] = ()) -> Delivery:
        """Keep an event for one trigger and deliver it; what became of it."""
        version = self.flows.current[flow]
        event = NewEvent(
            workspace="default",
            kind="event",
            origin="test",
            key=None,
            data=data,
            causes=tuple(causes),
            occurred_at=datetime.fromisoformat("2026-01-01T00:00:00Z"),
        )
        recipient = next(each.recipient for each in self.subscriptions._all if each.name == f"default/{flow}/{trigger}")
        assert recipient.flow_version_id == version.id
        accepted = await self.store.events.accept(event, [recipient])
        await self.deliverer.deliver_due()
        return (await self.store.events.get(accepted.event.id)).deliveries[0]

    async def runs(self) -> list[Run]:
        """The oldest first."""
        return [await self.store.runs.get(each.id) for each in reversed((await self.store.runs.list(limit=500)).items)]

    async def deliveries(self) -> list[Delivery]:
        """The oldest first."""
        return list(reversed((await self.store.events.deliveries(limit=500)).items))


def intake_of(store: Store, flows: Applied | None = None) -> Intake:
    speech = language()
    flows = flows or Applied(store, speech)
    queue = Queue(store)
    dead: list[tuple[Delivery, KeptEvent, StepError]] = []
    secrets: dict[str, list[str]] = {}

    async def died(delivery: Delivery, event: KeptEvent, error: StepError) -> None:
        await made.died(delivery, event, error)

    async def values(_workspace: str, name: str) -> Sequence[str]:
        return secrets[name]

    subscriptions = Subscriptions(flows, speech)
    deliverer = Deliverer(store=store, load=subscriptions.load, starting=queue, died=died)
    schedules = Schedules(store=store, subscriptions=subscriptions, deliverer=deliverer)
    receiver = Receiver(store=store, subscriptions=subscriptions, deliverer=deliverer, secrets=values)
    own_events = OwnEvents(receiver)
    made = Intake(store, flows, queue, subscriptions, deliverer, schedules, receiver, secrets, dead, own_events)
    return made


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with await Store.open(f"sqlite:///{tmp_path / 'stepbox.db'}") as opened:
        yield opened


@pytest.fixture
def intake(store: Store) -> Intake:
    return intake_of(store)

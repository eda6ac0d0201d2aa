"""What Stepbox tells of itself: in the transaction of what it tells of, once, and without loops."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from engine.deliveries import Delivery, DeliveryStatus
from engine.records import FlowVersion, Run
from engine.snippets import BY_ITSELF
from engine.store.errors import AlreadyFinishedError, StoreUnavailableError
from flows.contracts import Question, StepError
from flows.errors import InvalidCallError
from flows.events import Event
from flows.values import Json, RunStatus
from tests.unit.engine.intake.conftest import STEPS, Intake

AT = datetime(2026, 1, 1, tzinfo=UTC)
BY_HAND: Mapping[str, Json] = {"trigger": {"kind": "manual"}}
OTHER = f"flow: other\n{STEPS}"


def watching(flow: str, type_: str = "stepbox.run.*", **more: str) -> str:
    pattern = "".join(f', {name}: "{value}"' for name, value in more.items())
    return f'flow: {flow}\ntriggers:\n  - {{id: t, event: {{type: "{type_}"{pattern}}}}}\n{STEPS}'


@pytest.fixture
def intake(intake: Intake) -> Intake:
    intake.store.runs.ends.witness = intake.own_events
    return intake


async def begin(intake: Intake, flow: str = "other", trigger: Mapping[str, Json] = BY_HAND, **more: Json) -> Run:
    version: FlowVersion = intake.flows.current[flow]
    return await intake.store.runs.create(version, {}, trigger=trigger, running=True, **more)


class Broken:
    """A witness that fails while it sees an event."""

    async def saw(self, workspace: str, event: Event) -> None:
        raise StoreUnavailableError(f"the database failed at {event.data['type']} of {workspace}")


async def test_where_it_can_not_be_told_the_run_has_not_ended(intake: Intake) -> None:
    await intake.apply(OTHER, watching("alarm"))
    run = await begin(intake)
    intake.receiver.witnesses.append(Broken())
    with pytest.raises(StoreUnavailableError):
        await intake.store.runs.finish(run.id, RunStatus.SUCCEEDED)
    assert (await intake.store.runs.get(run.id)).status is RunStatus.RUNNING
    assert await intake.deliveries() == []
    intake.receiver.witnesses.clear()
    await intake.store.runs.finish(run.id, RunStatus.SUCCEEDED)
    assert len(await intake.deliveries()) == 1


async def test_a_run_that_ends_twice_is_told_of_once(intake: Intake) -> None:
    await intake.apply(OTHER, watching("alarm"))
    run = await begin(intake)
    await intake.store.runs.finish(run.id, RunStatus.FAILED, error=StepError(code="error", message="no", line=3))
    with pytest.raises(AlreadyFinishedError):
        await intake.store.runs.finish(run.id, RunStatus.SUCCEEDED)
    (delivery,) = await intake.deliveries()
    event = (await intake.store.events.get(delivery.event_id)).event
    assert (event.origin, event.causes, event.data["type"]) == ("stepbox", (f"other/{run.id}",), "stepbox.run.failed")
    assert event.data["source"] == "/workspaces/default/flows/other"
    ended = await intake.store.runs.get(run.id)
    assert ended.started_at is not None
    assert ended.ended_at is not None
    assert event.data["data"] == {
        "workspace": "default",
        "flow": "other",
        "version": 1,
        "run": run.id,
        "status": "failed",
        "started_at": ended.started_at.isoformat(),
        "ended_at": ended.ended_at.isoformat(),
        "trigger": None,
        "error": {"code": "error", "message": "no"},
    }


async def test_an_end_that_is_cancelled_meanwhile_is_made_and_told_of(intake: Intake) -> None:
    await intake.apply(OTHER, watching("alarm"))
    run = await begin(intake)
    seen = asyncio.Event()

    class Slow:
        async def saw(self, _workspace: str, _event: Event) -> None:
            seen.set()
            await asyncio.sleep(0.05)

    intake.receiver.witnesses.append(Slow())
    ending = asyncio.create_task(intake.store.runs.finish(run.id, RunStatus.SUCCEEDED))
    await seen.wait()
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert (await intake.store.runs.get(run.id)).status is RunStatus.SUCCEEDED
    assert len(await intake.deliveries()) == 1


async def test_an_end_inside_a_transaction_is_undone_with_it(intake: Intake) -> None:
    await intake.apply(OTHER, watching("alarm"))
    run = await begin(intake)

    async def finish_and_fail() -> None:
        async with intake.store.transaction():
            await intake.store.runs.finish(run.id, RunStatus.SUCCEEDED)
            raise InvalidCallError("something else failed")

    with pytest.raises(InvalidCallError):
        await finish_and_fail()
    assert (await intake.store.runs.get(run.id)).ended_at is None
    assert await intake.deliveries() == []


async def test_a_run_that_is_cancelled_in_the_queue_never_started(intake: Intake) -> None:
    await intake.apply(OTHER, watching("alarm", "stepbox.run.cancelled"))
    run = await intake.store.runs.create(intake.flows.current["other"], {}, trigger={"trigger": {"id": "nightly"}})
    assert await intake.store.runs.cancel_queued(run.id)
    assert not await intake.store.runs.cancel_queued(run.id)
    (delivery,) = await intake.deliveries()
    told = (await intake.store.events.get(delivery.event_id)).event.data["data"]
    assert (told["status"], told["started_at"], told["trigger"]) == ("cancelled", None, "nightly")


async def test_parts_of_runs_and_code_by_itself_tell_nothing(intake: Intake) -> None:
    await intake.apply(OTHER, watching("alarm"))
    whole = await begin(intake)
    part = await begin(intake, parent_id=whole.id)
    code = await begin(intake, trigger=BY_ITSELF)
    for run in (part, code):
        await intake.store.runs.finish(run.id, RunStatus.FAILED)
    assert await intake.deliveries() == []


@pytest.mark.parametrize(
    ("pattern", "outcome", "starts"),
    [
        ("stepbox.run.failed", RunStatus.SUCCEEDED, False),
        ("stepbox.run.failed", RunStatus.FAILED, True),
        ("order.*", RunStatus.FAILED, False),
    ],
)
async def test_only_what_somebody_triggers_on_is_kept(
    intake: Intake,
    pattern: str,
    outcome: RunStatus,
    starts: bool,  # noqa: FBT001
) -> None:
    await intake.apply(OTHER, watching("alarm", pattern), watching("elsewhere", "stepbox.run.*", source="*/flows/x"))
    run = await begin(intake)
    await intake.store.runs.finish(run.id, outcome)
    await intake.deliver()
    assert [one.flow for one in await intake.runs()] == ["other", *(["alarm"] if starts else [])]


async def drive(intake: Intake) -> None:
    """Deliver, and let each queued run succeed, until nothing more comes."""
    for _ in range(50):
        await intake.deliver()
        queued = await intake.store.undriven.queued()
        if not queued:
            return
        for run in queued:
            await intake.store.runs.start(run)
            await intake.store.runs.finish(run, RunStatus.SUCCEEDED)
    raise AssertionError("the flows start each other without end")


async def test_two_flows_that_trigger_on_each_other_come_to_an_end(intake: Intake) -> None:
    await intake.apply(watching("ping", source="*/flows/pong"), watching("pong", source="*/flows/ping"))
    run = await begin(intake, "ping")
    await intake.store.runs.finish(run.id, RunStatus.SUCCEEDED)
    await drive(intake)
    assert [one.flow for one in await intake.runs()] == ["ping", "pong"]
    cut = (await intake.deliveries())[-1]
    assert (cut.flow, cut.status) == ("ping", DeliveryStatus.FILTERED)
    assert cut.reason == "a loop: the event tells of a run that `ping` led to"


async def test_a_flow_that_watches_all_runs_does_not_start_on_its_own(intake: Intake) -> None:
    await intake.apply(OTHER, watching("one"), watching("two"))
    run = await begin(intake)
    await intake.store.runs.finish(run.id, RunStatus.SUCCEEDED)
    await drive(intake)
    # Each on the first, and each once on the other's.
    assert sorted(one.flow for one in await intake.runs()) == ["one", "one", "other", "two", "two"]


BAD = """
flow: bad
inputs: {n: {type: integer}}
triggers:
  - {id: t, event: {type: order.created}, with: {n: "${{ event.data.n }}"}}
"""


async def order(intake: Intake) -> Delivery:
    """An event that the flow `bad` can't start on."""
    data = {"type": "order.created", "data": {"n": "no number"}}
    (accepted,) = await intake.receiver.events("default", [Event(kind="event", key=None, occurred_at=AT, data=data)])
    (delivery,) = accepted.deliveries
    return delivery


async def test_a_dead_letter_is_told_of_with_its_end(intake: Intake) -> None:
    await intake.apply(BAD + STEPS, watching("alarm", "stepbox.trigger.dead"))
    ordered = await order(intake)
    event = (await intake.store.events.get(ordered.event_id)).event
    intake.receiver.witnesses.append(Broken())
    with pytest.raises(StoreUnavailableError):
        await intake.deliverer._die(ordered, event, StepError(code="x", message="y"))
    assert [each.status for each in await intake.deliveries()] == [DeliveryStatus.PENDING]
    intake.receiver.witnesses.clear()
    await intake.deliver()
    dead, told = await intake.deliveries()
    assert (dead.status, told.status) == (DeliveryStatus.DEAD, DeliveryStatus.STARTED)
    (alarm,) = await intake.runs()
    data = alarm.trigger["event"]["data"]
    assert (data["flow"], data["trigger"], data["event"], data["attempts"]) == ("bad", "t", dead.event_id, 1)
    assert dead.error is not None
    assert data["error"] == {"code": dead.error.code, "message": dead.error.message}


async def test_a_dead_letter_of_who_watches_dead_letters_starts_nothing(intake: Intake) -> None:
    watcher = BAD.replace("bad", "watcher").replace("order.created", "stepbox.trigger.dead")
    await intake.apply(BAD + STEPS, watcher.replace("event.data.n", "event.data.flow") + STEPS)
    await order(intake)
    await intake.deliver()
    assert [(each.flow, each.status.value) for each in await intake.deliveries()] == [
        ("bad", "dead"),
        ("watcher", "dead"),
        ("watcher", "filtered"),
    ]


async def test_a_question_is_told_of_once_with_what_it_asks(intake: Intake) -> None:
    await intake.apply(OTHER, watching("asks", "stepbox.approval.requested"))
    intake.store.approvals.witness = intake.own_events
    run = await begin(intake)
    question = Question(message="Ship it?", timeout=60)
    asked = await intake.store.approvals.ask(run.id, "ask", question)
    assert (await intake.store.approvals.ask(run.id, "ask", question)).id == asked.id
    (delivery,) = await intake.deliveries()
    event = (await intake.store.events.get(delivery.event_id)).event
    assert event.causes == (f"other/{run.id}",)
    told = event.data["data"]
    assert (told["run"], told["step"], told["approval"], told["message"]) == (run.id, "ask", asked.id, "Ship it?")
    assert told["expires_at"] is not None


async def test_a_question_that_can_not_be_told_of_is_not_put(intake: Intake) -> None:
    await intake.apply(OTHER, watching("asks", "stepbox.approval.requested"))
    intake.store.approvals.witness = intake.own_events
    run = await begin(intake)
    intake.receiver.witnesses.append(Broken())
    with pytest.raises(StoreUnavailableError):
        await intake.store.approvals.ask(run.id, "ask", Question(message="Ship it?"))
    assert await intake.store.approvals.list() == ()
    intake.receiver.witnesses.clear()
    await intake.store.approvals.ask(run.id, "ask", Question(message="Ship it?"))
    assert len(await intake.deliveries()) == 1

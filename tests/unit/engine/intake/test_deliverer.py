"""Each delivery comes to its end, with a run or a reason."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from sqlalchemy import update

from engine.deliveries import DeliveryStatus, NewEvent
from engine.intake.deliverer import ATTEMPTS
from engine.store.errors import StoreUnavailableError
from engine.store.tables import DeliveryTable
from flows.errors import FeatureUnavailableError, InvalidCallError, RefusedError
from flows.expressions import ExpressionError
from tests.unit.engine.intake.conftest import STEPS, Intake, intake_of

ORDERS = f"""
flow: orders
inputs:
  n: {{type: integer}}
triggers:
  - id: created
    event: {{type: order.created}}
    if: event.data.n > 0
    with: {{n: "${{{{ event.data.n }}}}"}}
{STEPS}"""


async def test_an_event_starts_a_run_with_what_the_trigger_gives(intake: Intake) -> None:
    await intake.apply(ORDERS)
    delivery = await intake.give("orders", "created", {"data": {"n": 7}}, causes=["first/RUN"])
    (run,) = await intake.runs()
    assert (delivery.status, delivery.run_id, delivery.error) == (DeliveryStatus.STARTED, run.id, None)
    assert (run.flow, run.inputs, run.status) == ("orders", {"n": 7}, "queued")
    assert run.trigger == {
        "trigger": {"id": "created", "kind": "event"},
        "event": {"data": {"n": 7}},
        "event_id": delivery.event_id,
        "causes": ["first/RUN"],
    }
    assert intake.queue.woken == 1


async def test_a_filter_that_says_no_is_the_reason(intake: Intake) -> None:
    await intake.apply(ORDERS)
    delivery = await intake.give("orders", "created", {"data": {"n": 0}})
    assert (delivery.status, delivery.reason) == (DeliveryStatus.FILTERED, "`if: event.data.n > 0` says no")
    assert delivery.error is None
    assert await intake.runs() == []


async def test_a_filter_that_fails_is_filtered_with_the_error(intake: Intake) -> None:
    await intake.apply(ORDERS)
    delivery = await intake.give("orders", "created", {"other": 1})
    assert delivery.status is DeliveryStatus.FILTERED
    assert delivery.error is not None
    assert "data" in str(delivery.reason)


async def test_a_loop_is_cut(intake: Intake) -> None:
    await intake.apply(ORDERS.replace("order.created", '"stepbox.run.*"'))
    data = {"type": "stepbox.run.failed", "data": {"n": 1}}
    delivery = await intake.give("orders", "created", data, causes=["orders/RUN"])
    assert delivery.status is DeliveryStatus.FILTERED
    assert "a loop" in str(delivery.reason)


async def test_inputs_that_do_not_fit_are_a_dead_letter_that_can_be_redriven(intake: Intake) -> None:
    await intake.apply(ORDERS)
    delivery = await intake.give("orders", "created", {"data": {"n": 1.5}})
    assert delivery.status is DeliveryStatus.DEAD
    assert "input `n`" in str(delivery.reason)
    ((dead, event, error),) = intake.dead
    assert (dead.id, event.data, error.code) == (delivery.id, {"data": {"n": 1.5}}, "invalid_input")
    await intake.apply(ORDERS.replace("integer", "number"))
    repaired = intake.flows.current["orders"]
    await intake.store.events.redrive(delivery.id, flow_version_id=repaired.id, now=datetime.now(UTC))
    await intake.deliverer.deliver_due()
    (run,) = await intake.runs()
    assert (run.inputs, run.flow_version_id) == ({"n": 1.5}, repaired.id)


async def test_a_flow_that_passes_a_run_over_says_why(intake: Intake) -> None:
    await intake.apply(ORDERS)
    intake.queue.refusal = "a run of the flow goes on, and its concurrency skips further ones"
    delivery = await intake.give("orders", "created", {"data": {"n": 1}})
    assert (delivery.status, delivery.reason) == (DeliveryStatus.SKIPPED, intake.queue.refusal)
    assert (delivery.run_id, intake.queue.woken) == (None, 0)


async def test_what_does_not_go_by_is_dead_at_once(intake: Intake) -> None:
    await intake.apply(ORDERS)
    for problem in (
        FeatureUnavailableError("not here"),
        ExpressionError("no such key"),
        InvalidCallError("no such flow"),
    ):
        intake.queue.problem = problem
        delivery = await intake.give("orders", "created", {"data": {"n": 1}})
        assert (delivery.status, delivery.reason) == (DeliveryStatus.DEAD, problem.message)


async def test_a_failure_backs_off_and_the_last_one_is_dead(intake: Intake) -> None:
    await intake.apply(ORDERS)
    intake.queue.problem = RefusedError("the disk is full", fix="make room")
    delivery = await intake.give("orders", "created", {"data": {"n": 1}})
    delays = []
    for attempt in range(1, ATTEMPTS):
        assert (delivery.status, delivery.attempts) == (DeliveryStatus.PENDING, attempt)
        assert delivery.error is not None
        assert (delivery.error.message, delivery.error.fix) == ("the disk is full", "make room")
        assert delivery.due_at is not None
        delays.append((delivery.due_at - datetime.now(UTC)).total_seconds())
        assert await intake.deliverer.deliver_due() == 0
        await _let_come_due(intake, delivery.id)
        await intake.deliverer.deliver_due()
        (delivery,) = await intake.deliveries()
    assert (delivery.status, delivery.reason) == (DeliveryStatus.DEAD, "the disk is full")
    assert delays == sorted(delays)
    assert delays[0] > 3
    assert len(intake.dead) == 1


async def test_a_failure_that_goes_by_loses_nothing(intake: Intake) -> None:
    await intake.apply(ORDERS)
    intake.queue.problem = RuntimeError("a bug")
    delivery = await intake.give("orders", "created", {"data": {"n": 1}})
    assert delivery.error is not None
    assert (delivery.error.code, delivery.error.message) == ("internal_error", "RuntimeError: a bug")
    intake.queue.problem = None
    await _let_come_due(intake, delivery.id)
    await intake.deliverer.deliver_due()
    (delivery,) = await intake.deliveries()
    assert delivery.status is DeliveryStatus.STARTED
    assert len(await intake.runs()) == 1


async def test_one_poisoned_delivery_holds_up_no_other(intake: Intake) -> None:
    await intake.apply(ORDERS, ORDERS.replace("flow: orders", "flow: broken"))
    broken, _ = recipients = [each.recipient for each in intake.subscriptions._all]
    intake.deliverer._versions[broken.flow_version_id] = None
    await intake.store.events.accept(order(), recipients)
    await intake.deliverer.deliver_due()
    assert {each.flow: each.status for each in await intake.deliveries()} == {
        "broken": DeliveryStatus.DEAD,
        "orders": DeliveryStatus.STARTED,
    }


async def test_a_version_that_is_no_longer_valid_is_dead_not_lost(intake: Intake) -> None:
    await intake.apply(ORDERS)
    version = intake.flows.current["orders"]
    intake.deliverer._versions[version.id] = None
    delivery = await intake.give("orders", "created", {"data": {"n": 1}})
    assert delivery.error is not None
    assert (delivery.status, delivery.error.code) == (DeliveryStatus.DEAD, "invalid_flow")


async def test_a_trigger_that_went_with_the_fix_is_dead(intake: Intake) -> None:
    await intake.apply(ORDERS)
    delivery = await intake.give("orders", "created", {"data": {"n": 1.5}})
    await intake.apply(ORDERS.replace("id: created", "id: renamed"))
    version = intake.flows.current["orders"]
    await intake.store.events.redrive(delivery.id, flow_version_id=version.id, now=datetime.now(UTC))
    await intake.deliverer.deliver_due()
    (delivery,) = await intake.deliveries()
    assert delivery.error is not None
    assert (delivery.status, delivery.error.code) == (DeliveryStatus.DEAD, "unknown_trigger")


async def test_two_engines_start_each_run_once(intake: Intake) -> None:
    await intake.apply(ORDERS)
    other = intake_of(intake.store, intake.flows)
    await other.subscriptions.refresh()
    working = [asyncio.create_task(each.deliverer.run()) for each in (intake, other)]
    for _ in range(60):
        recipient = intake.subscriptions._all[0].recipient
        await intake.store.events.accept(order(), [recipient])
        other.deliverer.wake()
        intake.deliverer.wake()
    async with asyncio.timeout(30):
        while len(await intake.runs()) < 60:  # noqa: ASYNC110 - the store tells nobody of new runs
            await asyncio.sleep(0.01)
    for each in working:
        each.cancel()
        with suppress(asyncio.CancelledError):
            await each
    assert {each.status for each in await intake.deliveries()} == {DeliveryStatus.STARTED}
    assert len({each.run_id for each in await intake.deliveries()}) == len(await intake.runs()) == 60


async def test_a_store_that_is_away_is_waited_for(intake: Intake) -> None:
    await intake.apply(ORDERS)
    claim, failures = intake.store.events.claim, 2

    async def away(**given: object) -> object:
        nonlocal failures
        if failures > 0:
            failures -= 1
            raise StoreUnavailableError("it is away", fix="wait")
        return await claim(**given)  # type: ignore[arg-type]

    intake.store.events.claim = away  # type: ignore[method-assign,assignment]
    working = asyncio.create_task(intake.deliverer.run())
    await intake.store.events.accept(order(), [intake.subscriptions._all[0].recipient])
    async with asyncio.timeout(20):
        while not await intake.runs():
            intake.deliverer.wake()
            await asyncio.sleep(0.01)
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working
    assert failures == 0


def order() -> NewEvent:
    data = {"data": {"n": 1}}
    return NewEvent(
        workspace="default", kind="event", origin="test", key=None, data=data, occurred_at=datetime.now(UTC)
    )


async def _let_come_due(intake: Intake, delivery_id: str) -> None:
    """Let the time of a delivery's next attempt come."""
    table = DeliveryTable.__table__
    due = update(table).where(table.c.id == delivery_id).values(due_at=datetime.now(UTC) - timedelta(seconds=1))
    await intake.store._database.write(lambda connection: connection.execute(due))

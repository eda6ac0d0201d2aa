"""Schedules make their events when their times come: each once, whoever was away."""

import asyncio
from datetime import UTC, datetime, timedelta

from engine.deliveries import DeliveryStatus
from tests.unit.engine.intake.conftest import STEPS, Intake, intake_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def hourly(catch_up: str = "last", name: str = "report", **more: str) -> str:
    extra = "".join(f", {key}: {value}" for key, value in more.items())
    plan = f'{{cron: "0 * * * *", catch_up: {catch_up}{extra}}}'
    inputs = "inputs:\n  at: {type: string}\n"
    given = '    with: {at: "${{ event.scheduled_at }}"}\n'
    return f"flow: {name}\n{inputs}triggers:\n  - id: hourly\n    schedule: {plan}\n{given}{STEPS}"


async def started(intake: Intake) -> list[object]:
    await intake.deliverer.deliver_due()
    return [run.inputs["at"] for run in await intake.runs()]


async def skipped(intake: Intake) -> list[str | None]:
    return [each.reason for each in await intake.deliveries() if each.status is DeliveryStatus.SKIPPED]


async def test_nothing_is_made_up_for_that_was_before_the_schedule_was_known(intake: Intake) -> None:
    await intake.apply(hourly("all"))
    await intake.schedules.look(NOON + timedelta(minutes=30))
    assert await started(intake) == []


async def test_each_time_starts_one_run(intake: Intake) -> None:
    await intake.apply(hourly())
    for minutes in range(0, 181, 5):
        await intake.schedules.look(NOON + timedelta(minutes=minutes))
    assert await started(intake) == [
        "2026-03-01T13:00:00+00:00",
        "2026-03-01T14:00:00+00:00",
        "2026-03-01T15:00:00+00:00",
    ]
    assert await skipped(intake) == []


async def test_an_engine_that_was_away_makes_up_for_the_last_one(intake: Intake) -> None:
    await intake.apply(hourly())
    await intake.schedules.look(NOON)
    later = intake_of(intake.store, intake.flows)
    await later.subscriptions.refresh()
    await later.schedules.look(NOON + timedelta(hours=4, minutes=30))
    assert await started(later) == ["2026-03-01T16:00:00+00:00"]
    assert await skipped(later) == ["made up for by the start of 2026-03-01T16:00:00Z"]


async def test_all_that_were_missed_are_made_up_for_where_that_is_asked(intake: Intake) -> None:
    await intake.apply(hourly("all", window="3h"))
    await intake.schedules.look(NOON)
    later = intake_of(intake.store, intake.flows)
    await later.subscriptions.refresh()
    await later.schedules.look(NOON + timedelta(hours=5, minutes=30))
    assert await started(later) == [f"2026-03-01T{hour}:00:00+00:00" for hour in (15, 16, 17)]
    assert await skipped(later) == ["missed longer ago than the window, 3h"]


async def test_of_two_engines_one_makes_each_event(intake: Intake) -> None:
    await intake.apply(hourly(), hourly(name="other"))
    other = intake_of(intake.store, intake.flows)
    await other.subscriptions.refresh()
    for minutes in range(0, 301, 10):
        now = NOON + timedelta(minutes=minutes)
        await asyncio.gather(intake.schedules.look(now), other.schedules.look(now))
    assert len(await started(intake)) == 10
    assert len({(run.flow, run.inputs["at"]) for run in await intake.runs()}) == 10
    assert len(await intake.deliveries()) == 10


async def test_a_hundred_schedules_of_the_same_second_start_once_each_with_two_engines(intake: Intake) -> None:
    await intake.apply(*(hourly(name=f"report_{number}") for number in range(100)))
    other = intake_of(intake.store, intake.flows)
    await other.subscriptions.refresh()
    engines = (intake, other)
    for now in (NOON, NOON + timedelta(hours=1)):
        await asyncio.gather(*(engine.schedules.look(now) for engine in engines))
    await asyncio.gather(*(engine.deliver() for engine in engines))
    runs = await intake.runs()
    assert (len(runs), len({run.flow for run in runs})) == (100, 100)


async def test_a_clock_that_is_set_back_repeats_nothing(intake: Intake) -> None:
    await intake.apply(hourly())
    for hours in (0, 1, 2, 0, 1, 2, 3):
        await intake.schedules.look(NOON + timedelta(hours=hours))
        later = intake_of(intake.store, intake.flows)
        await later.subscriptions.refresh()
        await later.schedules.look(NOON + timedelta(hours=hours))
    assert await started(intake) == [f"2026-03-01T{hour}:00:00+00:00" for hour in (13, 14, 15)]


async def test_a_new_version_goes_on_where_the_old_one_stood(intake: Intake) -> None:
    await intake.apply(hourly())
    await intake.schedules.look(NOON + timedelta(hours=1))
    await intake.apply(hourly("all"))
    await intake.schedules.look(NOON + timedelta(hours=1, seconds=1))
    await intake.schedules.look(NOON + timedelta(hours=2))
    assert await started(intake) == ["2026-03-01T14:00:00+00:00"]
    assert (await intake.runs())[0].flow_version_id == intake.flows.current["report"].id


async def test_a_flow_that_is_gone_makes_no_more_events(intake: Intake) -> None:
    await intake.apply(hourly())
    await intake.schedules.look(NOON)
    intake.flows.remove("report")
    await intake.subscriptions.refresh()
    await intake.schedules.look(NOON + timedelta(hours=3))
    assert await intake.deliveries() == []


async def test_it_sleeps_until_the_next_time_but_never_long(intake: Intake) -> None:
    await intake.apply(hourly())
    assert await intake.schedules.look(datetime.now(UTC)) <= 5
    soon = datetime.now(UTC) + timedelta(seconds=2)
    await intake.apply(f"flow: soon\ntriggers:\n  - id: s\n    schedule: {{interval: 1s}}\n{STEPS}")
    assert await intake.schedules.look(soon - timedelta(seconds=2)) <= 1


async def test_the_lag_is_that_of_the_last_one_and_of_one_that_is_overdue(intake: Intake) -> None:
    await intake.apply(hourly())
    assert intake.schedules.lag == 0.0
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    await intake.schedules.look(an_hour_ago)
    # The next one was due less than an hour ago, and nobody has looked since.
    assert 0.0 < intake.schedules.lag <= 3700.0
    await intake.schedules.look(datetime.now(UTC))
    late = intake.schedules.lag
    assert 0.0 < late <= 3700.0

"""What is due: each time is started or passed over once, whenever and however often one asks."""

from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Literal, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triggers.schedule.config import Schedule, ScheduleTrigger
from triggers.schedule.due import BATCH, COUNTED, GRACE, CatchUp, Due, due
from triggers.schedule.plan import Plan

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
HOUR, DAY, SECOND = timedelta(hours=1), timedelta(days=1), timedelta(seconds=1)


def plan(cron: str = "0 * * * *", jitter: float = 0.0) -> Plan:
    return Plan(ScheduleTrigger(id="t", schedule=Schedule(cron=cron, jitter=jitter)), name="default/f/t")


def decide(since: datetime, now: datetime, catch_up: CatchUp, window: timedelta = DAY, of: Plan | None = None) -> Due:
    return due(of or plan(), since=since, now=now, catch_up=catch_up, window=window)


def started(decision: Due) -> list[datetime]:
    return [one.scheduled_at for one in decision.starts]


def test_before_its_moment_nothing_is_due() -> None:
    decision = decide(NOON, NOON + HOUR - SECOND, "all")
    assert (decision.starts, decision.skipped, decision.decided) == ((), (), NOON)
    assert decision.next is not None
    assert decision.next.scheduled_at == NOON + HOUR


@pytest.mark.parametrize("catch_up", get_args(CatchUp))
@pytest.mark.parametrize("late", [timedelta(0), SECOND, GRACE])
def test_what_is_on_time_starts_whatever_is_made_up_for(catch_up: CatchUp, late: timedelta) -> None:
    decision = decide(NOON, NOON + HOUR + late, catch_up, window=timedelta(0))
    assert started(decision) == [NOON + HOUR]
    assert decision.skipped == ()
    assert decision.decided == NOON + HOUR


@pytest.mark.parametrize("catch_up", get_args(CatchUp))
def test_what_is_decided_is_not_due_again(catch_up: CatchUp) -> None:
    now = NOON + 5 * HOUR + 5 * SECOND
    decision = decide(NOON, now, catch_up)
    again = decide(decision.decided, now, catch_up)
    assert (again.starts, again.skipped) == ((), ())
    assert again.next == decision.next


def test_none_makes_up_for_nothing() -> None:
    decision = decide(NOON, NOON + 3 * HOUR + timedelta(minutes=10), "none")
    assert decision.starts == ()
    (skipped,) = decision.skipped
    assert (skipped.first, skipped.last, skipped.count) == (NOON + HOUR, NOON + 3 * HOUR, 3)
    assert skipped.reason == "missed while nothing ran, and `catch_up` is none"


def test_last_makes_up_for_the_newest_alone() -> None:
    decision = decide(NOON, NOON + 3 * HOUR + timedelta(minutes=10), "last")
    assert started(decision) == [NOON + 3 * HOUR]
    (skipped,) = decision.skipped
    assert (skipped.first, skipped.last, skipped.count) == (NOON + HOUR, NOON + 2 * HOUR, 2)
    assert skipped.reason == "made up for by the start of 2026-05-04T15:00:00Z"


def test_one_that_is_on_time_makes_up_for_all_missed_ones() -> None:
    decision = decide(NOON, NOON + 3 * HOUR + SECOND, "last")
    assert started(decision) == [NOON + 3 * HOUR]
    (skipped,) = decision.skipped
    assert (skipped.last, skipped.count) == (NOON + 2 * HOUR, 2)


def test_all_makes_up_for_each_in_order() -> None:
    decision = decide(NOON, NOON + 3 * HOUR + SECOND, "all")
    assert started(decision) == [NOON + HOUR, NOON + 2 * HOUR, NOON + 3 * HOUR]
    assert decision.skipped == ()


@pytest.mark.parametrize("catch_up", ["last", "all"])
def test_nothing_older_than_the_window_is_made_up_for(catch_up: CatchUp) -> None:
    now = NOON + 30 * HOUR + timedelta(minutes=10)
    decision = decide(NOON, now, catch_up, window=2 * HOUR)
    assert started(decision) == [NOON + 29 * HOUR, NOON + 30 * HOUR][-1 if catch_up == "last" else 0 :]
    first = decision.skipped[0]
    assert (first.first, first.last, first.count) == (NOON + HOUR, NOON + 28 * HOUR, 28)
    assert first.reason == "missed longer ago than the window, 2h"


def test_a_window_in_which_nothing_was_missed_starts_nothing() -> None:
    decision = decide(NOON, NOON + 3 * HOUR + timedelta(minutes=30), "last", window=timedelta(minutes=5))
    assert decision.starts == ()
    (skipped,) = decision.skipped
    assert (skipped.count, skipped.reason) == (3, "missed longer ago than the window, 5m")
    assert decision.decided == NOON + 3 * HOUR


def test_many_missed_ones_come_in_batches_and_none_is_lost() -> None:
    of, now = plan("* * * * * *"), NOON + timedelta(seconds=2 * BATCH + 500)
    since, found = NOON, []
    for expected in (BATCH, BATCH, 500):
        decision = due(of, since=since, now=now, catch_up="all", window=DAY)
        found += started(decision)
        assert len(decision.starts) == expected
        since = decision.decided
    assert found == [NOON + number * SECOND for number in range(1, 2 * BATCH + 501)]


def test_a_year_without_an_engine_costs_little_and_is_counted_as_far_as_it_makes_sense() -> None:
    decision = due(plan("* * * * * *"), since=NOON, now=NOON + 365 * DAY, catch_up="last", window=DAY)
    assert len(decision.starts) == GRACE.seconds + 1
    (old, made_up) = decision.skipped
    assert (old.first, old.last, old.count) == (NOON + SECOND, NOON + 364 * DAY, None)
    assert made_up.count is None
    assert COUNTED < 86_400


def test_a_clock_that_is_set_back_starts_nothing_twice() -> None:
    decision = decide(NOON + HOUR, NOON - 5 * HOUR, "all")
    assert (decision.starts, decision.skipped, decision.decided) == ((), (), NOON + HOUR)


def test_a_plan_that_has_ended_is_never_due_again() -> None:
    trigger = ScheduleTrigger(id="t", schedule=Schedule(cron="0 * * * *", end="2026-05-04T13:00"))
    of = Plan(trigger, name="x")
    decision = due(of, since=NOON, now=NOON + 5 * HOUR, catch_up="last", window=DAY)
    assert started(decision) == [NOON + HOUR]
    assert decision.next is None


def test_jitter_delays_what_is_due() -> None:
    of = plan(jitter=1800.0)
    (moment,) = (one.due_at for one in [of.occurrence(NOON + HOUR)])
    assert moment > NOON + HOUR + GRACE
    early = decide(NOON, moment - SECOND, "last", of=of)
    assert early.starts == ()
    assert early.decided == NOON
    assert early.next is not None
    assert early.next.due_at == moment
    for catch_up in get_args(CatchUp):
        assert started(decide(NOON, moment, catch_up, of=of)) == [NOON + HOUR]


CRON = st.sampled_from(["0 * * * *", "*/7 * * * *", "30 2 * * *", "20,50 * * * * *", "0 0 1 * *"])


@given(
    CRON,
    st.sampled_from([0.0, 20.0, 1800.0]),
    st.sampled_from(["none", "last", "all"]),
    st.integers(0, 100_000),
    st.lists(st.integers(0, 100) | st.integers(0, 20_000), max_size=5),
)
@settings(max_examples=40)
def test_every_time_is_decided_once(
    cron: str, jitter: float, catch_up: Literal["none", "last", "all"], window: int, waits: list[int]
) -> None:
    of, since, now = plan(cron, jitter), NOON, NOON
    starts: list[datetime] = []
    passed: set[datetime] = set()
    for wait in waits:
        now += timedelta(seconds=wait)
        while True:
            decision = due(of, since=since, now=now, catch_up=catch_up, window=timedelta(seconds=window))
            starts += started(decision)
            for skipped in decision.skipped:
                between = all_times(of, skipped.first - SECOND, skipped.last)
                assert len(between) == (skipped.count or len(between))
                passed.update(between)
            assert decision.decided >= since
            if decision.decided == since:
                break
            since = decision.decided
    assert len(starts) == len(set(starts))
    assert starts == sorted(starts)
    assert not passed & set(starts)
    arrived = set()
    for occurrence in of.occurrences(NOON):
        if occurrence.due_at > now:
            break
        arrived.add(occurrence.scheduled_at)
    assert arrived == passed | set(starts)


def all_times(of: Plan, after: datetime, until: datetime) -> list[datetime]:
    return [one.scheduled_at for one in takewhile(lambda one: one.scheduled_at <= until, of.occurrences(after))]

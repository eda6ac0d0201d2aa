"""The times of a schedule beside those of a walk through every minute, which knows no library but the zones."""

import itertools
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flows.model import TriggerConfig
from triggers.schedule.config import Schedule, ScheduleTrigger
from triggers.schedule.plan import Plan

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Africa/Casablanca",
    "America/Santiago",
    "Antarctica/Troll",
)
NAIVE = datetime(2025, 1, 1)  # noqa: DTZ001 - hypothesis gives it a zone
YEARS = range(2009, 2028)


def plan(cron: str, zone: str = "UTC", **more: object) -> Plan:
    schedule = Schedule.model_validate({"cron": cron, "timezone": zone, **more})
    trigger: TriggerConfig = ScheduleTrigger(id="t", schedule=schedule)
    assert isinstance(trigger, ScheduleTrigger)
    return Plan(trigger, name="default/f/t")


def times(of: Plan, begin: datetime, end: datetime) -> list[datetime]:
    return [one.scheduled_at for one in itertools.takewhile(lambda one: one.scheduled_at <= end, of.occurrences(begin))]


# The oracle: a cron of plain numbers as sets, and a clock that is looked at in every minute.


def matches(fields: tuple[frozenset[int] | None, ...], wall: datetime) -> bool:
    minute, hour, day, month, weekday = fields
    if (
        (minute and wall.minute not in minute)
        or (hour and wall.hour not in hour)
        or (month and wall.month not in month)
    ):
        return False
    by_day, by_weekday = day is None or wall.day in day, weekday is None or wall.isoweekday() % 7 in weekday
    return (by_day or by_weekday) if day is not None and weekday is not None else (by_day and by_weekday)


def parse(cron: str) -> tuple[frozenset[int] | None, ...]:
    ranges = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))

    def field(text: str, low: int, high: int) -> frozenset[int] | None:
        if text == "*":
            return None
        found: set[int] = set()
        for item in text.split(","):
            span, _, step = item.partition("/")
            begin, _, last = span.partition("-")
            first = low if span == "*" else int(begin)
            final = high if span == "*" else int(last or (high if step else begin))
            found.update(range(first, final + 1, int(step or 1)))
        return frozenset(found)

    return tuple(field(text, low, high) for text, (low, high) in zip(cron.split(), ranges, strict=True))


def walk(cron: str, zone: str, begin: datetime, end: datetime) -> list[datetime]:
    """What is due later than ``begin`` and up to ``end``, by looking at the clock every minute."""
    fields, tz = parse(cron), ZoneInfo(zone)
    evenly = fields[1] is None or len(fields[1]) == 24
    found: list[datetime] = []
    # Earlier, so that what the clock has shown before is known: more than the longest change but Apia's.
    moment = begin - (25 * HOUR if zone == "Pacific/Apia" else 3 * HOUR)
    latest = (moment - MINUTE).astimezone(tz).replace(tzinfo=None)
    while moment <= end:
        wall = moment.astimezone(tz).replace(tzinfo=None)
        if evenly:
            due = matches(fields, wall)
        elif wall > latest + MINUTE:
            # Skipped times, and this one.
            skipped = (wall - latest) // MINUTE
            due = any(matches(fields, latest + (step + 1) * MINUTE) for step in range(skipped))
        else:
            due = wall > latest and matches(fields, wall)
        latest = max(latest, wall)
        if due and moment > begin:
            found.append(moment)
        moment += MINUTE
    return found


@cache
def changes(zone: str) -> tuple[datetime, ...]:
    """The days in which the clock is changed, as the hours of offsets show."""
    tz, found = ZoneInfo(zone), []
    moment, end = datetime(YEARS[0], 1, 1, tzinfo=UTC), datetime(YEARS[-1], 12, 31, tzinfo=UTC)
    while moment < end:
        if (moment + DAY).astimezone(tz).utcoffset() != moment.astimezone(tz).utcoffset():
            found.append(moment)
        moment += DAY
    return tuple(found)


def test_the_zones_are_changed_as_they_are_known_to_be() -> None:
    assert len(changes("Europe/Berlin")) == 2 * len(YEARS)
    assert len(changes("Asia/Kathmandu")) == len(changes("UTC")) == 0
    assert datetime(2011, 12, 30, tzinfo=UTC) in changes("Pacific/Apia")
    assert len(changes("Africa/Casablanca")) > 40


NUMBERS = st.sampled_from(["0", "15", "30", "1,31", "*/10", "7-50/9", "59"])
HOURS = st.sampled_from(["*", "*", "0", "1", "2", "3", "0-2", "1,2", "*/2", "23", "0-23", "9-17/3", "0,12"])
DAYS = st.sampled_from(["*", "*", "*", "1", "25-31", "*/7", "30"])
MONTHS = st.sampled_from(["*", "*", "*", "3,10,11", "1-12/2", "12", "4"])
WEEKDAYS = st.sampled_from(["*", "*", "0", "1-5", "5", "6,0"])
CRONS = st.tuples(NUMBERS, HOURS, DAYS, MONTHS, WEEKDAYS).map(" ".join)


@st.composite
def stretches(draw: st.DrawFn) -> tuple[str, datetime, datetime]:
    """A zone and a few days, mostly around a change of its clock."""
    zone = draw(st.sampled_from(ZONES))
    near_a_change = draw(st.integers(0, 9)) > 0
    if near_a_change and changes(zone):
        begin: datetime = draw(st.sampled_from(changes(zone)))
    else:
        begin = datetime(draw(st.sampled_from(YEARS)), 1, 1, tzinfo=UTC) + draw(st.integers(0, 364)) * DAY
    begin += draw(st.integers(-2000, 2000)) * MINUTE
    return zone, begin, begin + draw(st.integers(1, 2)) * DAY


@given(CRONS, stretches())
@example("30 2 * * *", ("Europe/Berlin", datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 30, 12, tzinfo=UTC)))
@example("30 2 * * *", ("Europe/Berlin", datetime(2026, 10, 24, tzinfo=UTC), datetime(2026, 10, 26, tzinfo=UTC)))
@example("0 12 * * *", ("Pacific/Apia", datetime(2011, 12, 28, tzinfo=UTC), datetime(2012, 1, 1, tzinfo=UTC)))
@example("*/10 * * * *", ("Pacific/Apia", datetime(2011, 12, 29, tzinfo=UTC), datetime(2012, 1, 1, tzinfo=UTC)))
@example("15 * * * *", ("Australia/Lord_Howe", datetime(2026, 4, 4, tzinfo=UTC), datetime(2026, 4, 6, tzinfo=UTC)))
@settings(max_examples=100)
def test_times_are_those_of_a_walk_through_every_minute(cron: str, stretch: tuple[str, datetime, datetime]) -> None:
    zone, begin, end = stretch
    assert times(plan(cron, zone), begin, end) == walk(cron, zone, begin, end)


@given(CRONS, stretches(), st.integers(0, 4000), st.integers(0, 999_999))
@settings(max_examples=50)
def test_the_next_time_is_the_same_wherever_one_asks(
    cron: str, stretch: tuple[str, datetime, datetime], minutes: int, microseconds: int
) -> None:
    zone, begin, end = stretch
    of = plan(cron, zone)
    asked = begin + timedelta(minutes=minutes, microseconds=microseconds)
    expected = [one for one in times(of, begin, end + 5 * DAY) if one > asked]
    found = of.after(asked)
    assert found is not None
    assert found > asked
    if expected:
        assert found == expected[0]
        assert of.after(found - timedelta(microseconds=1)) == found


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cron", ["15,45 0-3 * * *", "20 * * * *"])
def test_at_each_change_of_many_years_the_times_are_those_of_the_walk(zone: str, cron: str) -> None:
    of = plan(cron, zone)
    for change in changes(zone) or (datetime(2026, 3, 29, tzinfo=UTC),):
        begin, end = change - HOUR, change + DAY + 2 * HOUR
        assert times(of, begin, end) == walk(cron, zone, begin, end)


def local(instants: list[datetime], zone: str) -> list[str]:
    return [
        one.astimezone(ZoneInfo(zone)).isoformat()[:-9] + one.astimezone(ZoneInfo(zone)).isoformat()[-6:]
        for one in instants
    ]


def test_a_time_that_the_clock_skips_comes_due_where_it_is_skipped() -> None:
    found = times(plan("30 2 * * *", "Europe/Berlin"), *day(2026, 3, 29))
    assert local(found, "Europe/Berlin") == ["2026-03-29T03:00+02:00"]


def test_several_skipped_times_come_due_once() -> None:
    found = times(plan("*/10 2 * * *", "Europe/Berlin"), *day(2026, 3, 29))
    assert local(found, "Europe/Berlin") == ["2026-03-29T03:00+02:00"]


def test_a_time_that_the_clock_shows_twice_comes_due_the_first_time() -> None:
    found = times(plan("30 2 * * *", "Europe/Berlin"), *day(2026, 10, 25))
    assert local(found, "Europe/Berlin") == ["2026-10-25T02:30+02:00"]


def test_a_cron_for_every_hour_goes_on_evenly() -> None:
    for date in ((2026, 3, 29), (2026, 10, 25)):
        found = times(plan("*/10 * * * *", "Europe/Berlin"), *day(*date))
        assert len(found) == 24 * 6
        assert {later - earlier for earlier, later in itertools.pairwise(found)} == {10 * MINUTE}


def test_a_day_that_is_skipped_comes_due_once_as_the_next_one_begins() -> None:
    found = times(
        plan("0 9 * * *", "Pacific/Apia"), datetime(2011, 12, 29, tzinfo=UTC), datetime(2012, 1, 1, tzinfo=UTC)
    )
    assert local(found, "Pacific/Apia") == [
        "2011-12-29T09:00-10:00",
        "2011-12-31T00:00+14:00",
        "2011-12-31T09:00+14:00",
        "2012-01-01T09:00+14:00",
    ]


def test_seconds_are_counted_through_a_change() -> None:
    begin = datetime(2026, 10, 25, 0, 59, 50, tzinfo=UTC)
    found = times(plan("*/5 * * * * *", "Europe/Berlin"), begin, begin + timedelta(seconds=20))
    assert [one.second for one in found] == [55, 0, 5, 10]


def test_the_time_far_ahead_is_found_at_once() -> None:
    found = plan("0 0 29 2 *", "Europe/Berlin").after(datetime(2097, 1, 1, tzinfo=UTC))
    assert found is not None
    assert found.astimezone(ZoneInfo("Europe/Berlin")).date().isoformat() == "2104-02-29"
    assert plan("0 * 29 2 *", "Europe/Berlin").after(datetime(2097, 1, 1, tzinfo=UTC)) == datetime(
        2104, 2, 28, 23, tzinfo=UTC
    )


@given(
    st.integers(1, 10_000_000),
    st.none() | st.just("2026-03-29T01:30"),
    st.datetimes(NAIVE, NAIVE + 730 * DAY, timezones=st.just(UTC)),
)
def test_an_interval_goes_on_from_its_start(seconds: int, start: str | None, asked: datetime) -> None:
    of = plan_of_interval(seconds, start)
    anchor = datetime(1970, 1, 1, tzinfo=UTC) if start is None else datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
    found = of.after(asked)
    assert found is not None
    assert found > asked
    assert (found - anchor) % timedelta(seconds=seconds) == timedelta(0)
    assert found >= anchor
    assert found == anchor or found - timedelta(seconds=seconds) <= asked or start is not None


def test_an_interval_with_a_start_begins_with_it() -> None:
    of = plan_of_interval(3600, "2026-03-29T01:30")
    first, second = itertools.islice(of.occurrences(datetime(2020, 1, 1, tzinfo=UTC)), 2)
    assert first.scheduled_at == datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
    assert second.scheduled_at == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


def test_start_and_end_bound_the_plan() -> None:
    of = plan("0 12 * * *", "Europe/Berlin", start="2026-05-01", end="2026-05-03")
    found = [one.scheduled_at for one in of.occurrences(datetime(2000, 1, 1, tzinfo=UTC))]
    assert local(found, "Europe/Berlin") == [f"2026-05-0{day}T12:00+02:00" for day in (1, 2, 3)]
    exact = plan("0 12 * * *", start="2026-05-01T12:00", end="2026-05-02T12:00:00Z")
    assert len(list(exact.occurrences(datetime(2000, 1, 1, tzinfo=UTC)))) == 2


def test_jitter_is_the_same_everywhere_and_never_passes_the_next_time() -> None:
    one, other = plan("*/5 * * * *", jitter="1h"), plan("*/5 * * * *", jitter="1h")
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    found = list(itertools.islice(one.occurrences(begin), 500))
    assert found == list(itertools.islice(other.occurrences(begin), 500))
    assert found[100] == one.occurrence(found[100].scheduled_at)
    for earlier, later in itertools.pairwise(found):
        assert earlier.scheduled_at <= earlier.due_at < later.scheduled_at
    delays = sorted((each.due_at - each.scheduled_at).total_seconds() for each in found)
    assert delays[25] < 30
    assert delays[-25] > 270
    assert len(set(delays)) == 500


def test_jitter_differs_between_triggers() -> None:
    trigger = ScheduleTrigger(id="t", schedule=Schedule(cron="0 * * * *", jitter=600.0))
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    first = [one.due_at for one in itertools.islice(Plan(trigger, name="default/a/t").occurrences(begin), 20)]
    second = [one.due_at for one in itertools.islice(Plan(trigger, name="default/b/t").occurrences(begin), 20)]
    assert not set(first) & set(second)


def test_an_occurrence_is_an_event_with_the_time_on_its_clock() -> None:
    of = plan("30 2 * * *", "Europe/Berlin", jitter="10m")
    (occurrence,) = itertools.islice(of.occurrences(datetime(2026, 10, 24, 12, tzinfo=UTC)), 1)
    event = of.event(occurrence)
    assert event.data == {"scheduled_at": "2026-10-25T02:30:00+02:00"}
    assert (event.kind, event.key) == ("schedule", "2026-10-25T00:30:00+00:00")
    assert event.occurred_at == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


@given(CRONS, stretches())
@settings(max_examples=30)
def test_the_latest_time_is_the_last_of_all(cron: str, stretch: tuple[str, datetime, datetime]) -> None:
    zone, begin, end = stretch
    of = plan(cron, zone)
    all_of_them: list[datetime | None] = [None, *times(of, begin, end)]
    assert of.latest(after=begin, until=end) == all_of_them[-1]


def plan_of_interval(seconds: int, start: str | None) -> Plan:
    schedule = Schedule.model_validate({"interval": seconds, "timezone": "Europe/Berlin", "start": start})
    return Plan(ScheduleTrigger(id="t", schedule=schedule), name="default/f/t")


def day(year: int, month: int, number: int, zone: str = "Europe/Berlin") -> tuple[datetime, datetime]:
    """All of one day, from just before its beginning."""
    begin = datetime(year, month, number, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    return begin - timedelta(microseconds=1), begin + timedelta(hours=24) - timedelta(microseconds=1)

from datetime import UTC, datetime, timedelta

import pytest

from steps.tools import moments
from steps.tools.contract import InvalidArgumentsError


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday-ish",
        "30 days",
        "days ago",
        "-3 days ago",
        "3.5 days ago",
        "3 fortnights ago",
        "2025-02-30",
        "2025",
        "25:00",
        "999999999 years ago",
        "999999999 days ago",
        "9999999999 days ago",
        "2 000 days ago",
        "0001-01-01T00:00:00+14:00",
    ],
)
def test_what_is_no_point_in_time_says_how_to_write_one(text: str) -> None:
    with pytest.raises(InvalidArgumentsError, match="updatedBefore") as caught:
        moments.parse(text, "updatedBefore")
    assert "30 days ago" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025-03-31", datetime(2025, 3, 31, tzinfo=UTC)),
        ("2025-03-31T14:00:00", datetime(2025, 3, 31, 14, tzinfo=UTC)),
        ("2025-03-31T14:00:00.5Z", datetime(2025, 3, 31, 14, 0, 0, 500_000, tzinfo=UTC)),
        (" 2025-03-31T14:00:00+02:00 ", datetime(2025, 3, 31, 12, tzinfo=UTC)),
    ],
)
def test_an_iso_time_is_in_utc(text: str, moment: datetime) -> None:
    parsed = moments.parse(text, "x")
    assert (parsed, parsed.tzinfo) == (moment, UTC)


@pytest.mark.parametrize(
    ("text", "distance"),
    [
        ("now", timedelta()),
        ("0 days ago", timedelta()),
        ("30 days ago", timedelta(days=30)),
        ("1 day ago", timedelta(days=1)),
        ("a week ago", timedelta(weeks=1)),
        ("An Hour Ago", timedelta(hours=1)),
        ("90  seconds  ago", timedelta(seconds=90)),
        ("5 minutes ago", timedelta(minutes=5)),
    ],
)
def test_a_distance_counts_from_now(text: str, distance: timedelta) -> None:
    before = datetime.now(UTC)
    parsed = moments.parse(text, "x")
    assert before - distance <= parsed <= datetime.now(UTC) - distance


@pytest.mark.parametrize(("text", "months"), [("1 month ago", 1), ("13 months ago", 13), ("2 years ago", 24)])
def test_months_are_those_of_the_calendar(text: str, months: int) -> None:
    now = datetime.now(UTC)
    parsed = moments.parse(text, "x")
    assert (now.year * 12 + now.month) - (parsed.year * 12 + parsed.month) == months
    assert parsed.day in {now.day, 28, 29, 30}


def test_a_moment_is_written_as_it_is_read() -> None:
    moment = datetime(2025, 3, 31, 14, 0, 0, 123_456, tzinfo=UTC)
    assert moments.write(moment) == "2025-03-31T14:00:00.123456Z"
    assert moments.parse(moments.write(moment), "x") == moment

"""Cron expressions: which are good, and which never come due."""

import time
from contextlib import suppress
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers.schedule.cron import NAMES, Cron, InvalidCronError


def wall(*parts: int) -> datetime:
    """What a clock shows."""
    year, month, day, hour, minute, second = (*parts, 0, 0, 0)[:6]
    return datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - it has no zone


@pytest.mark.parametrize(
    "cron",
    [
        "* * * * *",
        "0 2 * * *",
        "*/15 9-17 * * mon-fri",
        "0 0 29 2 *",
        "0 0 1 jan *",
        "0 0 L * *",
        "59 23 31 12 7",
        "0 0 * * 5#1",
        "0 0 * 2 sun#5",
        "0 0 30 2 mon",
        "*/10 * * * * *",
        "0 30 2 * * *",
        "0 9 15W * *",
        "0 0 * * L5",
        *NAMES,
        "@Daily",
    ],
)
def test_a_cron_that_comes_due_is_good(cron: str) -> None:
    assert Cron(cron).after(wall(2026, 1, 1)) is not None


@pytest.mark.parametrize(
    "cron",
    ["0 0 30 2 *", "0 0 31 4 *", "0 0 31 2,4,6,9,11 *", "0 0 0 30 2 *", "0 0 30 2 sun#5", "* * * 31 4 *"],
)
def test_a_cron_that_never_comes_due_says_so(cron: str) -> None:
    with pytest.raises(InvalidCronError, match="never comes due") as caught:
        Cron(cron)
    assert caught.value.fix == "name a day that exists in that month"


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("0 0 1 1 * 0 2030", "7 fields"),
        ("60 * * * *", "not a cron"),
        ("* 24 * * *", "not a cron"),
        ("60 * * * * *", "not a cron"),
        ("*/0 * * * *", "not a cron"),
        ("R * * * *", "not a cron"),
        ("0 h(1-4) * * *", "not a cron"),
        ("a b c d e", "not a cron"),
        ("5-1-2 * * * *", "not a cron"),
        (",".join(["0-59"] * 60) + " * * * *", "longer than 200"),
    ],
)
def test_what_is_no_cron_is_refused(cron: str, message: str) -> None:
    with pytest.raises(InvalidCronError, match=message) as caught:
        Cron(cron)
    assert "five fields" in caught.value.fix


def test_a_name_that_is_none_has_the_closest() -> None:
    with pytest.raises(InvalidCronError, match="no schedule named `@dayly`") as caught:
        Cron("@dayly")
    assert caught.value.fix == "did you mean `@daily`?"
    with pytest.raises(InvalidCronError, match="@reboot"):
        Cron("@reboot")


def test_seconds_stand_in_front() -> None:
    assert Cron("30 0 2 * * *").after(wall(2026, 1, 1)) == wall(2026, 1, 1, 2, 0, 30)
    assert Cron("0 2 * * *").after(wall(2026, 1, 1)) == wall(2026, 1, 1, 2)


def test_either_day_will_do_where_both_are_given() -> None:
    cron, days, shown = Cron("0 0 13 * fri"), [], wall(2026, 2, 1)
    for _ in range(5):
        found = cron.after(shown)
        assert found is not None
        shown = found
        days.append(shown.day)
    assert days == [6, 13, 20, 27, 6]


@pytest.mark.parametrize(
    ("cron", "every"), [("5 * * * *", True), ("5 0-23 * * *", True), ("5 */2 * * *", False), ("0 */1 1 * *", True)]
)
def test_which_crons_are_for_every_hour(cron: str, every: bool) -> None:  # noqa: FBT001
    assert Cron(cron).every_hour is every


FIELD = st.text("0123456789*/,-#LWHR?abc", min_size=1, max_size=6)


@given(st.text(max_size=30) | st.lists(FIELD, min_size=5, max_size=6).map(" ".join))
def test_any_text_is_a_cron_or_refused_and_takes_bounded_time(text: str) -> None:
    began = time.monotonic()
    with suppress(InvalidCronError):
        Cron(text).after(wall(2026, 1, 1))
    assert time.monotonic() - began < 20

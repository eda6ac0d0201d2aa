"""Cron expressions: which are good, and which never come due."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers.schedule import cron_problem


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
    ],
)
def test_a_cron_that_comes_due_is_good(cron: str) -> None:
    assert cron_problem(cron) is None


@pytest.mark.parametrize("cron", ["0 0 30 2 *", "0 0 31 4 *", "0 0 31 2,4,6,9,11 *"])
def test_a_cron_that_never_comes_due_says_so(cron: str) -> None:
    problem = cron_problem(cron)
    assert problem is not None
    assert "never comes due" in problem[0]


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "*/0 * * * *",
        "@daily",
        "R * * * *",
        "a b c d e",
        "5-1-2 * * * *",
    ],
)
def test_what_is_no_cron_is_refused(cron: str) -> None:
    problem = cron_problem(cron)
    assert problem is not None
    assert problem[1]


@given(
    st.text(max_size=30)
    | st.lists(st.text("0123456789*/,-#LWHR?abc", min_size=1, max_size=6), min_size=5, max_size=5).map(" ".join)
)
def test_any_text_is_a_cron_or_refused(text: str) -> None:
    cron_problem(text)

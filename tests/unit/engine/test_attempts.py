from typing import Literal

import pytest

from engine.attempts import retry_delays
from flows.model import Retry


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        ("constant", [2.0, 2.0, 2.0, 2.0]),
        ("linear", [2.0, 4.0, 6.0, 7.0]),
        ("exponential", [2.0, 4.0, 7.0, 7.0]),
    ],
)
def test_delays_grow_by_the_backoff_up_to_the_longest(
    backoff: Literal["constant", "linear", "exponential"], delays: list[float]
) -> None:
    assert retry_delays(Retry(attempts=5, delay=2, backoff=backoff, max_delay=7)) == delays


def test_a_single_attempt_has_no_delays() -> None:
    assert retry_delays(Retry(attempts=1)) == []


def test_a_hundred_attempts_do_not_overflow() -> None:
    assert max(retry_delays(Retry(attempts=100, delay="10m", max_delay="1h"))) == 3600  # type: ignore[arg-type]

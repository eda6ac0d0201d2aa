"""What the shop relies on."""

import pytest
from orders import total, with_discount


def test_total_is_the_sum_of_the_lines():
    assert total([(2, 9.99), (1, 0.02)]) == 20.0


def test_total_of_nothing_is_nothing():
    assert total([]) == 0


@pytest.mark.parametrize(("code", "costs"), [("SPRING", 90.0), (None, 100.0), ("spring", 100.0)])
def test_discount_needs_its_code(code, costs):
    assert with_discount(100.0, code) == costs


@pytest.mark.skip(reason="currencies come with the next version")
def test_total_in_another_currency():
    raise NotImplementedError

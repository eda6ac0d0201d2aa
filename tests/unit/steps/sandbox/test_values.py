import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.values import Json
from steps.sandbox.values import MAX_DEPTH, NotJsonError, _explain, _is_clean, decode

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON)
def test_json_comes_back_as_it_was(value: Json) -> None:
    assert decode(json.dumps(value).encode(), "result") == value


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800") | st.just(2**53),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.just("\ud800"), inner, max_size=4),
    max_leaves=20,
)


@given(ANYTHING, st.integers(0, MAX_DEPTH + 1))
def test_what_is_found_wrong_is_explained_and_nothing_else(value: Json, levels: int) -> None:
    for _level in range(levels):
        value = [value]
    try:
        _explain(value, "result", 0)
        explained = False
    except NotJsonError:
        explained = True
    assert _is_clean(value) is not explained


@given(st.binary(max_size=100))
def test_no_bytes_do_more_than_raise(data: bytes) -> None:
    with suppress(NotJsonError):
        decode(data, "result")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "result is not valid JSON"),
        ("\xff", "result is not valid JSON"),
        ("NaN", "result contains NaN"),
        ('{"a": [-Infinity]}', "result contains -Infinity"),
        ('{"a": 1e999}', "result.a is a number too large"),
        ("[9007199254740992]", r"result\[0\] is an integer beyond"),
        ('{"\\ud800": 1}', "a key of result is text with half"),
        ("[" * 201 + "]" * 201, "nested deeper than 200 levels"),
        ("[" * 100_000, "nested deeper than 200 levels"),
    ],
)
def test_what_is_not_exact_is_refused(text: str, message: str) -> None:
    with pytest.raises(NotJsonError, match=message):
        decode(text.encode("latin-1"), "result")


def test_two_hundred_levels_are_fine() -> None:
    assert decode(b"[" * 200 + b"]" * 200, "result")

"""Inputs of a run: what is given against what is declared."""

from collections.abc import Callable

import pytest

from flows.definition import Definition
from flows.inputs import InvalidInputError, parse_input, parse_json, validate_inputs
from flows.model import Flow
from flows.values import Json


@pytest.fixture(scope="module")
def flow(load_flow: Callable[..., Definition]) -> Flow:
    return load_flow(
        "flow: f\n"
        "inputs:\n"
        "  customer: {type: string, minLength: 1, pattern: '^[a-z]+$'}\n"
        "  limit: {type: integer, default: 10, minimum: 1}\n"
        "  rows: {type: array, items: {type: object, required: [n]}, default: []}\n"
        "  mode: {enum: [fast, slow], default: fast}\n"
        "  anything: {default: null}\n"
        "steps: [{id: a, shell: ls}]\n"
    ).flow


@pytest.mark.parametrize(
    ("given", "fragment"),
    [
        ({}, "input `customer` is missing"),
        ({"customer": "a", "limt": 1}, "did you mean `limit`?"),
        ({"customer": "a", "qqq": 1}, "known: `customer`"),
        ({"customer": 5}, "input `customer`: the value must be of type string"),
        ({"customer": ""}, "input `customer`"),
        ({"customer": "A"}, "does not match the pattern"),
        ({"customer": "a", "limit": 0}, "less than the minimum"),
        ({"customer": "a", "limit": True}, "of type integer"),
        ({"customer": "a", "limit": 1.5}, "of type integer"),
        ({"customer": "a", "rows": [{"n": 1}, {}]}, "input `rows`[1]: `n` is missing"),
        ({"customer": "a", "mode": "fats"}, "did you mean `fast`?"),
    ],
)
def test_wrong_inputs_are_refused(flow: Flow, given: dict[str, Json], fragment: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        validate_inputs(flow, given)
    assert fragment in caught.value.message
    assert (caught.value.code, caught.value.exit_status) == ("invalid_input", 2)


def test_all_that_is_wrong_comes_at_once(flow: Flow) -> None:
    with pytest.raises(InvalidInputError) as caught:
        validate_inputs(flow, {"x": 1, "limit": "a", "mode": "z"})
    assert len(caught.value.message.splitlines()) == 4


def test_defaults_fill_what_is_not_given(flow: Flow) -> None:
    assert validate_inputs(flow, {"customer": "a", "limit": 3, "anything": [1]}) == {
        "customer": "a",
        "limit": 3,
        "rows": [],
        "mode": "fast",
        "anything": [1],
    }


def test_a_pattern_takes_linear_time(load_flow: Callable[..., Definition]) -> None:
    flow = load_flow("flow: f\ninputs: {a: {type: string, pattern: '^(a+)+$'}}\nsteps: [{id: a, shell: ls}]\n").flow
    with pytest.raises(InvalidInputError):
        validate_inputs(flow, {"a": "a" * 5000 + "!"})


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, "5", "5"),
        ({"type": "string"}, '{"a": 1}', '{"a": 1}'),
        ({"type": "integer"}, "5", 5),
        ({"type": "integer"}, "5.0", 5),
        ({"type": "number"}, "5.5", 5.5),
        ({"type": "boolean"}, "true", True),
        ({"type": "null"}, "null", None),
        ({"type": "array"}, "[1, 2]", [1, 2]),
        ({"type": "object"}, '{"a": 1}', {"a": 1}),
        ({"type": ["string", "null"]}, "null", None),
        ({"type": ["string", "integer"]}, "5", 5),
        ({"type": ["string", "integer"]}, "[1]", "[1]"),
        ({"type": ["string", "integer"]}, "abc", "abc"),
        ({}, "5", 5),
        ({}, "abc", "abc"),
        ({}, "9223372036854775807", 9223372036854775807),
        ({"type": ["string", "number"]}, "NaN", "NaN"),
        ({"type": "string"}, "1e999", "1e999"),
    ],
)
def test_text_is_read_by_the_declared_type(schema: dict[str, Json], text: str, value: Json) -> None:
    parsed = parse_input(schema, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "integer"}, "five"),
        ({"type": "array"}, "[1"),
        ({"type": "object"}, "a: 1"),
        ({"type": "boolean"}, "yes"),
    ],
)
def test_text_of_another_type_is_refused(schema: dict[str, Json], text: str) -> None:
    with pytest.raises(InvalidInputError, match="is not of type"):
        parse_input(schema, text)


REFUSED = {
    "NaN": "not a number",
    "-Infinity": "not a number",
    "[1e999]": "too large",
    "99999999999999999999": "too large",
    "-9223372036854775809": "too large",
    "1" * 5000: "too large",
    '{"a": ["\\ud800"]}': "Unicode",
    '{"\\udc00": 1}': "Unicode",
    "caf\udce9": "Unicode",
    "[" * 60_000: "deeper than 100",
    "[" * 150 + "]" * 150: "deeper than 100",
    '{"a":' * 150 + "1" + "}" * 150: "deeper than 100",
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.items(), ids=lambda value: ascii(value)[:30])
@pytest.mark.parametrize("schema", [{}, {"type": "number"}, {"type": ["array", "object"]}])
def test_what_can_not_be_kept_exactly_is_refused(schema: dict[str, Json], text: str, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        parse_json(text)
    with pytest.raises(InvalidInputError):
        parse_input(schema, text)


def test_an_integer_written_with_an_exponent_is_not_rounded_silently() -> None:
    with pytest.raises(InvalidInputError, match="too large"):
        parse_input({"type": "integer"}, "1e19")


def test_bytes_that_are_not_utf_8_are_refused() -> None:
    assert parse_json(b"\xef\xbb\xbf[1]") == [1]
    with pytest.raises(InvalidInputError, match="byte 2 is not UTF-8"):
        parse_json(b'["\xff"]')


def test_text_that_is_not_json_is_no_refusal() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        parse_json("abc")


def test_a_key_that_comes_twice_is_refused_where_that_is_asked() -> None:
    text = '{"a": {"b": 1, "c": 2, "\\u0062": 3}}'
    assert parse_json(text) == {"a": {"b": 3, "c": 2}}
    with pytest.raises(InvalidInputError, match="the key `b` is there twice"):
        parse_json(text, unique_keys=True)
    many = ", ".join(f'"{number}": 1' for number in range(100_000))
    with pytest.raises(InvalidInputError, match="the key `7` is there twice"):
        parse_json(f'{{{many}, "7": 2}}', unique_keys=True)

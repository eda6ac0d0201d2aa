"""What is found of a secret in what code prints, in which disguises, and what is shown in its place."""

import base64
import codecs
import html
import itertools
import json
import random
import shlex
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.disguises import SHORTEST
from steps.masking import MAX_HELD, PIECE, SHOWN, Mask
from steps.sandbox.output import Output

VALUE = "hunter2&<£>'\"\\ /+= s3cret"
PLAIN = "sk-4f9a7c21e8b3"


def wrapped(text: str, width: int) -> str:
    return "\n".join(text[place : place + width] for place in range(0, len(text), width))


DISGUISES: dict[str, Any] = {
    "as it is": lambda value: value,
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 after one byte": lambda value: base64.b64encode(b"x" + value.encode()).decode(),
    "base64 after two bytes": lambda value: base64.b64encode(b"xy" + value.encode() + b"z").decode(),
    "base64 for URLs": lambda value: base64.urlsafe_b64encode(f"user:{value}".encode()).decode(),
    "base64 in lines": lambda value: base64.encodebytes(b"." * 50 + value.encode()).decode(),
    "percent-encoded": lambda value: quote(value, safe=""),
    "percent-encoded, small letters": lambda value: quote(value, safe="").lower() if value.islower() else quote(value),
    "a form": quote_plus,
    "every byte percent-encoded": lambda value: "".join(f"%{byte:02x}" for byte in value.encode()),
    "hex": lambda value: value.encode().hex(),
    "HEX": lambda value: value.encode().hex().upper(),
    "JSON": json.dumps,
    "JSON in JSON": lambda value: json.dumps(json.dumps({"key": value})),
    "Python's repr": repr,
    "Python's repr of bytes": lambda value: repr(value.encode()),
    "HTML": html.escape,
    "backwards": lambda value: value[::-1],
    "quoted for a shell": shlex.quote,
    "split over lines": lambda value: wrapped(value, 5),
    "split over lines of Windows": lambda value: wrapped(value, 3).replace("\n", "\r\n"),
}


def parts_left(masked: str, value: str) -> bool:
    """Whether a part of the value worth having is left."""
    return any(value[place : place + SHORTEST] in masked for place in range(len(value) - SHORTEST + 1))


@pytest.mark.parametrize("value", [PLAIN, VALUE, "Grüße aus 東京 😀", "pass word with spaces"])
@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_value_is_found_in_each_disguise(disguise: str, value: str) -> None:
    written = DISGUISES[disguise](value)
    masked = Mask({"token": [value]}).text(f"before {written} after")
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert SHOWN in masked
    assert not parts_left(masked, value)
    # Of base64 a character is left at each end that also belongs to the neighbours.
    left = masked.replace(SHOWN, "").removeprefix("before ").removesuffix(" after")
    assert len(left) < len(written) / 2 or disguise in {"base64 in lines", "JSON in JSON"}


def test_what_is_no_value_stays() -> None:
    mask = Mask({"token": [PLAIN]})
    for text in ("", "nothing", PLAIN[:-1], PLAIN[1:], PLAIN.upper(), "•••", "sk-\nsk-4f9a"):
        assert mask.text(text) == text


@pytest.mark.parametrize("text", [codecs.encode(PLAIN, "rot13"), " ".join(PLAIN), PLAIN[:7] + "\x1b[0m" + PLAIN[7:]])
def test_what_can_not_be_found_is_as_the_documentation_says(text: str) -> None:
    assert Mask({"token": [PLAIN]}).text(text) == text


def test_a_value_with_lines_is_found_whole_and_line_by_line() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\nend\n-----END KEY-----\n"
    mask = Mask({"key": [key]})
    assert mask.text(f"a\n{key}b") == f"a\n{SHOWN}\n{SHOWN}\n{SHOWN}\n{SHOWN}\n{SHOWN}\nb"
    assert mask.text("  MIIEvQIBADANBgkq;\n  hkiG9w0BAQEFAASC;") == f"  {SHOWN};\n  {SHOWN};"
    assert mask.text(json.dumps(key)) == f'"{SHOWN}"'
    assert mask.text("the end") == "the end"


def test_several_secrets_and_several_values_of_one() -> None:
    mask = Mask({"a": ["first-value", "older-value"], "b": ["second-value"], "short": ["abc"], "none": []})
    assert mask.text("first-value older-value second-value abc") == f"{SHOWN} {SHOWN} {SHOWN} abc"
    assert mask.text("first-valuesecond-value") == SHOWN
    assert Mask({}).text("anything\n") == "anything\n"


@pytest.mark.parametrize("length", [PIECE, 2 * PIECE - 1, 2 * PIECE, 2 * PIECE + 1, 5 * PIECE + 7, 64_000])
def test_long_values_are_found_in_pieces(length: int) -> None:
    chance = random.Random(length)
    value = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length))
    mask = Mask({"long": [value]})
    assert mask.text(f"<{value}>") == f"<{SHOWN}>"
    encoded = mask.text(f"<{base64.b64encode(value.encode()).decode()}>")
    assert encoded.startswith(f"<{SHOWN}")
    assert len(encoded) < 10
    stream = mask.stream()
    shown = "".join(stream.feed(value[place : place + 1000]) for place in range(0, length, 1000))
    assert (shown + stream.finish()).replace(SHOWN, "") == ""


def test_json_is_masked_in_values_keys_and_numbers() -> None:
    mask = Mask({"token": [PLAIN], "pin": ["48151623"]})
    value = {"a": [f"x{PLAIN}", 48151623, 1.5, None, True, {PLAIN: 1, f"{PLAIN[::-1]}": 2}], "pin": -481516239}
    assert mask.json(value) == {
        "a": [f"x{SHOWN}", SHOWN, 1.5, None, True, {SHOWN: 1, f"{SHOWN} 2": 2}],
        "pin": f"-{SHOWN}9",
    }


def test_arguments_show_the_expression_and_are_the_same_after_a_rotation() -> None:
    def shown(value: str) -> Any:
        basic = base64.b64encode(f"user:{value}@".encode()).decode()
        arguments = {"token": f"Bearer {value}", "basic": f"Basic {basic}", "q": quote(value, safe=""), "n": 1}
        return Mask({"token": [value, "some-old-value"]}).arguments(arguments)

    first = shown("a/value+of:some-length")
    assert first == {"token": "Bearer ${{ secrets.token }}", "basic": f"Basic {SHOWN}", "q": SHOWN, "n": 1}
    assert shown("another/value of some other length, with more") == first


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in itertools.pairwise(places)]


FRAGMENTS = st.lists(
    st.sampled_from([PLAIN, PLAIN[:3], PLAIN[:4], PLAIN[:9], PLAIN[3:], "\n", "x", "abcabcabd", "abcabc", " "])
)


@given(FRAGMENTS, st.lists(st.integers(0, 1000), max_size=8))
def test_a_text_in_pieces_is_masked_as_the_whole(fragments: list[str], cuts: list[int]) -> None:
    mask = Mask({"token": [PLAIN], "other": ["abcabcabd"]})
    text = "".join(fragments)
    stream = mask.stream()
    shown = "".join(stream.feed(piece) for piece in pieces(text, cuts)) + stream.finish()
    whole = mask.text(text)
    # Where a line ended within a value's first three characters, these are seen.
    if "\n" not in text:
        assert shown.replace(SHOWN, "") == whole.replace(SHOWN, "")
    assert PLAIN not in shown.replace("\n", "")
    assert shown.count("\n") == text.count("\n")


def lines(output: Output, data: bytes) -> list[str]:
    return [line for _stream, line in output.feed("stdout", data)]


def test_lines_are_live_and_a_value_over_two_of_them_is_not_seen() -> None:
    output = Output(1_000_000, Mask({"token": [PLAIN]}))
    assert lines(output, b"ready\n") == ["ready"]
    assert lines(output, b"ends in s\n") == ["ends in s"]
    assert lines(output, b"ends in sk\nnext\n") == ["ends in sk", "next"]
    assert lines(output, f"{PLAIN[:2]}\n".encode()) == [PLAIN[:2]]
    assert lines(output, f"{PLAIN[2:]}\n".encode()) == [SHOWN]
    assert lines(output, f"x {PLAIN[:6]}\n".encode()) == []
    assert lines(output, b"no\n") == [f"x {PLAIN[:6]}", "no"]
    assert lines(output, f"x {PLAIN[:6]}\n".encode()) == []
    assert lines(output, f"{PLAIN[6:]} y\n".encode()) == [f"x {SHOWN}", f"{SHOWN} y"]
    assert lines(output, PLAIN[:5].encode()) == []
    assert lines(output, f"{PLAIN[5:]}\n".encode()) == [SHOWN]
    assert not parts_left(output.text("stdout").replace(PLAIN[:6], ""), PLAIN)


def test_the_streams_are_apart_and_their_ends_are_given() -> None:
    output = Output(1_000_000, Mask({"token": [PLAIN]}))
    assert list(output.feed("stderr", PLAIN[:6].encode())) == []
    assert list(output.feed("stdout", f"{PLAIN}\n".encode())) == [("stdout", SHOWN)]
    assert list(output.finish()) == [("stderr", PLAIN[:6])]
    assert output.text("stderr") == PLAIN[:6]


@pytest.mark.parametrize("shown", range(4, len(PLAIN) + 1))
def test_a_value_that_the_limit_cuts_is_not_seen(shown: int) -> None:
    output = Output(100, Mask({"token": [PLAIN]}))
    seen = lines(output, b"x" * (100 - shown) + PLAIN.encode() + b"more") + [line for _, line in output.finish()]
    assert seen[0] == "x" * (100 - shown) + SHOWN
    assert output.truncated
    assert not parts_left(output.text("stdout"), PLAIN)


def test_a_line_that_is_cut_into_several_is_masked_at_the_cut() -> None:
    output = Output(1_000_000, Mask({"token": [PLAIN]}))
    seen = lines(output, b"x" * 16_380 + PLAIN.encode() + b"y\n")
    assert "".join(seen) == "x" * 16_380 + SHOWN + "y"


def test_notes_of_the_host_are_masked_too() -> None:
    output = Output(1_000_000, Mask({"token": [PLAIN]}))
    assert list(output.note(f"{PLAIN}.example.com is not allowed")) == [
        ("stderr", f"{SHOWN}.example.com is not allowed")
    ]


def test_line_ends_without_end_do_not_hold_anything_back_for_ever() -> None:
    stream = Mask({"token": [PLAIN]}).stream()
    assert stream.feed(f"{PLAIN[:6]}\n") == ""
    assert stream.feed("\n" * (MAX_HELD + 1)).count("\n") == MAX_HELD + 2

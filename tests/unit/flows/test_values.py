"""Durations and byte sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.values import MAX_BYTE_SIZE, MAX_DURATION, parse_byte_size, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("500ms", 0.5),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("1d2h3m4s5ms", 93_784.005),
        ("1.5h", 5400),
        ("0s", 0),
        ("1m", 60),
        (15, 15),
        (0.25, 0.25),
        ("3650d", MAX_DURATION),
    ],
)
def test_a_duration_is_seconds(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "30",
        "30 s",
        "30sec",
        "-1s",
        -1,
        "1s1m",
        "1s1s",
        "1e3s",
        "٣s",
        "3651d",
        10**400,
        float("nan"),
        True,
        None,
        [],
    ],
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("128MB", 128_000_000),
        ("64MiB", 67_108_864),
        ("1kB", 1000),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("1.5GB", 1_500_000_000),
        ("7B", 7),
        ("1 MB", 1_000_000),
        (42, 42),
        ("1024TiB", MAX_BYTE_SIZE),
    ],
)
def test_a_byte_size_is_bytes(text: object, size: int) -> None:
    assert parse_byte_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MB", "1", "1M", "1mb", "-1MB", -1, "1MB; x", "1Mbit", "1025TiB", 1.5, True, None]
)
def test_what_is_no_byte_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be a size"):
        parse_byte_size(text)


@given(st.text() | st.integers() | st.floats() | st.none())
def test_a_value_is_within_bounds_or_refused(value: object) -> None:
    for parse, largest in ((parse_duration, MAX_DURATION), (parse_byte_size, MAX_BYTE_SIZE)):
        try:
            parsed = parse(value)
        except ValueError:
            continue
        assert 0 <= parsed <= largest

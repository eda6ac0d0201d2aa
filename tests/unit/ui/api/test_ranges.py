"""Parts of contents that requests ask for."""

import pytest

from ui.api.ranges import UnsatisfiableError, requested


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("", None),
        ("bytes=0-0", (0, 1)),
        ("bytes=2-", (2, 10)),
        ("bytes=2-5", (2, 6)),
        ("Bytes = 8-100", (8, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-100", (0, 10)),
        ("bytes=0-1,3-4", None),
        ("bytes=5-2", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("items=0-1", None),
        ("bytes=0-" + "9" * 30, None),
    ],
)
def test_a_part_is_what_the_header_says(header: str | None, part: tuple[int, int] | None) -> None:
    assert requested(header, 10) == part


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-1", 0)])
def test_a_part_of_which_there_is_nothing_is_told_apart(header: str, size: int) -> None:
    with pytest.raises(UnsatisfiableError):
        requested(header, size)

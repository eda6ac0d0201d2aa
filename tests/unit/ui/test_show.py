"""Text from elsewhere on the operator's terminal."""

import json
from io import StringIO

import pytest

from ui.cli.show import err, json_text, literal, plain, size


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("100 %\rdone", "100 %\\x0ddone"),
        ("a\x00\x08\x7f", "a\\x00\\x08\\x7f"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\udcff", "\\udcff"),
        ("tab\there\nline – ✓ é 漢", "tab\there\nline – ✓ é 漢"),
    ],
)
def test_what_commands_a_terminal_is_written_out(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_json_commands_no_terminal_and_stays_the_same_value() -> None:
    value = {"a\x1b": "\x9b2J\x7f\u202e – ✓"}
    text = json_text(value)
    assert not {"\x1b", "\x9b", "\x7f", "\u202e"} & set(text)
    assert "– ✓" in text
    assert json.loads(text) == value
    assert json_text(value, ascii_only=True).isascii()


@pytest.mark.parametrize("text", ["[red]markup[/]", ":smile: :warning:", "a\\[b]", "trailing\\"])
def test_markup_and_emoji_codes_stay_as_they_are(text: str) -> None:
    console = err()
    assert not console._emoji
    console.file = stream = StringIO()
    console.print(f"[bold]{literal(text)}[/]")
    assert stream.getvalue() == f"{text}\n"


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1449, "1.4 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (100_000_000, "100.0 MB"),
        (2_500_000_000, "2.5 GB"),
        (5_000_000_000_000, "5000.0 GB"),
    ],
)
def test_bytes_are_shown_as_people_write_them(count: int, shown: str) -> None:
    assert size(count) == shown

"""Text from elsewhere on the operator's terminal."""

import json
from io import StringIO

import pytest

from ui.cli.show import err, json_text, literal, plain


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

import json
from pathlib import Path

import pytest

from flows.errors import InvalidCallError
from ui.cli.options import read_inputs, split_inputs
from ui.cli.show import duration


def test_pairs_keep_what_follows_the_first_equals_sign() -> None:
    assert split_inputs(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    assert split_inputs(None) == {}


@pytest.mark.parametrize("pairs", [["a"], ["=1"], ["a=1", "a=2"]])
def test_bad_pairs_are_refused(pairs: list[str]) -> None:
    with pytest.raises(InvalidCallError):
        split_inputs(pairs)


@pytest.mark.parametrize("text", ["[1]", "{", "1", "\xff"])
def test_inputs_must_be_a_json_object(tmp_path: Path, text: str) -> None:
    file = tmp_path / "inputs.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidCallError):
        read_inputs(file)


def test_inputs_are_read(tmp_path: Path) -> None:
    file = tmp_path / "inputs.json"
    file.write_text(json.dumps({"a": [1]}))
    assert read_inputs(file) == {"a": [1]}
    assert read_inputs(None) == {}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0004, "0 ms"), (0.008, "8 ms"), (0.9999, "1000 ms"), (1.239, "1.24 s"), (59.9, "59.90 s"), (125.2, "2 m 05 s")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.errors import InvalidCallError
from ui.cli.options import MAX_CODE, MAX_INPUTS, once, read_code, read_flow, read_inputs, split_inputs
from ui.cli.show import duration


def test_pairs_keep_what_follows_the_first_equals_sign() -> None:
    assert split_inputs(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    assert split_inputs(None) == {}


@pytest.mark.parametrize("pairs", [["a"], ["=1"], ["a=1", "a=2"]])
def test_bad_pairs_are_refused(pairs: list[str]) -> None:
    with pytest.raises(InvalidCallError):
        split_inputs(pairs)


@pytest.mark.parametrize(
    "text", ["[1]", "{", "1", "\xff", '{"a": NaN}', '{"a": 1e999}', '{"a": "\\ud800"}', '{"a":' + "[" * 60_000]
)
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


@pytest.mark.timeout(20)
def test_what_is_not_a_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (read_inputs, read_code, read_flow):
        with pytest.raises(InvalidCallError, match="regular file"):
            read(tmp_path / "pipe")


@pytest.mark.parametrize(("read", "limit"), [(read_inputs, MAX_INPUTS), (read_code, MAX_CODE)])
def test_a_file_that_is_too_large_is_not_read_to_its_end(
    tmp_path: Path, read: Callable[[Path], object], limit: int
) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(200_000_000_000)
    with pytest.raises(InvalidCallError, match=f"larger than {limit:,} bytes"):
        read(tmp_path / "large")


def test_standard_input_can_be_read_once() -> None:
    once(Path("-"), None, Path("a"), Path("a"))
    with pytest.raises(InvalidCallError, match="only once"):
        once(Path("-"), Path("a"), Path("-"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0004, "0 ms"), (0.008, "8 ms"), (0.9999, "1000 ms"), (1.239, "1.24 s"), (59.9, "59.90 s"), (125.2, "2 m 05 s")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text

"""Calls that are wrong: an error to act on and exit status 2, never a traceback."""

import os

import pytest

from tests.acceptance.conftest import Stepbox

FLOW = "flow: x\ninputs: {n: {}}\nsteps: [{id: a, shell: 'true'}]"
DEEP = "[" * 60_000
REFUSED = {
    "nan": "NaN",
    "infinite": "-Infinity",
    "large": "1e999",
    "long": "99999999999999999999",
    "surrogate": r'"\ud800"',
    "bytes": "caf\udce9",
    "deep": DEEP,
}


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("command", [("run", "x.yaml"), ("exec", "-l", "python", "-f", "x.py")], ids=lambda c: c[0])
def test_a_value_that_can_not_be_kept_is_refused(stepbox: Stepbox, command: tuple[str, ...], value: str) -> None:
    stepbox.flow("x", FLOW)
    (stepbox.directory / "x.py").write_text("return 1")
    outcome = stepbox(*command, "-i", f"n={value}", "--output", "json")
    assert outcome.status == 2
    assert outcome.json()["error"]["code"] in {"invalid_input", "invalid_call"}
    assert outcome.json()["error"]["fix"]
    assert outcome.stderr == ""


@pytest.mark.parametrize("text", ['{"n": NaN}', '{"n": 1e999}', '{"n": 99999999999999999999}', '{"n":' + DEEP])
def test_a_file_of_inputs_with_such_a_value_is_refused(stepbox: Stepbox, text: str) -> None:
    stepbox.flow("x", FLOW)
    (stepbox.directory / "inputs.json").write_text(text)
    outcome = stepbox("run", "x.yaml", "--inputs", "inputs.json", "--output", "json")
    assert (outcome.status, outcome.json()["error"]["code"]) == (2, "invalid_input")
    assert outcome.stderr == ""


def test_the_largest_integer_is_kept_exactly(stepbox: Stepbox) -> None:
    outcome = stepbox("exec", "-l", "python", "-i", f"n={2**63 - 1}", stdin="return str(inputs['n'])")
    assert outcome.stdout == f'"{2**63 - 1}"\n'


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "-", "--inputs", "-"),
        ("exec", "-l", "python", "--inputs", "-"),
        ("validate", "-", "-"),
        ("flows", "apply", "-", "-"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_standard_input_can_not_be_read_twice(stepbox: Stepbox, arguments: tuple[str, ...]) -> None:
    outcome = stepbox(*arguments, "--output", "json", stdin=FLOW)
    assert outcome.status == 2
    assert "only once" in outcome.json()["error"]["message"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "pipe"),
        ("validate", "pipe"),
        ("flows", "apply", "pipe"),
        ("exec", "-l", "python", "-f", "pipe"),
        ("run", "x.yaml", "--inputs", "pipe"),
        ("validate", "filed.yaml"),
    ],
    ids=" ".join,
)
def test_a_pipe_in_place_of_a_file_hangs_nothing(stepbox: Stepbox, arguments: tuple[str, ...]) -> None:
    os.mkfifo(stepbox.directory / "pipe")
    stepbox.flow("x", FLOW)
    stepbox.flow("filed", "flow: filed\nsteps: [{id: a, python: {file: ./pipe}}]")
    outcome = stepbox(*arguments)
    assert outcome.status == 2
    assert "regular file" in outcome.stderr

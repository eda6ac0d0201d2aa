"""Results of scripts at the limit, to the byte, and inputs that are large."""

import json

import pytest

from flows.values import Json, StepStatus
from steps.sandbox.limits import Language
from tests.sandbox.conftest import RunStep

LIMIT = 1_000_000
TEXT = {
    "JSON and line ends": "(printf '\"'; head -c $INPUT_N /dev/zero | tr '\\0' x; printf '\"\\n\\n') > $RESULT",
    "output": "head -c $INPUT_N /dev/zero | tr '\\0' x",
}


@pytest.mark.every_runner
@pytest.mark.parametrize("code", TEXT.values(), ids=TEXT)
async def test_the_result_of_a_script_has_the_limit_at_most(run_step: RunStep, code: str) -> None:
    # The quotes are part of the JSON.
    fits = await run_step(code, "shell", inputs={"n": LIMIT - 2})
    assert (fits.status, fits.error) == (StepStatus.SUCCEEDED, None)
    assert fits.result == "x" * (LIMIT - 2)
    beyond = await run_step(code, "shell", inputs={"n": LIMIT - 1})
    assert beyond.error is not None
    assert (beyond.status, beyond.error.code) == (StepStatus.LIMIT_EXCEEDED, "result_too_large")
    assert beyond.result is None


async def test_what_counts_of_a_script_is_its_output_as_json(run_step: RunStep) -> None:
    outcome = await run_step("head -c 200000 /dev/zero | tr '\\0' '\\1'", "shell")
    assert outcome.error is not None
    assert outcome.error.code == "result_too_large"


@pytest.mark.parametrize("padding", ["leading", "trailing"])
async def test_white_space_around_the_result_does_not_count_but_is_bounded(run_step: RunStep, padding: str) -> None:
    spaces = "head -c $INPUT_N /dev/zero | tr '\\0' ' '"
    code = f"({spaces}; echo 1) > $RESULT" if padding == "leading" else f"(echo 1; {spaces}) > $RESULT"
    assert (await run_step(code, "shell", inputs={"n": LIMIT})).result == 1
    outcome = await run_step(code, "shell", inputs={"n": 2 * LIMIT})
    assert outcome.error is not None
    assert outcome.error.code == "result_too_large"


@pytest.mark.every_runner
@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "return [len(inputs['text']), len(inputs['rows'])]"),
        ("javascript", "return [inputs.text.length, inputs.rows.length]"),
        ("shell", "jq -c '[(.text | length), (.rows | length)]' < $INPUTS > $RESULT"),
    ],
)
async def test_inputs_of_ten_megabytes(run_step: RunStep, language: Language, code: str) -> None:
    inputs: dict[str, Json] = {"text": "✓" * 1_000_000, "rows": [{"n": n} for n in range(500_000)]}
    assert len(json.dumps(inputs, ensure_ascii=False, separators=(",", ":")).encode()) > 9_000_000
    outcome = await run_step(code, language, inputs=inputs, memory=1_000_000_000)
    assert (outcome.result, outcome.error) == ([1_000_000, 500_000], None)


@pytest.mark.parametrize(
    ("inputs", "seen"),
    [
        ({"t": "x" * 65_536}, "65536"),
        ({"t": "x" * 65_537}, "unset"),
        ({"t": "✓" * 60_000}, "unset"),
        ({**{f"v{n}": "x" * 60_000 for n in range(60)}, "t": "x"}, "1"),
        ({**{f"v{n}": "x" * 65_536 for n in range(60)}, "t": "x"}, "unset"),
    ],
    ids=["largest", "larger", "not ASCII", "many", "too many"],
)
async def test_variables_hold_what_the_kernel_takes(run_step: RunStep, inputs: dict[str, Json], seen: str) -> None:
    code = "if [ -v INPUT_T ]; then echo ${#INPUT_T}; else echo unset; fi; jq -r '.t | length' < $INPUTS >&2"
    outcome = await run_step(code, "shell", inputs=inputs)
    assert (outcome.result, outcome.error) == (seen, None)
    assert outcome.stderr == f"{len(inputs['t'])}\n"

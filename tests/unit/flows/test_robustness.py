"""Whatever the bytes: a definition or problems, within bounded time and memory."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from flows.definition import Definition
from flows.errors import InvalidFlowError

Load = Callable[..., Definition]

VALID = b"""\
flow: f
inputs: {a: {type: string, default: x}, n: {type: integer, default: 1}}
triggers:
  - {id: t, schedule: {cron: "0 2 * * *", timezone: Europe/Berlin}}
  - {id: h, webhook: {path: a/b, secret: k}, if: event.body.a == 1, with: {a: "${{ event.body.a }}"}}
concurrency: {key: "${{ inputs.a }}"}
defaults: {limits: {memory: 64MB}}
steps:
  - {id: one, tool: workspace.search_tasks, with: {status: "${{ inputs.a }}"}, retry: {attempts: 2}}
  - id: two
    for_each: {in: "${{ steps.one.result }}", as: row}
    python: |
      return {"a": inputs["row"]}
    with: {row: "${{ row.map(x, x + 1) }}"}
    network: {allow: ["*.example.org"]}
    returns: {type: object}
  - {id: three, approval: {message: ok, form: {type: object}}, needs: [one]}
  - {id: four, wait: {event: e, match: event.a == steps.three.result.by}}
finally:
  - {id: five, shell: ls, if: run.error == null}
output: ["a ${{ steps.two.result }}", {b: "${{ size(steps.one.result) }}"}]
"""

RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def attempt(load_flow: Load, text: bytes | str) -> None:
    """Load; anything but a definition or well-formed problems fails the test."""
    try:
        load_flow(text)
    except InvalidFlowError as error:
        problems = error.problems
    else:
        return
    assert problems
    for problem in problems:
        assert 1 <= problem.line <= len(text) + 1
        assert problem.column >= 1
        assert problem.message
        assert problem.fix
        assert problem.code.isidentifier()


@RELAXED
@given(st.binary(max_size=400))
def test_any_bytes(load_flow: Load, data: bytes) -> None:
    attempt(load_flow, data)


@RELAXED
@given(st.text(max_size=400))
def test_any_text(load_flow: Load, text: str) -> None:
    attempt(load_flow, text)


@RELAXED
@given(st.text(alphabet="flow: steps[]{}&*a!|>-?%#'\"\\\n\t ,@`$x0", max_size=200))
def test_any_text_of_yaml_signs(load_flow: Load, text: str) -> None:
    attempt(load_flow, text)


_WORDS = (
    "flow description inputs triggers steps output concurrency on_failure finally defaults timeout expose id name needs if "
    "with for_each retry on_error cache python javascript shell image run args tool approval wait limits network tools "
    "returns files secrets in as allow file type default message form until event match schedule cron interval timezone "
    "webhook path respond queue manual key limit memory attempts $ref pattern properties"
)
_KEYS = st.sampled_from(_WORDS.split())
_TEXTS = _KEYS | st.sampled_from(
    [
        "${{ inputs.a }}",
        "${{",
        "$${{ x }}",
        "${{ steps.a.result }}",
        "1h",
        "64MB",
        "* * * * *",
        "a",
        "b",
        "item",
        "*",
        "x/y",
        "true",
    ]
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=30,
)


@RELAXED
@given(_VALUES)
def test_any_value(load_flow: Load, value: Any) -> None:
    attempt(load_flow, json.dumps(value))


@RELAXED
@given(st.dictionaries(_KEYS, _VALUES, max_size=6), st.lists(st.dictionaries(_KEYS, _VALUES, max_size=6), max_size=3))
def test_any_flow_of_the_right_outline(load_flow: Load, rest: dict[str, Any], steps: list[dict[str, Any]]) -> None:
    data = {**rest, "flow": "f", "steps": [{"id": f"s{position}", **step} for position, step in enumerate(steps)]}
    attempt(load_flow, json.dumps(data))


@RELAXED
@given(st.data())
def test_a_valid_flow_with_a_changed_value(load_flow: Load, data: st.DataObject) -> None:
    flow = YAML(typ="safe", pure=True).load(VALID)
    place: Any = flow
    while True:
        key = data.draw(st.sampled_from(sorted(place)) if isinstance(place, dict) else st.integers(0, len(place) - 1))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(_VALUES)
    attempt(load_flow, json.dumps(flow))


@RELAXED
@given(st.integers(0, len(VALID)), st.integers(0, 30), st.binary(max_size=6))
def test_a_valid_flow_with_changed_bytes(load_flow: Load, start: int, length: int, instead: bytes) -> None:
    attempt(load_flow, VALID[:start] + instead + VALID[start + length :])


BOMBS = {
    "aliases": "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 40)),
    "mappings of aliases": "a0: &a0 {x: 1}\n"
    + "".join(f"a{i}: &a{i} {{b: *a{i - 1}, c: *a{i - 1}}}\n" for i in range(1, 60)),
    "brackets": "x: " + "[" * 900_000,
    "braces": "{a: " * 200_000,
    "block": "".join(" " * depth + "a:\n" for depth in range(1300)),
    "dashes": "- " * 400_000,
    "questions": "? " * 400_000,
    "a huge scalar": "x: " + "y" * 990_000,
    "a huge key": "x" * 990_000 + ": 1",
    "many keys": "".join(f"k{number}: 1\n" for number in range(90_000)),
    "many items": "x: [" + "1," * 450_000 + "]",
    "a huge number": "x: " + "9" * 900_000,
    "a huge exponent": "x: 1e" + "9" * 30,
    "comments": "#\n" * 490_000,
    "anchors": "&a " * 300_000,
    "quotes": '"' * 900_000,
    "backslashes": '"' + "\\" * 900_000,
    "newlines": "\n" * 990_000,
    "too large": "x" * 5_000_000,
    "expressions": "flow: f\nsteps: [{id: a, shell: ls}]\noutput: '" + "${{ steps.a.result }}" * 9_000 + "'",
    "one expression": "flow: f\nsteps: [{id: a, shell: ls}]\noutput: '${{ " + "(" * 190_000 + " }}'",
    "unclosed expressions": "flow: f\nsteps: [{id: a, shell: ls}]\noutput: '" + "${{ " * 45_000 + "'",
    "nested python": "flow: f\nsteps: [{id: a, python: '" + "-" * 90_000 + "1'}]",
    "dotted python": "flow: f\nsteps: [{id: a, python: 'a" + ".b" * 45_000 + "'}]",
    "deep schema": "flow: f\ninputs: {a: " + "{items: " * 40 + "{}" + "}" * 40 + "}\nsteps: [{id: a, shell: ls}]",
    "slow pattern": "flow: f\ninputs: {a: {pattern: '^(a+)+$', default: '"
    + "a" * 5000
    + "!'}}\nsteps: [{id: a, shell: ls}]",
    "large pattern": "flow: f\ninputs: {a: {pattern: '((a{1000}){1000}){1000}'}}\nsteps: [{id: a, shell: ls}]",
    "chain of steps": "flow: f\nsteps:\n" + "".join(f"- {{id: s{number}, wait: 1s}}\n" for number in range(1000)),
    "all need all": "flow: f\nsteps:\n"
    + "".join(
        f"- {{id: s{number}, wait: 1s, needs: [{', '.join(f's{other}' for other in range(number))}]}}\n"
        for number in range(200)
    ),
    "unknown keys": "flow: f\nsteps: [{id: a, shell: ls}]\n"
    + "".join(f"stepz{number}: 1\n" for number in range(20_000)),
    "unknown steps": "flow: f\nsteps: [{id: a, shell: ls}]\noutput: [" + "'${{ steps.zz.result }}'," * 20_000 + "]",
}

CHILD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000, 1_500_000_000))
import steps, triggers
from flows.errors import InvalidFlowError
from flows.loader import load
from flows.registry import registry
class Tools:
    def names(self): return ()
    def get(self, name): return None
try:
    load(sys.stdin.buffer.read(), path="f", registry=registry(steps.KINDS, triggers.KINDS), catalogue=Tools(), read=open)
    print("valid")
except InvalidFlowError as error:
    print(len(error.problems), error.problems[0].code)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_defused(name: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", CHILD], input=BOMBS[name].encode(), capture_output=True, timeout=60, check=False
    )
    assert child.returncode == 0, child.stderr[-1000:]
    outcome, peak = child.stdout.decode().splitlines()
    assert outcome
    assert int(peak) < 400_000, "kilobytes"

"""Expressions: what they give, and how they fail."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.cel_functions import cel_library
from flows.expressions import ExpressionError, ExpressionSyntaxError, check_expression, condition, evaluate, resolve
from flows.references import FUNCTIONS, Lookup, Part, analyse
from flows.templates import TemplateError, split_template
from flows.values import Json

NAMES: dict[str, Json] = {
    "inputs": {
        "whole": 1,
        "part": 1.5,
        "text": "x",
        "flag": True,
        "nothing": None,
        "items": [1, 2, 3],
        "big": 10**30,
        "many": list(range(5001)),
        "long": "a" * 6000,
        "huge": "a" * 1_000_000,
        "map": {"z": 1, "a": None},
    },
    "steps": {"load": {"result": {"rows": [{"n": 1}, {"n": 2}]}, "status": "succeeded"}},
}


@pytest.mark.parametrize(
    ("expression", "fragment"),
    [
        ("inputs.whole + inputs.part", "double(x)"),
        ("inputs.text + inputs.whole", "string(x)"),
        ("inputs.nope", "has(inputs.nope)"),
        ("inputs.nope + 1", "has(x.name)"),
        ("inputs.whole.deeper", "a number and has no `deeper`"),
        ("inputs.items[7]", "has no `7`"),
        ("inputs.items[6 + 1]", "size(x)"),
        ("nothing_here", "no `nothing_here` here"),
        ("nothing_here + 1", "no `nothing_here` here"),
        ("1 / 0", "check for zero"),
        ("9223372036854775807 + 1", "64 bits"),
        ("b'x'", "base64.encode"),
        ("{1: 2}", "string(key)"),
        ("0.0 / 0.0", "not a finite number"),
        ("1.0 / 0.0", "not a finite number"),
        ("string([1])", "value of this type"),
        ("'a'.matches('(')", "`matches` failed"),
        ("lists.range(100001)", "more than 100,000 items"),
        ("lists.range(5001).map(i, i)", "more than 5,000 items"),
        ("lists.range(293).map(i, lists.range(2).map(j, j))", "more than 292 items"),
        ("inputs.many.map(i, i)", "a list has 5,001"),
        ("(inputs.items + inputs.items).map(i, inputs.many + [i])", "a list has"),
        ("inputs.long.split('').map(i, i)", "more than 5,000 items"),
        ("lists.range(5001).distinct()", "at most 5,000 items"),
        ("[1].join(',')", "joins texts only"),
        ("lists.range(5000).map(i, 'x').join('" + "y" * 2001 + "')", "10,000,000 characters"),
        ("lists.range(5000).map(i, inputs.huge)", "repeat too much"),
        ("inputs.huge" + " + inputs.huge" * 220, "put too much together"),
        ("inputs.long.replace('a', inputs.long)", "10,000,000 characters"),
        ("inputs.text.replace('', 'a' + 'b').nope", "types of its values"),
        ("1 +", "not CEL"),
        ("", "not CEL"),
    ],
)
def test_an_expression_that_fails_is_named_with_its_fix(expression: str, fragment: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(expression, NAMES)
    assert caught.value.code == "expression_error"
    assert fragment in str(caught.value)
    assert expression[:50] in caught.value.message
    assert caught.value.fix


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${{ inputs.whole }}", 1),
        ("${{ inputs.part }}", 1.5),
        ("${{ inputs.flag }}", True),
        ("${{ inputs.nothing }}", None),
        ("${{ inputs.items }}", [1, 2, 3]),
        ("${{ inputs.items[1] }}", 2),
        ("${{ inputs['text'] }}", "x"),
        ("${{ inputs.big }}", 10**30),
        ("${{inputs.whole}}", 1),
        (" ${{ inputs.whole }}", " 1"),
        ("a ${{ inputs.text }} b", "a x b"),
        ("${{ inputs.whole }}/${{ inputs.part }}", "1/1.5"),
        ("${{ inputs.flag }} ${{ inputs.nothing }}", "true null"),
        ("= ${{ inputs.items }} ${{ inputs.map }}", '= [1,2,3] {"z":1,"a":null}'),
        ("$${{ inputs.whole }}", "${{ inputs.whole }}"),
        ("$${{ ${{ inputs.whole }}", "${{ 1"),
        ("no expression", "no expression"),
        ("$ {{ }} }}", "$ {{ }} }}"),
        ({"a": ["${{ inputs.whole }}", {"b": "${{ inputs.text }}"}], "c": 5}, {"a": [1, {"b": "x"}], "c": 5}),
        ("${{ '}}' }}", "}}"),
        ("${{ {'a': {'b': 1}}}}", {"a": {"b": 1}}),
        ("${{ {'b': 1, 'a': 2} }}", {"a": 2, "b": 1}),
        ("${{ inputs.items.map(i, i * 2) }}", [2, 4, 6]),
        ("${{ steps.load.result.rows.filter(row, row.n > 1) }}", [{"n": 2}]),
        ("${{ has(inputs.nope) ? inputs.nope : 'none' }}", "none"),
        ("${{ double(inputs.whole) + inputs.part }}", 2.5),
        ("${{ timestamp('2030-01-31T09:00:00Z') }}", "2030-01-31T09:00:00Z"),
        ("${{ duration('90.5s') }}", "90.5s"),
        ("${{ optional.none() }}", None),
        ("${{ 1u }}", 1),
        ("${{ 'a-b'.split('-') }}", ["a", "b"]),
        ("${{ math.greatest(1, 3) }}", 3),
        ("${{ sets.contains([1, 2], [1]) }}", True),
        ("${{ base64.encode(b'hi') }}", "aGk="),
        ("${{ [3, 1].sort() }}", [1, 3]),
        ("${{ size(inputs.map) }} of ${{ type(1) == int }}", "2 of true"),
    ],
)
def test_expressions_are_resolved(value: Json, expected: Json) -> None:
    resolved = resolve(value, NAMES)
    assert resolved == expected
    assert type(resolved) is type(expected)


def test_a_selection_keeps_the_order_of_keys() -> None:
    assert list(resolve("${{ inputs.map }}", NAMES)) == ["z", "a"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("inputs.whole == 1", True),
        ("${{ inputs.whole > 1 }}", False),
        ("  ${{ inputs.flag }}  ", True),
        ("inputs.nothing == null", True),
        ("has(inputs.nope)", False),
        ("steps.load.status == 'succeeded' && !(size(inputs.items) > 5)", True),
        (True, True),
    ],
)
def test_a_condition_holds_or_not(text: Json, expected: Json) -> None:
    assert condition(text, NAMES) is expected


@pytest.mark.parametrize("text", ["inputs.whole", "inputs.text", "inputs.nothing", "inputs.items", "inputs.map", "''"])
def test_a_condition_that_is_neither_true_nor_false_says_so(text: str) -> None:
    with pytest.raises(ExpressionError, match="not true or false"):
        condition(text, NAMES)


@pytest.mark.parametrize(
    "text", ["", " ", "${{ true }} x", "x ${{ true }}", "${{ true }}${{ true }}", "${{ }}", "${{ true"]
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        condition(text, NAMES)


def test_an_expression_sees_only_the_names_it_is_given() -> None:
    evaluate("inputs.whole + 1", NAMES)
    with pytest.raises(ExpressionError, match="there is no `inputs`"):
        evaluate("inputs.whole + 1", {})


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_function_of_the_language_is_there(name: str) -> None:
    known = {
        "has": "has(inputs.text)",
        "all": "[1].all(x, true)",
        "exists": "[1].exists(x, true)",
        "exists_one": "[1].exists_one(x, true)",
        "map": "[1].map(x, x)",
        "filter": "[1].filter(x, true)",
    }
    try:
        evaluate(known.get(name, f"{name}()"), NAMES)
    except ExpressionError as error:
        message = error.message
    else:
        message = ""
    assert "there is no" not in message


@pytest.mark.parametrize(
    ("expression", "paths"),
    [
        ("steps.a.result[0].x", [("steps", "a", "result", 0, "x")]),
        ("steps['a'].result", [("steps", "a", "result")]),
        ("steps.a.result.map(x, x.y + inputs.z)", [("steps", "a", "result"), ("inputs", "z")]),
        ("[1].map(x, x) + [x]", [("x",)]),
        ("[1].map(x, [2].map(y, x + y))", []),
        ("size(inputs.a) > 0 && inputs.b.contains('inputs.c')", [("inputs", "a"), ("inputs", "b")]),
        ("{'k': inputs.a}.k", [("inputs", "a")]),
        ("inputs[run.id].x", [("inputs", Lookup(path=("run", "id")), "x"), ("run", "id")]),
        ("inputs[run.ids[0]]", [("inputs", Lookup(path=("run", "ids", 0))), ("run", "ids", 0)]),
        ("inputs[a[b]]", [("inputs",), ("a", Lookup(path=("b",))), ("b",)]),
        ("inputs[a + 1].x", [("inputs",), ("a",)]),
        ("inputs[a.size()]", [("inputs",), ("a",)]),
        ("inputs[1234567890]", [("inputs",)]),
        ("[1].map(x, inputs[x].y)", [("inputs",)]),
        ("inputs[true].x", [("inputs",)]),
        ("math.greatest(a, b)", [("a",), ("b",)]),
        ("true ? null : 1 in [2] // inputs.x", []),
        ('"\\"inputs.x" + r"inputs\\.y" + """inputs.z"""', []),
        ("inputs.map.filter", [("inputs", "map", "filter")]),
    ],
)
def test_references_are_found(expression: str, paths: list[tuple[Part, ...]]) -> None:
    assert [reference.path for reference in analyse(expression).references] == paths


ROWS: dict[str, Json] = {
    "steps": {"load": {"result": {"rows": [{"n": 10**30, "z": 1, "a": 2}, {"n": 1, "by.dot": "x"}]}}},
    "inputs": {"key": "by.dot", "flag": True, "names": ["n"]},
    "index": 1,
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("steps.load.result.rows[index]", {"n": 1, "by.dot": "x"}),
        ("steps.load.result.rows[index].n", 1),
        ("steps.load.result.rows[index][inputs.key]", "x"),
        ("steps.load.result.rows[index]['by.dot']", "x"),
        ('steps["load"].result.rows[0].n', 10**30),
        # What isn't read is not converted, where it would be too large a number for the library.
        ("steps.load.result.rows[index].n + 1", 2),
        ("steps.load.result.rows[1].n + 1", 2),
        ("steps.load.result.rows[index][inputs.names[0]] + 1", 2),
        ("has(steps.load.result.rows[index].m) ? 1 : 2", 2),
        ("steps.load.result.rows[0].z + steps.load.result.rows[1].n", 2),
    ],
)
def test_an_item_is_selected_whatever_else_is_in_the_list(expression: str, value: Json) -> None:
    assert evaluate(expression, ROWS) == value


def test_what_is_only_selected_is_the_very_value() -> None:
    assert evaluate("steps.load.result.rows[index]", ROWS) is ROWS["steps"]["load"]["result"]["rows"][1]
    assert list(evaluate('steps["load"].result.rows[0]', ROWS)) == ["n", "z", "a"]


@pytest.mark.parametrize(
    ("expression", "fragment"),
    [
        ("steps.load.result.rows[index].m", "has no `m`"),
        ("steps.load.result.rows[inputs.key]", "has no `by.dot`"),
        ("steps.load.result.rows[inputs.flag]", "types"),
        ("steps.load.result.rows[absent]", "no `absent`"),
        ("inputs.names[index]", "has no `1`"),
        ("inputs.names[index] + 'x'", "no item at that index"),
    ],
)
def test_what_indexes_nothing_is_an_error(expression: str, fragment: str) -> None:
    with pytest.raises(ExpressionError, match=fragment):
        evaluate(expression, ROWS)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "b", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=12,
)
SELECTIONS = st.lists(st.sampled_from([".a", ".b", "['c']", "[0]", "[1]", "[k]", "[n]", "[inputs.a]"]), max_size=4)


@settings(deadline=None)
@given(value=VALUES, selections=st.lists(SELECTIONS, min_size=1, max_size=3), key=st.sampled_from(["a", "b", "d"]))
def test_picking_out_what_is_read_changes_nothing(value: Json, selections: list[list[str]], key: str) -> None:
    names = {"inputs": value, "k": key, "n": 1}
    source = "[" + ", ".join("inputs" + "".join(parts) for parts in selections) + "]"
    try:
        wanted = cel_library().evaluate(source, names)
    except Exception:  # noqa: BLE001 - the library raises built-in errors of many kinds
        with pytest.raises(ExpressionError):
            evaluate(source, names)
    else:
        assert evaluate(source, names) == wanted


@pytest.mark.parametrize(
    "expression",
    [
        "x" * 4001,
        "[1].map(a, [1].map(b, [1].map(c, [1].map(d, 1))))",
        "['x']" + ".map(a, a + a + a + a + a + a + a + a + a + a)" * 4,
        "(" * 97 + "1" + ")" * 97,
        "[" * 500 + "]" * 500,
        "true ? 1 : " * 300 + "1",
        "size(" * 200 + "'a'" + ")" * 200,
        "'unclosed",
        "a ; b",
        "\x00",
    ],
)
def test_a_hostile_expression_is_refused_before_it_runs(expression: str) -> None:
    with pytest.raises(ExpressionSyntaxError) as caught:
        check_expression(expression)
    assert caught.value.fix
    assert 0 <= caught.value.offset <= len(expression)


@given(st.text(max_size=200))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        check_expression(text)
        evaluate(text, NAMES)
    except (ExpressionSyntaxError, ExpressionError):
        pass


_WORDS = (
    "inputs . steps load result [ ] ( ) { } , : ? + - * / % ! && || < == in 1 0 2.5 'a' \"b\" b'c' true null x map filter "
    "exists size has int uint double string matches timestamp duration replace join split substring slice sort "
    "math.bitShiftLeft lists.range first flatten 9223372036854775807 -1 optional.of"
)


@given(st.lists(st.sampled_from(_WORDS.split()), max_size=25))
def test_any_words_of_cel_are_evaluated_or_refused(words: list[str]) -> None:
    try:
        result = evaluate(" ".join(words), NAMES)
    except ExpressionError:
        return
    json.dumps(result, allow_nan=False)


@given(st.text(alphabet="${} 'a\"1+.\n", max_size=40))
def test_any_template_is_split_or_refused(text: str) -> None:
    try:
        pieces = split_template(text)
    except TemplateError as error:
        pieces, offset = [], error.offset
    else:
        offset = 0
    assert 0 <= offset <= len(text)
    assert "${{" in text or "".join(piece.text for piece in pieces) == text


def test_importing_the_library_leaves_out_its_command_line() -> None:
    code = "import sys; from flows.expressions import evaluate; evaluate('1 + 1', {}); import json; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60).stdout
    )
    assert "cel" in modules
    assert not {"typer", "rich", "prompt_toolkit", "pygments", "cel.cli"} & set(modules)

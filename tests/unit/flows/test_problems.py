"""What is wrong with a flow, where, and what to write instead: at least one case for each code."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from flows.errors import Problem

Problems = Callable[..., tuple[Problem, ...]]

DOCUMENTATION = Path(__file__).parents[3] / "docs" / "flows.md"


class Case(NamedTuple):
    """A flow, and the one problem that it has."""

    text: str
    line: int
    column: int
    code: str
    fix: str


def flow(body: str) -> str:
    """A flow whose first line is the name, so that ``body`` begins in line 2."""
    return f"flow: f\n{body}"


def one(step: str, before: str = "") -> str:
    """A flow of one step, whose ``id`` is in line 3 and whose other lines follow."""
    lines = "".join(f"    {line}\n" for line in step.split("\n"))
    return f"flow: f\nsteps:\n  - id: a\n{lines}{before}"


SHELL = "steps: [{id: a, shell: ls}]\n"

TEXT = [
    Case("", 1, 1, "empty", "begin with"),
    Case("# nothing\n", 1, 1, "empty", "begin with"),
    Case("flow: f\nsteps: [\n", 3, 1, "yaml_syntax", "quotes"),
    Case("flow: f\nsteps:\n\t- id: a\n", 3, 1, "yaml_syntax", "spaces, not tabs"),
    Case("flow: f\ndescription: a: b\n" + SHELL, 2, 15, "yaml_syntax", "in quotes"),
    Case(
        one("tool: http.request\nwith: {url: ${{ x }}}"), 5, 18, "yaml_syntax", 'put quotes around an expression: "${{'
    ),
    Case('flow: "\\U99999999"\n', 1, 1, "yaml_syntax", "escapes"),
    Case("flow: f\nflow: g\n" + SHELL, 2, 1, "duplicate_key", "remove one"),
    Case("flow: f\n---\nflow: g\n", 2, 1, "several_documents", "one flow per file"),
    Case("%YAML 1.1\n---\nflow: f\n" + SHELL, 2, 1, "yaml_version", "remove the %YAML line"),
    Case("flow: !!str f\n" + SHELL, 1, 7, "tag", "remove it"),
    Case("flow: f\n<<: {description: x}\n" + SHELL, 2, 1, "merge_key", "write the keys out"),
    Case("flow: f\n1: x\n" + SHELL, 2, 1, "invalid_key", 'in quotes: "1"'),
    Case("flow: f\n? [a]\n: x\n" + SHELL, 2, 3, "invalid_key", "a plain word"),
    Case("flow: f\n" + "k" * 201 + ": x\n" + SHELL, 2, 1, "invalid_key", "shorten"),
    Case("flow: f\noutput: .nan\n" + SHELL, 2, 9, "invalid_number", "in quotes"),
    Case("flow: f\noutput: 9223372036854775808\n" + SHELL, 2, 9, "invalid_number", "in quotes"),
    Case("flow: f\noutput: 1e999\n" + SHELL, 2, 9, "invalid_number", "in quotes"),
    Case("flow: f\noutput: *x\n" + SHELL, 2, 9, "unknown_alias", "define `&x`"),
    Case("flow: f\noutput: &x [*x]\n" + SHELL, 2, 13, "unknown_alias", "define `&x`"),
    Case("flow: f\x07\n" + SHELL, 1, 8, "control_character", "remove it"),
    Case('flow: f\noutput: "\\0"\n' + SHELL, 2, 9, "control_character", "remove the escape"),
    Case("flow: f\noutput: " + "[" * 51 + "]" * 51, 2, 58, "too_deep", "flatten"),
    Case("flow: f\noutput:\n" + "- 1\n" * 50_001, 49_998, 3, "too_many_nodes", "split the flow"),
    Case("flow: f\noutput: " + "x" * 200_001 + "\n" + SHELL, 2, 9, "scalar_too_long", "in a file"),
    Case("flow: f\ndescription: '" + "x y\n" * 250_001, 1, 1, "too_large", "split the flow"),
]

SHAPE = [
    Case("- a\n", 1, 1, "wrong_type", "begin with `flow:"),
    Case("flow: f\n", 1, 1, "missing_key", "add `steps: …`"),
    Case(flow("steps: []\n"), 2, 8, "no_steps", "add one"),
    Case(flow("steps: a\n"), 2, 8, "wrong_type", "write a list"),
    Case(flow("steps: [5]\n"), 2, 9, "wrong_type", "begin it with `- id: …`"),
    Case(flow("triggers: [x]\n" + SHELL), 2, 12, "wrong_type", "begin it with `- id: …`"),
    Case(flow("stepz: []\n" + SHELL), 2, 1, "unknown_key", "did you mean `steps`?"),
    Case(flow("finally_: []\n" + SHELL), 2, 1, "unknown_key", "did you mean `finally`?"),
    Case(flow("zzz: 1\n" + SHELL), 2, 1, "unknown_key", "known here: `flow`"),
    Case(one("shell: ls\nretri: {}"), 5, 5, "unknown_key", "did you mean `retry`?"),
    Case(one("shell: ls\nif_: true"), 5, 5, "unknown_key", "did you mean `if`?"),
    Case(one("shell: ls\nretry: {atempts: 2}"), 5, 13, "unknown_key", "did you mean `attempts`?"),
    Case(one("shell: ls\nnetwork: {alow: [], allow: []}"), 5, 15, "unknown_key", "did you mean `allow`?"),
    Case(one("shell: {file: a.sh, source: x}"), 4, 25, "unknown_key", "known here: `file`"),
    Case(one("pyton: x"), 4, 5, "unknown_key", "did you mean `python`?"),
    Case(one("name: x"), 3, 5, "missing_kind", "add one of `python`"),
    Case(one("shell: ls\npython: x"), 5, 5, "several_kinds", "remove all but one"),
    Case(flow("steps:\n  - shell: ls\n"), 3, 5, "missing_key", "add `id: …`"),
    Case(one("shell: ls\nfor_each: {as: x}"), 5, 5, "missing_key", "add `in: …`"),
    Case(one("shell: ls\nneeds: b"), 5, 12, "wrong_type", "write a list"),
    Case(one("shell: 5"), 4, 12, "wrong_type", "write text"),
    Case(one("shell:"), 4, 5, "wrong_type", "write text"),
    Case(one("shell: ls\nretry: {attempts: '3'}"), 5, 23, "wrong_type", "without quotes"),
    Case(one("shell: ls\nretry: {jitter: yes}"), 5, 21, "wrong_type", "true or false"),
    Case(one("shell: ls\ntools:"), 5, 5, "wrong_type", "give it a value, or remove the key"),
    Case(one("shell: ls\nretry: 3"), 5, 12, "wrong_type", "`key: value` lines"),
    Case(one("shell: ls\nif: 3"), 5, 9, "wrong_type", "write text"),
    Case(one("shell: ls\nnetwork: [x]"), 5, 14, "wrong_type", "`none` or `full`"),
    Case(one("shell: ls\nnetwork: nome"), 5, 14, "invalid_value", "did you mean `none`?"),
    Case(one("shell: ls\non_error: ignore"), 5, 15, "invalid_value", "`fail`, `continue`"),
    Case(one("shell: ls\nretry: {attempts: 0}"), 5, 23, "invalid_value", "at least 1"),
    Case(one("shell: ls\nretry: {'on': [errr]}"), 5, 20, "invalid_value", "did you mean `error`?"),
    Case(one("shell: ls\ntimeout: 30 sec"), 5, 14, "invalid_value", "such as 30s"),
    Case(one("shell: ls\ntimeout: 0"), 5, 14, "invalid_value", "timeout: 30s"),
    Case(one("shell: ls\nlimits: {timeout: 0s}"), 5, 23, "invalid_value", "timeout: 30s"),
    Case(one("shell: ls\nlimits: {memory: lots}"), 5, 22, "invalid_value", "such as 128MB"),
    Case(one("shell: ls\nlimits: {memory: 1MB}"), 5, 22, "invalid_value", "128MB"),
    Case(flow("defaults: {limits: {memori: 1MB}}\n" + SHELL), 2, 21, "unknown_key", "did you mean `memory`?"),
    Case(flow("defaults: {limits: {memory: x}}\n" + SHELL), 2, 29, "invalid_value", "such as 128MB"),
    Case(
        flow("steps:\n" + "".join(f"- {{id: s{i}, wait: 1s}}\n" for i in range(1001))),
        1003,
        3,
        "too_many_steps",
        "for_each",
    ),
]

NAMES = [
    Case("flow: Close tasks\n" + SHELL, 1, 7, "invalid_name", "`close_tasks`"),
    Case("flow: for\n" + SHELL, 1, 7, "reserved_name", "`for_`"),
    Case(flow("steps: [{id: 9a, shell: ls}]\n"), 2, 14, "invalid_name", "begin with a letter"),
    Case(flow("steps: [{id: in, shell: ls}]\n"), 2, 14, "reserved_name", "`in_`"),
    Case(flow("steps: [{id: a, shell: ls}, {id: a, shell: ls}]\n"), 2, 34, "duplicate_id", "its own"),
    Case(flow(SHELL + "finally: [{id: a, shell: ls}]\n"), 3, 16, "duplicate_id", "of its own"),
    Case(
        flow("triggers: [{id: m, manual: }, {id: m, manual: }]\n" + SHELL),
        2,
        36,
        "duplicate_id",
        "each trigger its own",
    ),
    Case(flow("triggers: [{id: M, manual: }]\n" + SHELL), 2, 17, "invalid_name", "`m`"),
    Case(flow("inputs: {a-b: {type: string}}\n" + SHELL), 2, 10, "invalid_name", "`a_b`"),
    Case(one("shell: ls\nwith: {a-b: 1}"), 5, 12, "invalid_name", "letters, digits and _"),
    Case(one("shell: ls\nwith: {a: 1, A: 2}"), 5, 18, "name_clash", "another name"),
    Case(one("shell: ls\nsecrets: [Key]"), 5, 15, "invalid_name", "`key`"),
    Case(one("shell: ls\nsecrets: [a, a]"), 5, 18, "duplicate_secret", "remove one"),
    Case(one("flow: Other"), 4, 11, "invalid_name", "`other`"),
    Case(one("flow: f"), 4, 11, "recursive_flow", "another flow"),
]

GRAPH = [
    Case(one("shell: ls\nneeds: [a]"), 5, 13, "self_need", "remove it"),
    Case(one("shell: ls\nneeds: [b]"), 5, 13, "unknown_step", "remove it"),
    Case(
        flow("steps: [{id: load, shell: ls}, {id: b, shell: ls, needs: [lode]}]\n"),
        2,
        59,
        "unknown_step",
        "did you mean `load`?",
    ),
    Case(
        flow("steps: [{id: a, shell: ls}, {id: b, shell: ls, needs: [a, a]}]\n"), 2, 59, "duplicate_need", "remove one"
    ),
    Case(
        flow("steps: [{id: a, shell: ls, needs: [b]}, {id: b, shell: ls}]\n"),
        2,
        35,
        "cycle",
        "remove `b` from the needs of `a`",
    ),
    Case(flow(SHELL + "finally: [{id: z, shell: ls, needs: [a]}]\n"), 3, 38, "unknown_step", "remove it"),
]

EXPRESSIONS = [
    Case(one("shell: echo ${{ inputs.x }}"), 4, 17, "expression_not_allowed", "through `with:`"),
    Case(one("python: |\n  x = 1\n  y = '${{ x }}'"), 6, 12, "expression_not_allowed", "through `with:`"),
    Case(one("image: a:1\nargs: ['${{ x }}']"), 5, 13, "expression_not_allowed", "through `with:`"),
    Case(flow("description: ${{ x }}\n" + SHELL), 2, 14, "expression_not_allowed", "write it out"),
    Case(one("tool: http.request\nwith: {'${{ x }}': 1}"), 5, 12, "expression_not_allowed", "write it out"),
    Case(one("shell: ls\nwith: {x: '${{ }}'}"), 5, 16, "invalid_expression", "write an expression"),
    Case(one("shell: ls\nwith: {x: '${{ run.id'}"), 5, 16, "invalid_expression", "close it with `}}`"),
    Case(one('shell: ls\nwith: {x: "a ${{ \'a }}"}'), 5, 22, "invalid_expression", "close the quote"),
    Case(one("shell: ls\nwith: {x: '${{ 1 2 }}'}"), 5, 22, "invalid_expression", "correct"),
    Case(one("shell: ls\nwith: {x: '${{ 1 # 2 }}'}"), 5, 22, "invalid_expression", "remove it"),
    Case(one("shell: ls\nwith: {x: '${{ 1" + " + 1" * 1000 + " }}'}"), 5, 19, "invalid_expression", "code step"),
    Case(
        one("shell: ls\nwith: {x: '${{ " + "(" * 200 + "1" + ")" * 200 + " }}'}"),
        5,
        116,
        "invalid_expression",
        "code step",
    ),
    Case(
        one("shell: ls\nwith: {x: '${{ [1].map(a, [1].map(b, [1].map(c, [1].map(d, d)))) }}'}"),
        5,
        19,
        "invalid_expression",
        "code step",
    ),
    Case(one("shell: ls\nif: '${{ true }} || ${{ true }}'"), 5, 10, "invalid_expression", "without ${{ }}"),
    Case(one("shell: ls\nif: ''"), 5, 10, "invalid_expression", "leave the key out"),
    Case(one("shell: ls\nif: runn.id == ''"), 5, 9, "unknown_name", "did you mean `run`?"),
    Case(one("shell: ls\nif: run.idd == ''"), 5, 9, "unknown_attribute", "did you mean `id`?"),
    Case(one("shell: ls\nif: run.error == null"), 5, 9, "unknown_attribute", "known"),
    Case(one("shell: ls\nif: item == 1"), 5, 9, "unknown_name", "`for_each`"),
    Case(one("shell: ls\nif: size(a) == 1\nfor_each: {in: [1]}"), 5, 14, "unknown_name", "`steps.a.result`"),
    Case(one("shell: ls\nwith: {x: '${{ sise(run.id) }}'}"), 5, 20, "unknown_function", "did you mean `size`?"),
    Case(one("shell: ls\nwith: {x: '${{ secrets.k }}'}"), 5, 20, "secret_not_allowed", "secrets: [name]"),
    Case(
        one("tool: http.request\nwith: {url: '${{ secrets.k + \"x\" }}'}"),
        5,
        22,
        "secret_not_alone",
        "${{ secrets.k }}",
    ),
    Case(one("tool: http.request\nwith: {url: '${{ secrets }}'}"), 5, 22, "invalid_expression", "after the dot"),
    Case(
        flow("inputs: {status: {type: string, default: x}}\nsteps: [{id: a, shell: ls, if: inputs.statu == ''}]\n"),
        3,
        32,
        "unknown_input",
        "did you mean `status`?",
    ),
    Case(
        flow("inputs: {status: {type: string, default: x}}\nsteps: [{id: a, shell: ls, if: status == ''}]\n"),
        3,
        32,
        "unknown_name",
        "`inputs.status`",
    ),
    Case(one("shell: ls\nif: inputs.x == ''"), 5, 9, "unknown_input", "declare it"),
    Case(
        flow("steps: [{id: load, shell: ls}, {id: b, shell: ls, if: steps.lod.result == 1}]\n"),
        2,
        55,
        "unknown_step",
        "did you mean `load`?",
    ),
    Case(
        flow("steps: [{id: a, shell: ls}, {id: b, shell: ls, if: steps.a.rows == 1}]\n"),
        2,
        52,
        "unknown_attribute",
        "`steps.a.result.rows`",
    ),
    Case(
        flow("steps: [{id: a, shell: ls}, {id: b, shell: ls, needs: [], if: steps.a.result == 1}]\n"),
        2,
        63,
        "step_not_ancestor",
        "`needs: [a]`",
    ),
    Case(one("shell: ls\nif: steps.a.result == 1"), 5, 9, "step_not_ancestor", "before it"),
    Case(
        flow("steps: [{id: a, shell: ls, if: steps.b.result == 1}, {id: b, shell: ls}]\n"),
        2,
        32,
        "step_not_ancestor",
        "turn the order",
    ),
    Case(
        flow(SHELL + "finally: [{id: z, shell: ls}]\noutput: ${{ steps.z.result }}\n"),
        4,
        13,
        "step_not_ancestor",
        "one of `steps:`",
    ),
    Case(
        flow("steps: [{id: a, shell: ls}, {id: b, shell: ls, if: 'steps[run.id].result == 1'}]\n"),
        2,
        53,
        "dynamic_reference",
        "`steps.<id>.result`",
    ),
    Case(flow(SHELL + "output: ${{ steps }}\n"), 3, 13, "dynamic_reference", "name the step"),
    Case(one("shell: ls\nfor_each: {in: inputs.rows}"), 5, 20, "expected_expression", "`${{ inputs.rows }}`"),
    Case(one("shell: ls\nfor_each: {in: [1], as: steps}"), 5, 29, "name_clash", "`steps_item`"),
    Case(one("shell: ls\nfor_each: {in: [1], as: for}"), 5, 29, "reserved_name", "`for_`"),
    Case(flow("concurrency: {key: inputs.a}\n" + SHELL), 2, 20, "expected_expression", "`${{ inputs.a }}`"),
    Case(flow("concurrency: {key: '${{ steps.a.result }}'}\n" + SHELL), 2, 25, "unknown_name", "known here"),
    Case(one("wait: {event: x, match: evnt.a == 1}"), 4, 29, "unknown_name", "did you mean `event`?"),
]

INPUTS = [
    Case(flow("inputs: {a: string}\n" + SHELL), 2, 13, "wrong_type", "`key: value` lines"),
    Case(flow("inputs: {a: {type: strng}}\n" + SHELL), 2, 20, "invalid_schema", "did you mean `string`?"),
    Case(flow("inputs: {a: {type: string, minLength: x}}\n" + SHELL), 2, 39, "invalid_schema", "correct it"),
    Case(flow("inputs: {a: {$ref: 'http://x'}}\n" + SHELL), 2, 14, "invalid_schema", "write it out"),
    Case(flow("inputs: {a: {type: string, pattern: '('}}\n" + SHELL), 2, 37, "invalid_schema", "correct it"),
    Case(flow("inputs: {a: {type: string, pattern: '(?=x)'}}\n" + SHELL), 2, 37, "invalid_schema", "look-around"),
    Case(flow("inputs: {a: {type: integer, default: x}}\n" + SHELL), 2, 38, "invalid_default", "of type integer"),
    Case(
        flow("inputs: {a: {type: array, items: {type: integer}, default: [1, x]}}\n" + SHELL),
        2,
        64,
        "invalid_default",
        "of type integer",
    ),
    Case(one("shell: ls\nreturns: {type: objct}"), 5, 21, "invalid_schema", "did you mean `object`?"),
    Case(one("approval: {message: ok?, form: {type: objct}}"), 4, 43, "invalid_schema", "did you mean `object`?"),
]

KINDS = [
    Case(one("tool: workspace.search_task"), 4, 11, "unknown_tool", "did you mean `workspace.search_tasks`?"),
    Case(one("tool: search_tasks"), 4, 11, "unknown_tool", "full name `workspace.search_tasks`"),
    Case(one("tool: workspace.search_tasks\nwith: {statu: x}"), 5, 12, "unknown_argument", "did you mean `status`?"),
    Case(one("tool: workspace.search_tasks\nwith: {limit: x}"), 5, 19, "wrong_argument", "of type integer"),
    Case(
        one("tool: workspace.update_task\nwith: {taskId: a, statusId: archivd}"),
        5,
        33,
        "wrong_argument",
        "did you mean `archived`?",
    ),
    Case(one("tool: workspace.update_task"), 4, 5, "missing_argument", "add `taskId: …`"),
    Case(one("tool: http.request\nwith: {urll: x}"), 5, 12, "unknown_argument", "did you mean `url`?"),
    Case(one("shell: ls\ntools: [workspace.update_tsk]"), 5, 13, "unknown_tool", "did you mean"),
    Case(one("shell: ls\ntools: [http.request, http.request]"), 5, 27, "duplicate_tool", "remove one"),
    Case(one("shell: ''"), 4, 12, "empty_code", "write some"),
    Case(one("shell: '" + "x" * 100_001 + "'"), 4, 12, "code_too_large", "split the step"),
    Case(one("python: |\n  x = 1\n  y = = 2"), 6, 11, "invalid_python", "correct the Python"),
    Case(one("python: 'x = (1'"), 4, 18, "invalid_python", "correct the Python"),
    Case(one("python: '" + "(" * 5000 + "'"), 4, 214, "invalid_python", "correct the Python"),
    Case(one("python: {file: ../x.py}"), 4, 20, "file_outside", "such as ./step.py"),
    Case(one("python: {file: /etc/passwd}"), 4, 20, "file_outside", "such as ./step.py"),
    Case(one("python: {file: x/../../y.py}"), 4, 20, "file_outside", "such as ./step.py"),
    Case(one("python: {file: missing.py}"), 4, 20, "unreadable_file", "check the path"),
    Case(one("python: {file: latin.py}"), 4, 20, "invalid_utf8", "as UTF-8"),
    Case(one("python: {file: huge.py}"), 4, 20, "code_too_large", "smaller"),
    Case(one("shell: ls\nnetwork: {allow: ['https://a.example/x']}"), 5, 23, "invalid_host", "`a.example`"),
    Case(one("shell: ls\nnetwork: {allow: ['*']}"), 5, 23, "invalid_host", "network: full"),
    Case(one("shell: ls\nnetwork: {allow: ['*.com']}"), 5, 23, "invalid_host", "*.example.org"),
    Case(one("shell: ls\nnetwork: {allow: [10.0.0.1]}"), 5, 23, "invalid_host", "host's name"),
    Case(one("shell: ls\nnetwork: {allow: [A.example]}"), 5, 23, "invalid_host", "`a.example`"),
    Case(one("shell: ls\nnetwork: {allow: ['a.example:0']}"), 5, 23, "invalid_host", "1 to 65535"),
    Case(one("shell: ls\nnetwork: {allow: [é.example]}"), 5, 23, "invalid_host", "xn--"),
    Case(one("shell: ls\nnetwork: {allow: ['a b']}"), 5, 23, "invalid_host", "api.example.com"),
    Case(one("shell: ls\nfiles: [table.csv]"), 5, 13, "invalid_file", "`STEP/NAME`"),
    Case(one("shell: ls\nfiles: [b/../x]"), 5, 13, "invalid_file", "`STEP/NAME`"),
    Case(one("shell: ls\nfiles: [b//x]"), 5, 13, "invalid_file", "`STEP/NAME`"),
    Case(
        "flow: f\nsteps:\n  - {id: artifacts, shell: ls}\n  - id: b\n    shell: ls\n    files: [artifacts/x]\n",
        *(6, 13, "name_clash", "another id"),
    ),
    Case(
        "flow: f\nsteps:\n  - {id: a, shell: ls}\n  - id: b\n    shell: ls\n    files: [a/x, a/y, a/x]\n",
        *(6, 23, "duplicate_file", "remove one"),
    ),
    Case(
        "flow: f\nsteps:\n  - {id: a, shell: ls}\n  - id: b\n    javascript: return 1\n    files: [a/x]\n",
        *(6, 5, "files_not_readable", "`python` or `shell`"),
    ),
    Case(one("image: 'A B'"), 4, 12, "invalid_image", "`name:tag`"),
    Case(one("image: a:1\nrun: ls\nargs: [x]"), 6, 5, "conflicting_keys", "remove one"),
    Case(one("image: a:1\nrun: ls\nentrypoint: [x]"), 6, 5, "conflicting_keys", "`args:`"),
    Case(one("image: a:1\nrun: ls\ntools: [files.read]"), 6, 5, "tools_not_for_images", "a step of code"),
    Case(one("image: a:1\nrun: ' '"), 5, 10, "empty_code", "remove `run`"),
    Case(one("wait: {}"), 4, 5, "missing_key", "one of the three"),
    Case(one("wait: tomorrow"), 4, 11, "invalid_value", "such as 30s"),
    Case(one("wait: {until: tomorrow}"), 4, 19, "invalid_time", "2030-01-31T09:00:00+01:00"),
    Case(one("wait: {until: 2030-01-31T09:00:00}"), 4, 19, "invalid_time", "+01:00"),
    Case(one("wait: {event: x, until: 2030-01-31T09:00:00Z}"), 4, 5, "conflicting_keys", "one of the three"),
    Case(one("wait: {until: 2030-01-31T09:00:00Z, match: 'true'}"), 4, 41, "conflicting_keys", "add `event:`"),
    Case(one("approval: {message: ''}"), 4, 25, "invalid_value", "say what"),
    Case(one("approval: {message: ok, on_timeout: reject}"), 4, 29, "conflicting_keys", "add `timeout:`"),
]


def trigger(body: str) -> str:
    """A flow with one trigger, whose ``id`` is in line 3 and whose other lines follow."""
    lines = "".join(f"    {line}\n" for line in body.split("\n"))
    return f"flow: f\ntriggers:\n  - id: t\n{lines}inputs: {{count: {{type: integer, default: 1}}}}\n{SHELL}"


TRIGGERS = [
    Case(trigger("name: x"), 3, 5, "missing_kind", "`schedule`"),
    Case(trigger("shedule: {}"), 4, 5, "unknown_key", "did you mean `schedule`?"),
    Case(trigger("schedule: {}"), 4, 5, "missing_key", "`interval: 15m`"),
    Case(trigger("schedule: {cron: '* * * * *', interval: 1h}"), 4, 5, "conflicting_keys", "`interval: 15m`"),
    Case(trigger("schedule: {interval: 10ms}"), 4, 26, "invalid_value", "1s"),
    Case(trigger("schedule: {cron: '* * * *'}"), 4, 22, "invalid_cron", "five fields"),
    Case(trigger("schedule: {cron: '61 * * * *'}"), 4, 22, "invalid_cron", "five fields"),
    Case(trigger("schedule: {cron: '0 0 30 2 *'}"), 4, 22, "invalid_cron", "a day that exists"),
    Case(trigger("schedule: {cron: 'H * * * *'}"), 4, 22, "invalid_cron", "five fields"),
    Case(trigger("schedule: {cron: '" + "1," * 200 + "1 * * * *'}"), 4, 22, "invalid_cron", "five fields"),
    Case(trigger("schedule: {interval: 1h, timezone: Europe/Berln}"), 4, 40, "unknown_timezone", "`Europe/Berlin`"),
    Case(trigger("schedule: {interval: 1h, timezone: ../../x}"), 4, 40, "unknown_timezone", "UTC"),
    Case(trigger("webhook: {path: /Orders, verify: none}"), 4, 21, "invalid_path", "`orders`"),
    Case(trigger("webhook: {path: orders}"), 4, 5, "missing_key", "add `secret:"),
    Case(trigger("webhook: {path: o, verify: none, secret: k}"), 4, 38, "conflicting_keys", "remove one"),
    Case(trigger("webhook: {path: o, secret: K}"), 4, 32, "invalid_name", "`k`"),
    Case(trigger("webhook: {path: o, secret: k, header: X}"), 4, 35, "conflicting_keys", "remove it"),
    Case(trigger("webhook: {path: o, secret: k, verify: hmac, header: 'X Y'}"), 4, 57, "invalid_value", "X-Signature"),
    Case(trigger("webhook: {path: o, secret: k, methods: []}"), 4, 44, "invalid_value", "at least one"),
    Case(trigger("event: {type: ''}"), 4, 19, "invalid_value", "com.example.*"),
    Case(trigger("file: {path: ''}"), 4, 18, "invalid_value", "a directory"),
    Case(trigger("file: {path: x, glob: ../*}"), 4, 27, "invalid_value", "*.csv"),
    Case(trigger("queue: {stream: s}"), 4, 5, "missing_key", "redis://"),
    Case(trigger("queue: {stream: s, url: 'redis://:pw@h/0'}"), 4, 29, "invalid_value", "as a secret"),
    Case(trigger("queue: {stream: s, url: 'http://h'}"), 4, 29, "invalid_value", "redis://"),
    Case(trigger("queue: {stream: '', secret: k}"), 4, 21, "invalid_value", "a name"),
    Case(trigger("manual:\nif: inputs.count == 1"), 5, 9, "unknown_name", "`event`"),
    Case(trigger("manual:\nwith: {cuont: 1}"), 5, 12, "unknown_input", "did you mean `count`?"),
    Case(trigger("manual:\nwith: {count: x}"), 5, 19, "wrong_input", "of type integer"),
    Case(
        flow("inputs: {n: {type: integer}}\ntriggers: [{id: t, schedule: {interval: 1h}}]\n" + SHELL),
        3,
        12,
        "missing_input",
        "add `with: {n: …}`",
    ),
    Case(
        flow(
            "triggers:\n- {id: t, webhook: {path: o, verify: none}}\n- {id: u, webhook: {path: o, verify: none}}\n"
            + SHELL
        ),
        4,
        20,
        "duplicate_trigger",
        "its own",
    ),
]
CASES = [*TEXT, *SHAPE, *NAMES, *GRAPH, *EXPRESSIONS, *INPUTS, *KINDS, *TRIGGERS]

FILES = {"latin.py": b"x = '\xe9'", "huge.py": b"x" * 1_000_001}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}-{case.line}-{case.column}")
def test_a_problem_has_its_place_and_fix(problems: Problems, case: Case) -> None:
    found = problems(case.text, FILES)
    assert [(each.line, each.column, each.code) for each in found] == [(case.line, case.column, case.code)], found
    assert case.fix in found[0].fix, found
    assert found[0].path == "flows/f.yaml"
    assert found[0].message
    assert "\n" not in str(found[0])


def test_invalid_utf8_has_its_place(problems: Problems) -> None:
    (found,) = problems(b"flow: f\ndescription: \xff\n")
    assert (found.line, found.column, found.code) == (2, 14, "invalid_utf8")


def test_every_documented_code_has_a_case_and_every_case_is_documented() -> None:
    section = DOCUMENTATION.read_text().partition("## Problems")[2]
    documented = set(re.findall(r"^\| `([a-z_0-9]+)` \|", section, re.MULTILINE))
    assert documented == {case.code for case in CASES}


def test_all_problems_come_at_once_in_the_order_of_the_text(problems: Problems) -> None:
    found = problems(
        "flow: F\n"
        "inputs: {n: {type: integr}}\n"
        "triggers: [{id: t, schedule: {cron: x}}]\n"
        "steps:\n"
        "  - {id: a, tool: no.such, retri: 1}\n"
        "  - {id: a, shell: '${{ x }}'}\n"
        "  - {id: c, python: 'return (', needs: [d], if: steps.z.result == 1}\n"
        "output: ${{ inputs.m }}\n"
    )
    assert [(each.line, each.code) for each in found] == [
        (1, "invalid_name"),
        (2, "invalid_schema"),
        (3, "missing_input"),
        (3, "invalid_cron"),
        (5, "unknown_tool"),
        (5, "unknown_key"),
        (6, "duplicate_id"),
        (6, "expression_not_allowed"),
        (7, "invalid_python"),
        (7, "unknown_step"),
        (7, "unknown_step"),
        (8, "unknown_input"),
    ]


def test_a_cycle_is_named_in_full(problems: Problems) -> None:
    (found,) = problems(
        flow(
            "steps:\n- {id: a, shell: ls, needs: [c]}\n- {id: b, shell: ls, needs: [a]}\n- {id: c, shell: ls, needs: [b]}\n"
        )
    )
    assert found.code == "cycle"
    assert "a needs c needs b needs a" in found.message


def test_a_problem_in_a_file_has_its_place_in_the_file(problems: Problems) -> None:
    (found,) = problems(one("python: {file: ./code/a.py}"), {"code/a.py": b"x = 1\ny = (\n"})
    assert (found.path, found.line, found.code) == ("flows/code/a.py", 2, "invalid_python")


def test_an_expression_in_a_file_is_refused(problems: Problems) -> None:
    (found,) = problems(one("shell: {file: a.sh}"), {"a.sh": b"ls\necho ${{ inputs.x }}\n"})
    assert (found.path, found.line, found.column, found.code) == ("flows/a.sh", 2, 6, "expression_not_allowed")


def test_at_most_a_hundred_problems_of_the_text_are_reported(problems: Problems) -> None:
    assert len(problems("flow: f\n" + "a: 1\n" * 5000)) == 100

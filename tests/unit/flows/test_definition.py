"""What loading a valid flow gives."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from flows.contracts import Registry
from flows.definition import Definition
from flows.schema import json_schema
from steps.code import JavaScriptStep, PythonStep
from steps.wait import Wait, WaitStep

Load = Callable[..., Definition]
ROOT = Path(__file__).parents[3]

EVERYTHING = """\
flow: everything
description: |
  Uses each key once
inputs:
  rows: {type: array, items: {type: object}, default: []}
  n: {type: integer, default: 1}
triggers:
  - id: nightly
    schedule: {cron: "0 2 * * 1-5", timezone: Europe/Berlin, jitter: 1m, catch_up: all, window: 2d}
  - id: often
    schedule: {interval: 15m}
  - id: hook
    webhook: {path: a/b-c, secret: hook_key, verify: hmac, header: X-Sign, tolerance: 1m, methods: [POST, PUT],
              respond: {status: 201, body: {n: "${{ output.n }}", id: "${{ run.id }}", s: "${{ steps.load.result }}"}}}
    if: event.body.kind == "close"
    with: {n: "${{ event.body.n }}"}
  - {id: broken, event: {type: stepbox.run.*, source: "*"}}
  - {id: drop, file: {path: in, glob: "**/*.csv", changes: [added], settle: 2s}}
  - {id: stream, queue: {stream: orders, secret: redis_url}}
  - id: click
    manual:
concurrency: {limit: 2, key: "${{ inputs.n }}-${{ event.id }}", policy: skip}
defaults: {retry: {attempts: 2}, timeout: 1m, limits: {memory: 64MB, pids: 8}}
timeout: 1h
expose: true
steps:
  - id: load
    name: Load it
    tool: http.request
    with: {url: "https://x.example/${{ inputs.n }}", token: "${{ secrets.api }}", raw: "$${{ x }}"}
  - id: each
    for_each: {in: "${{ load_rows ? [] : [] }}", as: row, concurrency: 3, on_item_error: continue}
    python: {file: code/each.py}
    with: {row: "${{ row }}", index: "${{ index }}"}
    limits: {memory: 96MB}
    retry: {attempts: 5}
    network: {allow: [api.example.com, "*.example.org:8443"]}
    tools: [workspace.update_task]
    returns: {type: object}
    secrets: [api]
    cache: {ttl: 1d}
  - id: side
    needs: []
    if: ${{ inputs.n > 0 }}
    javascript: return 1;
    on_error: continue
  - id: join
    needs: [each, side]
    shell: ls
    files: [each/out.csv, side/*]
    timeout: 5s
  - id: box
    image: ghcr.io/a/b:1.2
    run: echo hi
    pull: always
    runtime: runsc
  - id: sub
    flow: other
    with: {all: "${{ inputs }}"}
  - id: ask
    approval: {message: ok?, form: {type: object}, approvers: [ops], timeout: 1h, on_timeout: reject}
  - id: paid
    wait: {event: a.*, match: event.data.n == inputs.n && steps.load.result.ok, timeout: 1d, on_timeout: continue}
  - id: nap
    wait: 500ms
  - id: until
    wait: {until: "${{ steps.load.result.when }}"}
on_failure:
  - {id: tell, tool: http.request, with: {text: "${{ run.error.message }} ${{ steps.sub.status }}"}}
finally:
  - {id: clean, shell: ls, with: {e: "${{ run.error }}", t: "${{ steps.tell.status }}"}}
  - {id: done, shell: ls, if: steps.clean.status == "succeeded"}
output: {n: "${{ steps.each.result }}"}
""".replace("load_rows", "inputs.n > 1")

FILES = {"code/each.py": b"return inputs['row']\n"}


@pytest.fixture(scope="module")
def everything(load_flow: Load) -> Definition:
    return load_flow(EVERYTHING, FILES)


def test_needs_default_to_the_step_before(everything: Definition) -> None:
    assert everything.needs["load"] == ()
    assert everything.needs["each"] == ("load",)
    assert everything.needs["side"] == ()
    assert everything.needs["join"] == ("each", "side")
    assert everything.needs["tell"] == ()
    assert everything.needs["done"] == ("clean",)


def test_the_order_respects_needs_and_otherwise_the_text(load_flow: Load) -> None:
    definition = load_flow(
        "flow: f\nsteps:\n- {id: c, shell: ls, needs: [b]}\n- {id: a, shell: ls, needs: []}\n- {id: b, shell: ls, needs: [a]}\n"
    )
    assert definition.order == ("a", "b", "c")


def test_kinds_are_known_by_id(everything: Definition) -> None:
    assert everything.kinds["each"] == "python"
    assert everything.kinds["tell"] == "tool"
    assert set(everything.kinds) == set(everything.steps)
    assert everything.trigger_kinds["hook"] == "webhook"


def test_values_are_parsed(everything: Definition) -> None:
    paid = everything.steps["paid"]
    assert isinstance(paid, WaitStep)
    assert isinstance(paid.wait, Wait)
    assert paid.wait.timeout == 86_400
    nap = everything.steps["nap"]
    assert isinstance(nap, WaitStep)
    assert nap.wait == 0.5


def test_defaults_apply_where_a_step_says_nothing(everything: Definition) -> None:
    each, side = everything.steps["each"], everything.steps["side"]
    assert isinstance(each, PythonStep)
    assert isinstance(side, JavaScriptStep)
    assert (each.limits.memory, each.limits.pids) == (96_000_000, 8)
    assert (side.limits.memory, side.limits.pids) == (64_000_000, 8)
    assert each.retry is not None
    assert each.retry.attempts == 5
    assert side.retry is not None
    assert side.retry.attempts == 2
    assert (everything.steps["join"].timeout, side.timeout) == (5, 60)
    assert everything.steps["ask"].timeout is None
    assert everything.steps["nap"].retry is None
    assert everything.flow.steps[1] is each


def test_code_in_a_file_is_read(everything: Definition) -> None:
    each = everything.steps["each"]
    assert isinstance(each, PythonStep)
    assert each.source == "return inputs['row']\n"
    assert everything.files == {"code/each.py": "return inputs['row']\n"}


def test_the_digest_covers_text_and_files(load_flow: Load, everything: Definition) -> None:
    assert re.fullmatch("[0-9a-f]{64}", everything.digest)
    assert load_flow(EVERYTHING, FILES).digest == everything.digest
    assert load_flow(EVERYTHING.encode(), FILES).digest == everything.digest
    assert load_flow(EVERYTHING + "# x\n", FILES).digest != everything.digest
    assert load_flow(EVERYTHING, {"code/each.py": b"return 1\n"}).digest != everything.digest


def test_a_stored_definition_loads_again_from_its_text_and_files(load_flow: Load, everything: Definition) -> None:
    again = load_flow(everything.text, {path: text.encode() for path, text in everything.files.items()})
    assert again == everything


def test_aliases_stand_for_their_values(load_flow: Load) -> None:
    definition = load_flow(
        "flow: f\nsteps:\n- {id: a, shell: ls, retry: &r {attempts: 7}}\n- {id: b, shell: ls, retry: *r}\n"
    )
    assert definition.steps["b"].retry == definition.steps["a"].retry


def test_the_schema_accepts_what_the_loader_accepts(registry: Registry) -> None:
    schema = json_schema(registry)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    reader = YAML(typ="safe", pure=True)
    texts = [EVERYTHING, *(path.read_text() for path in (ROOT / "flows" / "library").glob("*/*.yaml"))]
    for text in texts:
        errors = [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(reader.load(text))]
        assert errors == []


@pytest.mark.parametrize(
    "text",
    [
        "{steps: []}",
        "{flow: f, steps: []}",
        "{flow: F, steps: [{id: a, shell: ls}]}",
        "{flow: f, steps: [{id: a}]}",
        "{flow: f, steps: [{id: a, shell: ls, python: x}]}",
        "{flow: f, steps: [{id: a, shell: ls, retri: 1}]}",
        "{flow: f, steps: [{id: a, shell: ls, timeout: soon}]}",
        "{flow: f, steps: [{id: a, shell: ls, with_: {}}]}",
        "{flow: f, steps: [{id: a, shell: ls}], triggers: [{id: t}]}",
    ],
)
def test_the_schema_refuses_what_is_plainly_wrong(registry: Registry, text: str) -> None:
    data = YAML(typ="safe", pure=True).load(text)
    assert not Draft202012Validator(json_schema(registry)).is_valid(data)


def test_the_schema_describes_the_keys(registry: Registry) -> None:
    schema = json_schema(registry)
    for name, definition in schema["$defs"].items():
        for key, value in definition["properties"].items():
            assert value.get("description"), f"{name}.{key}"
    for key, value in schema["properties"].items():
        assert value.get("description"), key


def _fragments() -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "flows.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("fragment", _fragments(), ids=lambda fragment: str(fragment)[:30].strip())
def test_every_example_of_the_reference_is_valid(load_flow: Load, fragment: str) -> None:
    steps = "steps:\n- {id: load, tool: workspace.search_tasks}\n"
    inputs = "inputs: {order: {default: 1}, customer: {default: x}, status: {default: x}}\n"
    if fragment.startswith("flow:"):
        text = fragment
    elif fragment.startswith("- id: hook"):
        text = f"flow: f\n{inputs}triggers:\n{fragment}{steps}"
    elif fragment.startswith("- id:"):
        total = "" if "id: total\n" in fragment else "- {id: total, shell: ls}\n"
        text = f"flow: f\n{inputs}{steps}{total}{fragment}"
    elif fragment.startswith("steps:"):
        text = f"flow: f\n{fragment}"
    else:
        text = f"flow: f\n{'' if fragment.startswith('inputs') else inputs}{fragment}{steps}"
    load_flow(text.replace("workspace.update_doc", "workspace.update_task"), {"chart.py": b"return 1"})

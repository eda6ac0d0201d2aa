"""docs/tools.md says what the tools' schemas say: the tables are equal, and the examples match the schemas."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from flows.contracts import ToolSpec
from steps.tools.catalogue import BUILT_IN

PAGE = (Path(__file__).parents[4] / "docs" / "tools.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### `([a-z_.]+)`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))


def kind(schema: dict[str, Any]) -> str:
    """A type as the page writes it."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(kind(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {kind(schema['items'])}"
    types = schema.get("type", "any")
    return " or ".join(types) if isinstance(types, list) else types


def table(spec: ToolSpec) -> str:
    """The table of a tool's arguments."""
    rows = []
    for name, schema in spec.arguments["properties"].items():
        needed = "required" if name in spec.arguments["required"] else ""
        default = json.dumps(schema["default"]) if "default" in schema else ""
        rows.append(f"| `{name}` | {kind(schema)} | {needed or default} | {schema['description']} |")
    return "\n".join(["| argument | type | default | |", "|---|---|---|---|", *rows])


def test_every_tool_has_its_section_and_no_other() -> None:
    assert sorted(SECTIONS) == sorted(BUILT_IN)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_section_says_what_the_schema_says(name: str) -> None:
    spec, section = BUILT_IN[name].spec, SECTIONS[name]
    assert section.lstrip().startswith(spec.description)
    effect = "Writes" if spec.effect == "write" else "Reads"
    assert f"{effect}{', idempotent' if spec.idempotent else ''}." in section
    assert table(spec) in section
    (step,) = YAML(typ="safe").load(re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)[0])
    assert step["tool"] == name
    Draft202012Validator(spec.arguments).validate(step.get("with", {}))
    result = json.loads(re.findall(r"```json\n(.*?)```", section, re.DOTALL)[0])
    Draft202012Validator(spec.result).validate(result)

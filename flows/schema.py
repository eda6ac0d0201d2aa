"""The JSON Schema of flows, by which editors complete and check while one types.

It says what can be said without the flow as a whole: names, expressions and references are the loader's to check.
"""

import ast
import inspect
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from flows.contracts import Registry
from flows.model import Flow, StepConfig, TriggerConfig
from flows.names import MAX_NAME, NAME
from flows.values import Json

_NAME_SCHEMA = {"type": "string", "pattern": f"^{NAME.pattern}$", "maxLength": MAX_NAME}


def json_schema(registry: Registry) -> dict[str, Json]:
    """The schema (draft 2020-12) of a flow whose steps and triggers are of the kinds in the registry."""
    definitions: dict[str, Json] = {}
    steps = _kinds(registry.steps, definitions, "step")
    triggers = _kinds(registry.triggers, definitions, "trigger")
    flow = _model(Flow, definitions)
    properties = flow["properties"]
    for key in ("steps", "on_failure", "finally"):
        properties[key]["items"] = {"oneOf": steps}
    properties["steps"]["minItems"] = 1
    properties["triggers"]["items"] = {"oneOf": triggers}
    properties["flow"] |= _NAME_SCHEMA
    limits = next((kind.limits for kind in registry.steps.values() if kind.limits is not None), None)
    if limits is not None:
        definitions["Defaults"]["properties"]["limits"]["$ref"] = f"#/$defs/{limits.__name__}"
    for base in (StepConfig, TriggerConfig):
        definitions.pop(base.__name__, None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Stepbox flow",
        **{key: value for key, value in flow.items() if key != "title"},
        "$defs": dict(sorted(definitions.items())),
    }


def _kinds(table: Mapping[str, Any], definitions: dict[str, Json], what: str) -> list[Json]:
    references: list[Json] = []
    for key, kind in table.items():
        schema = _model(kind.config, definitions)
        schema["title"] = f"{key} {what}"
        schema["properties"]["id"] |= _NAME_SCHEMA
        required = schema.setdefault("required", [])
        if key not in required:
            required.append(key)
        definitions[f"{what}_{key}"] = schema
        references.append({"$ref": f"#/$defs/{what}_{key}"})
    return references


def _model(model: type[BaseModel], definitions: dict[str, Json]) -> dict[str, Any]:
    """The schema of one model, with what it is made of added to ``definitions``."""
    schema: dict[str, Any] = model.model_json_schema(by_alias=True)
    for name, definition in schema.pop("$defs", {}).items():
        definitions.setdefault(name, definition)
    for part in _models(model):
        target = schema if part is model else definitions.get(part.__name__)
        if isinstance(target, dict):
            _describe(part, target)
    return schema


def _models(model: type[BaseModel]) -> Iterable[type[BaseModel]]:
    """The model and all that its fields are made of, each once."""
    found: dict[type[BaseModel], None] = {}
    pending: list[Any] = [model]
    while pending:
        annotation = pending.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            if annotation not in found:
                found[annotation] = None
                pending += (info.annotation for info in annotation.model_fields.values())
        else:
            pending += getattr(annotation, "__args__", ())
    return found


def _describe(model: type[BaseModel], schema: dict[str, Any]) -> None:
    """Give the properties their attributes' docstrings, those of the bases included."""
    descriptions: dict[str, str] = {}
    for base in reversed(model.__mro__):
        descriptions |= _docstrings(base)
    for name, info in model.model_fields.items():
        target = schema.get("properties", {}).get(info.alias or name)
        if target is not None and name in descriptions:
            target["description"] = descriptions[name]
        if target is not None:
            target.pop("title", None)


def _docstrings(model: type) -> dict[str, str]:
    """The strings below the attributes of a class, by attribute. Read here, since only the schema needs them."""
    module = sys.modules.get(model.__module__)
    try:
        tree = (
            ast.parse(inspect.getsource(module))
            if module is not None and model is not BaseModel
            else ast.Module([], [])
        )
    except (OSError, TypeError, SyntaxError):
        return {}
    found: dict[str, str] = {}
    for node in tree.body:
        if not isinstance(node, ast.ClassDef) or node.name != model.__name__:
            continue
        for attribute, text in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(attribute, ast.AnnAssign)
                and isinstance(attribute.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                found[attribute.target.id] = inspect.cleandoc(text.value.value).replace("``", "`")
    return found

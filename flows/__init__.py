"""The language: what a flow, a step and a trigger are.

The names below are imported when they are first used, so that ``import flows`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.contracts import Catalogue, Registry, StepKind, ToolSpec, TriggerKind
    from flows.definition import Definition
    from flows.errors import InvalidFlowError, Problem, StepboxError
    from flows.expressions import ExpressionError, condition, resolve
    from flows.inputs import InvalidInputError, parse_input, validate_inputs
    from flows.loader import load
    from flows.model import Flow, StepConfig, TriggerConfig
    from flows.schema import json_schema

__all__ = [
    "Catalogue",
    "Definition",
    "ExpressionError",
    "Flow",
    "InvalidFlowError",
    "InvalidInputError",
    "Problem",
    "Registry",
    "StepConfig",
    "StepKind",
    "StepboxError",
    "ToolSpec",
    "TriggerConfig",
    "TriggerKind",
    "condition",
    "json_schema",
    "load",
    "parse_input",
    "resolve",
    "validate_inputs",
]

_HOMES = {
    "contracts": ("Catalogue", "Registry", "StepKind", "ToolSpec", "TriggerKind"),
    "definition": ("Definition",),
    "errors": ("InvalidFlowError", "Problem", "StepboxError"),
    "expressions": ("ExpressionError", "condition", "resolve"),
    "inputs": ("InvalidInputError", "parse_input", "validate_inputs"),
    "loader": ("load",),
    "model": ("Flow", "StepConfig", "TriggerConfig"),
    "schema": ("json_schema",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"flows.{module}"), name)
    raise AttributeError(f"module 'flows' has no attribute {name!r}")

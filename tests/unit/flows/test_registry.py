"""Kinds from plug-ins."""

from importlib.metadata import EntryPoint

import pytest

import steps
import triggers
from flows.contracts import StepKind
from flows.model import StepConfig
from flows.registry import STEP_GROUP, BrokenPluginError, registry


class Greet(StepConfig):
    greet: str


KIND = StepKind(key="greet", config=Greet)
WRONG = StepKind(key="shell", config=Greet)
THING = object()


def _entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group=STEP_GROUP)


def test_a_plugin_adds_a_kind() -> None:
    found = registry(steps.KINDS, triggers.KINDS, plugins={STEP_GROUP: [_entry("greet", f"{__name__}:KIND")]})
    assert found.steps["greet"] is KIND
    assert found.steps["shell"].key == "shell"


@pytest.mark.parametrize(
    ("name", "value", "fragment"),
    [
        ("greet", "no_such_module:KIND", "no_such_module"),
        ("greet", f"{__name__}:NO_SUCH", "can't be loaded"),
        ("greet", f"{__name__}:THING", "not a StepKind"),
        ("other", f"{__name__}:KIND", "not a StepKind of that key"),
        ("shell", f"{__name__}:WRONG", "`shell` is taken"),
    ],
)
def test_a_broken_plugin_is_named(name: str, value: str, fragment: str) -> None:
    with pytest.raises(BrokenPluginError, match=fragment):
        registry(steps.KINDS, triggers.KINDS, plugins={STEP_GROUP: [_entry(name, value)]})

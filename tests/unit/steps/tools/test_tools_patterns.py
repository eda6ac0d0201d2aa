"""No pattern takes a text with a newline after it: ``$`` is the end of the text, wherever patterns are checked."""

import re
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import StringConstraints, TypeAdapter, ValidationError

from flows.contracts import ToolSpec
from steps.tools.arguments import problems
from steps.tools.catalogue import ToolCatalogue

CATALOGUE = ToolCatalogue([])


def patterns() -> Iterator[Any]:
    """Each argument of a tool that has a pattern."""
    for name in CATALOGUE.names():
        spec = CATALOGUE.get(name)
        assert spec is not None
        for argument, schema in spec.arguments["properties"].items():
            if "pattern" in schema:
                yield pytest.param(spec, argument, schema["pattern"], id=f"{name}-{argument}")


def refused(spec: ToolSpec, argument: str, value: str) -> bool:
    return any(problem.startswith(f"{argument} must be") for problem in problems(spec, {argument: value}))


@pytest.mark.parametrize(("spec", "argument", "pattern"), list(patterns()))
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_no_argument_of_a_tool_takes_a_newline_at_its_end(
    spec: ToolSpec, argument: str, pattern: str, data: st.DataObject
) -> None:
    fits = data.draw(st.from_regex(pattern, fullmatch=True).filter(lambda text: not text.endswith("\n")))
    assert not refused(spec, argument, fits)
    assert refused(spec, argument, f"{fits}\n")


def test_there_are_patterns_to_check() -> None:
    assert len(list(patterns())) >= 10


def test_a_pattern_that_the_language_does_not_have_is_left_to_the_tool() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(?=x)x$"}}}
    assert problems(ToolSpec(name="their.tool", description="", arguments=schema), {"a": "y"}) == []


def test_models_take_no_newline_at_the_end_either() -> None:
    """What settings and requests check theirs with."""
    adapter = TypeAdapter(Annotated[str, StringConstraints(pattern="^[a-z]+$")])
    assert re.search("^[a-z]+$", "a\n")
    with pytest.raises(ValidationError):
        adapter.validate_python("a\n")

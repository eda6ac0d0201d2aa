"""The language with its built-in kinds and a small catalogue of tools."""

from collections.abc import Callable, Iterable, Mapping

import pytest

import steps
import triggers
from flows.contracts import Registry, ToolSpec
from flows.definition import Definition
from flows.errors import InvalidFlowError, Problem
from flows.loader import load
from flows.registry import registry as build_registry

Load = Callable[..., Definition]
Problems = Callable[..., tuple[Problem, ...]]

_SEARCH = {
    "type": "object",
    "properties": {
        "status": {"type": "string"},
        "updatedBefore": {"type": "string"},
        "limit": {"type": "integer", "minimum": 1},
    },
    "additionalProperties": False,
}
_UPDATE = {
    "type": "object",
    "properties": {"taskId": {"type": "string"}, "statusId": {"enum": ["open", "archived"]}},
    "required": ["taskId"],
    "additionalProperties": False,
}


class Tools:
    """A catalogue of two closed tools and an open one."""

    def __init__(self) -> None:
        specs = (
            ToolSpec(name="workspace.search_tasks", description="", arguments=_SEARCH),
            ToolSpec(name="workspace.update_task", description="", arguments=_UPDATE, effect="write"),
            ToolSpec(name="http.request", description="", arguments={"type": "object", "properties": {"url": {}}}),
        )
        self._specs = {spec.name: spec for spec in specs}

    def names(self) -> Iterable[str]:
        return self._specs

    def get(self, name: str) -> ToolSpec | None:
        return self._specs.get(name)


@pytest.fixture(scope="session")
def registry() -> Registry:
    return build_registry(steps.KINDS, triggers.KINDS)


@pytest.fixture(scope="session")
def load_flow(registry: Registry) -> Load:
    def load_flow(text: str | bytes, files: Mapping[str, bytes] | None = None) -> Definition:
        def read(path: str) -> bytes:
            try:
                return (files or {})[path]
            except KeyError:
                raise FileNotFoundError(2, "No such file or directory", path) from None

        return load(text, path="flows/f.yaml", registry=registry, catalogue=Tools(), read=read)

    return load_flow


@pytest.fixture(scope="session")
def problems(load_flow: Load) -> Problems:
    def problems(text: str | bytes, files: Mapping[str, bytes] | None = None) -> tuple[Problem, ...]:
        with pytest.raises(InvalidFlowError) as caught:
            load_flow(text, files)
        return caught.value.problems

    return problems

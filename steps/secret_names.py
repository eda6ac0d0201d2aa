"""Which secrets a step is given."""

from collections.abc import Iterator

from flows.model import StepConfig
from flows.templates import secret_of, split_template, texts
from flows.values import Json
from steps.sandboxed import SandboxConfig
from steps.tool import ToolStep


def secrets_of(step: StepConfig) -> frozenset[str]:
    """The names of the secrets that a valid step is given: those of its arguments, or of ``secrets``."""
    if isinstance(step, SandboxConfig):
        return frozenset(step.secrets)
    return frozenset(_in_arguments(step.with_)) if isinstance(step, ToolStep) else frozenset()


def _in_arguments(arguments: dict[str, Json]) -> Iterator[str]:
    for text in texts(arguments):
        for piece in split_template(text):
            if (name := secret_of(piece)) is not None:
                yield name

"""Steps of ``tool``: one call of a tool, whose arguments are ``with``."""

from flows.model import StepConfig


class ToolStep(StepConfig):
    """One call of a tool; the step's result is the tool's."""

    tool: str
    """The full name: ``provider.tool``."""

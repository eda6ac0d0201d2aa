"""Steps of ``flow``: a run of another flow, whose inputs are ``with``."""

from flows.model import StepConfig


class SubflowStep(StepConfig):
    """A run of another flow; the step's result is its output."""

    flow: str
    """The other flow's name."""

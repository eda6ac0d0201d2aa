"""Steps of ``flow``: a run of another flow, whose inputs are ``with``."""

from collections.abc import Iterator

from flows.contracts import Catalogue, Finding, StepCall, StepResult
from flows.errors import RefusedError
from flows.model import StepConfig
from flows.names import name_finding


class SubflowStep(StepConfig):
    """A run of another flow; the step's result is its output."""

    flow: str
    """The other flow's name."""


def check_subflow(config: StepConfig, _catalogue: Catalogue) -> Iterator[Finding]:
    """Whether the name can be that of a flow; whether there is one is known only when it runs."""
    assert isinstance(config, SubflowStep)
    if (finding := name_finding(config.flow, ("flow",), "a flow")) is not None:
        yield finding


def other_flow(config: StepConfig) -> str | None:
    """The name of the flow that the step runs."""
    assert isinstance(config, SubflowStep)
    return config.flow


class SubflowExecutor:
    """Runs the other flow (:class:`flows.contracts.StepExecutor`)."""

    isolation = None

    async def refusal(self, config: StepConfig) -> RefusedError | None:
        """None: whether the other flow can run is asked of its own steps."""

    def expect(self, config: StepConfig, count: int) -> None:
        """Do nothing: the other flow's own steps are expected when it begins."""

    async def execute(self, config: StepConfig, call: StepCall) -> StepResult:
        """Run the other flow to its end."""
        if not isinstance(config, SubflowStep):
            raise TypeError(f"{type(config).__name__} is no step of a flow")
        return await call.run_flow(config.flow, call.inputs)

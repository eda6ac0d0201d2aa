"""What is kept of runs."""

from collections.abc import Sequence
from typing import Protocol

from engine.records import EgressRecord, FlowVersion, LogLine, Page, RunSummary, StepRun, ToolCall
from engine.report import RunReport
from flows.definition import Definition
from flows.values import RunStatus


class RunRecordUseCases(Protocol):
    """What is kept of runs."""

    async def definition_of(self, run: str) -> Definition:
        """The definition that a run is of, as it was when the run began. Raises as :meth:`run_report`."""

    async def run_flow(self, run: str) -> FlowVersion:
        """The version of the flow that a run is of. Raises as :meth:`run_report`."""

    async def runs(
        self, *, flow: str | None, status: RunStatus | None, limit: int, cursor: str | None = None
    ) -> Page[RunSummary]:
        """Runs, the newest first."""

    async def run_report(self, run: str) -> RunReport:
        """A run and its steps, by id or by enough of its beginning. Raises InvalidCallError where there is none."""

    async def run_attempts(self, run: str) -> Sequence[StepRun]:
        """Every attempt of every step of a run, in the order in which they began."""

    async def run_logs(
        self, run: str, *, step: str | None, limit: int | None = None, cursor: str | None = None
    ) -> Page[LogLine]:
        """What the code of a run printed, in order; all of it without a limit."""

    async def run_calls(self, run: str) -> Sequence[ToolCall]:
        """The tool calls of a run, in order."""

    async def run_egress(self, run: str) -> Sequence[EgressRecord]:
        """What the code of a run asked of the network, in order."""

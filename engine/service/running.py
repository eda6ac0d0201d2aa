"""Runs: started, waited for, cancelled, continued; and code that is executed by itself."""

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from engine.progress import Observer
from engine.records import Run, RunSummary
from engine.report import RunReport
from engine.service.values import ImageSnippet, Resumption, RunEvent, Snippet, StartedRun, Target
from flows.contracts import StepResult
from flows.definition import Definition
from flows.values import Json


class RunUseCases(Protocol):
    """Runs: started, waited for, cancelled, continued; and code that is executed by itself."""

    async def run(
        self, definition: Definition, inputs: Mapping[str, Json], observer: Observer, *, directory: Path
    ) -> RunReport:
        """Run a flow to its end; see :meth:`engine.runs.Runs.run`. ``directory`` is as in :class:`FlowText`."""

    async def run_known(self, flow: str, inputs: Mapping[str, Json], observer: Observer) -> RunReport:
        """Run the current version of a known flow to its end.

        Raises:
            UnknownFlowError: there is no such flow.
            FlowDisabledError: it is disabled.
        """

    async def start(self, target: Target, inputs: Mapping[str, Json], *, key: str | None = None) -> StartedRun:
        """Record a run, for a dispatcher to drive. The same ``key`` gives the same run again.

        Raises:
            InvalidCallError: the flow doesn't exist or is disabled, the inputs don't fit, or the key was used for
                something else.
            InvalidFlowError: the flow that was handed over is not valid.
            RefusedError: a step asks for what can't be had or enforced here.
            ShuttingDownError: the service starts nothing more.
        """

    async def retry(self, run: str, *, step: str | None, observer: Observer) -> RunReport:
        """Make a run that has ended again, from ``step`` on or from the first steps that did not succeed, to its end.

        It is a new run of the same version and inputs; what had ended before that stands. See :mod:`engine.retries`.

        Raises:
            NotRetryableError: it has not ended; or it has succeeded, and no step is given.
            PartOfRunError: it is the run of a subflow.
            UnknownStepError: there is no such step, or it is none of ``steps``.
            FlowDisabledError, RefusedError, SlotsTakenError: as for any other run.
        """

    async def start_retry(self, run: str, *, step: str | None, key: str | None = None) -> StartedRun:
        """Record a run as :meth:`retry` makes it, for a dispatcher to drive; as :meth:`start`."""

    async def wait(self, run: str, seconds: float) -> Run:
        """The run as it has ended, or as it is after so many seconds."""

    async def cancel(self, run: str) -> Run:
        """Have a run cancelled, whoever drives it; gives it as it is. Its ``finally`` runs before it ends.

        Asked for once more, that is cut short.

        Raises:
            AlreadyFinishedError: it has ended.
            PartOfRunError: it is the run of a subflow.
        """

    async def follow(self, run: str, *, after: str | None = None) -> AsyncIterator[RunEvent]:
        """What happens in a run until it has ended, from its beginning or after a position on.

        A line comes once. An attempt comes when it begins and when it ends, and after a position perhaps once more.

        Raises:
            InvalidPositionError: ``after`` is no position.
        """

    async def resume(self, run: str, observer: Observer) -> RunReport:
        """Continue a run whose engine has ended, where it is unfinished; see :meth:`engine.runs.Runs.resume`.

        Raises:
            InvalidCallError: there is no such run, it has ended, an engine drives it, or it is a part of another run.
            RefusedError: a step asks for what can't be had or enforced here; the run stays as it is.
        """

    async def have_resumed(self, run: str) -> Resumption:
        """Let the service that goes on here continue a run; gives it as it goes on. Raises as :meth:`resume`.

        Raises:
            AllDrivenError: as many runs go on as may, for as long as one waits for an answer.
            ShuttingDownError: the service starts nothing more.
        """

    async def abandoned(self) -> Sequence[RunSummary]:
        """The runs that have begun, can go on, and that no engine drives; not those that are parts of others.

        First those whose engine has ended, the oldest first; then those that have waited for what has happened since.
        """

    async def execute(self, snippet: Snippet | ImageSnippet, observer: Observer) -> StepResult:
        """Execute code, or a command of an image, by itself.

        Raises:
            InvalidCallError: an unknown tool, inputs that can't be passed.
            RefusedError: what it asks for can't be had or enforced here.
        """

"""Code executed by itself: a run of one step, driven without Prefect."""

from collections.abc import Mapping
from json import dumps
from typing import Any

from engine.execution import Execution, RunOutcome
from engine.attempts import Work
from engine.language import Language
from engine.service import Snippet
from flows.contracts import StepResult
from flows.definition import Definition
from flows.errors import InvalidCallError
from flows.model import Flow

STEP = "code"
FLOW = "exec"


class InvalidSnippetError(InvalidCallError):
    """What the code is to be given can't be: an unknown tool, a host that isn't one, a limit out of range."""

    code = "invalid_snippet"


class DirectDriver:
    """Makes the one attempt of the one step and keeps what it came to."""

    def __init__(self) -> None:
        self.result: StepResult | None = None

    async def run(self, execution: Execution) -> RunOutcome:
        """See :class:`engine.runs.Driver`."""
        return await execution.body(self._perform)

    async def _perform(self, work: Work) -> StepResult:
        self.result = await work.attempt()
        return self.result


def definition(snippet: Snippet, language: Language) -> Definition:
    """A snippet as a flow of one step, whose ``with`` passes on the inputs of the run.

    Raises:
        InvalidSnippetError: what it asks for is not valid; the message names every problem.
    """

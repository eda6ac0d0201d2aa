"""The error base and the errors of the language.

Each door (CLI, API, MCP) translates :class:`StepboxError` once. User code that fails is a result, not one of these.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


class StepboxError(Exception):
    """An error a person is meant to read: what is wrong, and what to change.

    ``code`` is stable and part of the public interface; ``exit_status`` is the CLI's exit status
    (1 failed, 2 invalid flow or call, 3 refused isolation or limit, 4 parked).
    """

    code: ClassVar[str] = "stepbox_error"
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message} ({self.fix})" if self.fix else self.message


class InvalidCallError(StepboxError):
    """What the caller asked for can't be done as asked: an unknown run, a bad option, an input of the wrong type."""

    code = "invalid_call"
    exit_status = 2


class RefusedError(StepboxError):
    """A guarantee or a limit that can't be enforced here, so that nothing was run."""

    code = "refused"
    exit_status = 3


class FeatureUnavailableError(RefusedError):
    """Something that the language has and this version can't give or enforce; nothing of the flow has run."""

    code = "feature_unavailable"


@dataclass(frozen=True, kw_only=True, order=True)
class Problem:
    """One thing wrong with a definition, at a place in its text.

    ``line`` and ``column`` count from 1; ``fix`` says what to write instead and is never empty.
    """

    path: str
    line: int
    column: int
    code: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.code}: {self.message} ({self.fix})"


class InvalidFlowError(StepboxError):
    """A flow definition with one or more problems, all of them, in the order of the text."""

    code = "invalid_flow"
    exit_status = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))

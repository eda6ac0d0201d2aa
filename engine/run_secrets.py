"""The secrets of a run: given to the steps that name them, and kept out of all that is recorded of it."""

import asyncio
import logging
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from engine.secrets import Secrets, UnknownSecretError
from flows.contracts import CollectedFile, EgressDecision, Question, StepError, StepResult
from flows.definition import Definition
from flows.errors import StepboxError
from flows.model import StepConfig
from steps.masking import Mask, unused
from steps.secret_names import secrets_of


@dataclass(frozen=True, kw_only=True)
class Given:
    """What one attempt is given: the values by name, and what hides all of the run's; None where it has none."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    mask: Mask | None = None


NOTHING_GIVEN = Given()


def secrets_named(definition: Definition) -> frozenset[str]:
    """The secrets that the steps of a flow name."""
    return frozenset[str]().union(*(secrets_of(step) for step in definition.steps.values()))


class RunSecrets:
    """The secrets that the flow of one run names.

    All of them are masked in each of its steps, whichever it was given to, so that one doesn't pass on in disguise
    what another then shows; and so are the values that they had earlier in the run.
    """

    def __init__(self, secrets: Secrets, workspace: str, definition: Definition) -> None:
        self._secrets = secrets
        self._workspace = workspace
        self._names = secrets_named(definition)
        self._seen: dict[str, tuple[str, ...]] = {}
        self._mask: Mask | None = None
        self._looking = asyncio.Lock()

    async def given_to(self, step: StepConfig) -> Given:
        """What an attempt of a step is given, as the secrets are now.

        Raises:
            UnknownSecretError: a secret that it names is gone.
            StepboxError: one can't be decrypted, or its value is too short to be masked.
        """
        if not self._names:
            return NOTHING_GIVEN
        own = secrets_of(step)
        async with self._looking:
            values = {name: await self._look(name) for name in sorted(own)}
            if self._mask is None:
                for name in sorted(self._names - own):
                    try:
                        await self._look(name)
                    except UnknownSecretError:
                        # The steps that name it hear of it.
                        continue
                self._mask = Mask(self._seen)
            return Given(values=values, mask=self._mask)

    async def _look(self, name: str) -> str:
        live = await self._secrets.given(self._workspace, name)
        seen = self._seen.get(name, ())
        if new := tuple(value for value in live if value not in seen):
            self._seen[name] = (*seen, *new)
            self._mask = None if self._mask is None else Mask(self._seen)
        return live[0]


def masked_result(result: StepResult, mask: Mask) -> StepResult:
    """What an attempt came to, without the values of secrets."""
    return replace(
        result,
        result=mask.json(result.result),
        error=masked_error(result.error, mask),
        stdout=mask.text(result.stdout),
        stderr=mask.text(result.stderr),
    )


def masked_error(error: StepError | None, mask: Mask) -> StepError | None:
    """An error without the values of secrets; its code is one that the code of a step may have chosen."""
    if error is None:
        return None
    return replace(
        error,
        code=error.code if mask.text(error.code) == error.code else "exception",
        message=mask.cut(error.message),
        traceback=None if error.traceback is None else mask.cut(error.traceback),
        fix=None if error.fix is None else mask.cut(error.fix),
    )


def mask_problem(problem: StepboxError, mask: Mask) -> None:
    """Take the values of secrets out of an error of ours."""
    problem.message = mask.cut(problem.message)
    problem.fix = None if problem.fix is None else mask.cut(problem.fix)
    problem.args = (problem.message,)


def masked_egress(decision: EgressDecision, mask: Mask) -> EgressDecision:
    """A decision on a request, without the values of secrets in the host."""
    reason = None if decision.reason is None else mask.text(decision.reason)
    return replace(decision, host=mask.text(decision.host), reason=reason)


def masked_question(question: Question, mask: Mask) -> Question:
    """A question without the values of secrets in its words."""
    return replace(question, message=mask.text(question.message), details=mask.json(question.details))


def masked_files(files: Sequence[CollectedFile], mask: Mask) -> list[CollectedFile]:
    """Files that a step left, without the values of secrets in their paths."""
    paths: dict[str, CollectedFile] = {}
    for file in files:
        path = mask.text(file.path)
        paths[path if path == file.path and path not in paths else unused(path, paths)] = file
    return [replace(file, path=path) for path, file in paths.items()]


def log_failure(log: logging.Logger, message: str, problem: BaseException, mask: Mask | None) -> None:
    """Log a bug with its traceback, without the values of secrets."""
    if mask is None:
        log.error(message, exc_info=problem)
    else:
        log.error("%s\n%s", message, mask.text("".join(traceback.format_exception(problem))))

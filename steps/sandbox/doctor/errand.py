"""Code that looks around in a sandbox for a check; it attacks nothing."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from flows.values import Json, StepStatus
from steps.sandbox.limits import Language, default_limits
from steps.sandbox.pool import profile_of
from steps.sandbox.protocol import ContainerCommand, Job, Runner, SandboxLostError


class ErrandFailedError(Exception):
    """The code could not be run, or failed; the message says why."""


class _Silent:
    """A host for code that has no tools and that nobody listens to."""

    async def log(self, stream: Literal["stdout", "stderr"], line: str) -> None:
        """Nothing is kept."""

    async def call_tool(self, name: str, arguments: Json) -> Json:
        raise NotImplementedError(name, arguments)


async def run(
    runner: Runner, language: Language, code: str, inputs: Mapping[str, Json], container: ContainerCommand | None = None
) -> Json:
    """The result of the code, or of a command of an image.

    Raises:
        ErrandFailedError: there is none.
        flows.errors.RefusedError: no sandbox starts.
    """
    job = Job(language=language, code=code, inputs=inputs, limits=default_limits(language), container=container)
    sandbox = await runner.start(replace(profile_of(job), limits=job.limits))
    try:
        outcome = await sandbox.execute(job, _Silent())
    except SandboxLostError:
        raise ErrandFailedError("the sandbox ended before it took the code") from None
    finally:
        await sandbox.close()
    if outcome.status is not StepStatus.SUCCEEDED:
        raise ErrandFailedError(outcome.error.message if outcome.error else outcome.status.value)
    return outcome.result

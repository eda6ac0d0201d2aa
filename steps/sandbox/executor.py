"""Executes the steps of code: from a step's configuration to a sandbox's job, and from its outcome to a result."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

from flows.contracts import Isolation, StepCall, StepError, StepResult
from flows.errors import RefusedError, StepboxError
from flows.model import StepConfig
from flows.schemas import mismatches
from flows.values import Json, StepStatus
from steps.addresses import Endpoint, Resolver, resolve
from steps.allowlist import EVERYWHERE, Allowlist
from steps.ceilings import NO_CEILINGS, STRENGTH, Ceilings, NoRules, Rules
from steps.code import CodeStep, SandboxConfig
from steps.sandbox import interpreter
from steps.sandbox.limits import Language, Limits, default_limits
from steps.sandbox.pool import Sandboxes, profile_of
from steps.sandbox.protocol import Job, Network, Outcome

_SCRIPT_BLOCK = "# /// script"
_FILENAMES = {"python": "step.py", "javascript": "step.ts", "shell": "step"}


class AuthoritiesUnreadableError(RefusedError):
    """The file of certificate authorities that code should trust can't be read."""

    code = "ca_file_unreadable"


class IsolationUnavailableError(RefusedError):
    """The runner isolates less than the installation demands."""

    code = "isolation_unavailable"


def isolation_refusal(isolation: Isolation, minimum: Isolation | None) -> RefusedError | None:
    """The refusal of a runner that isolates less than the installation demands; None: it is strong enough."""
    if minimum is None or STRENGTH[isolation] >= STRENGTH[minimum]:
        return None
    return IsolationUnavailableError(
        f"code would run at the isolation level '{isolation}', and '{minimum}' is the minimum here",
        fix="choose a stronger runner by STEPBOX_RUNNER, or lower STEPBOX_MIN_ISOLATION",
    )


class CodeExecutor:
    """Executes Python, JavaScript and shell steps (:class:`flows.contracts.StepExecutor`).

    ``internal`` are the destinations that code may reach though not public, where its step allows them; ``ca_file`` has
    certificates (PEM) of authorities that code should trust besides the usual ones. ``rules`` say what the workspace
    lets its steps have: whether a step may run at all the engine sees to, before each attempt.
    """

    def __init__(
        self,
        sandboxes: Sandboxes,
        *,
        min_isolation: Isolation | None = None,
        internal: frozenset[Endpoint] = frozenset(),
        resolver: Resolver = resolve,
        ca_file: Path | None = None,
        rules: Rules | None = None,
    ) -> None:
        self._sandboxes = sandboxes
        self._rules = rules or NoRules()
        self._min_isolation = min_isolation
        self._internal = internal
        self._resolver = resolver
        self._ca_file = ca_file

    @property
    def isolation(self) -> Isolation:
        return self._sandboxes.runner.isolation

    async def refusal(self, config: StepConfig) -> RefusedError | None:
        if (too_weak := isolation_refusal(self.isolation, self._min_isolation)) is not None:
            return too_weak
        step = _code_step(config)
        if (refused := self._unavailable(step)) is not None:
            return refused
        return await self._sandboxes.runner.refusal(limits_of(step, step.language), step.runtime)

    def expect(self, config: StepConfig, count: int) -> None:
        """Say that the step is going to be executed this many times, so that sandboxes are started for it."""
        step = _code_step(config)
        self._sandboxes.expect(profile_of(_job(step, {}, self._network(step))), count)

    async def execute(self, config: StepConfig, call: StepCall) -> StepResult:
        """Execute the step once.

        Raises:
            RefusedError: it asks for something that can't be had or enforced here; nothing has run.
        """
        step = _code_step(config)
        refused = await self.refusal(step)
        if refused is not None:
            raise refused
        ceilings = await self._rules.ceilings(call.workspace)
        job = _job(step, call.inputs, self._network(step, ceilings, call.workspace))
        return await self._result(step, held_to(job, ceilings), call)

    async def _result(self, step: SandboxConfig, job: Job, call: StepCall) -> StepResult:
        """Execute a job with the step's files, and hold its result against the step's ``returns``."""
        job = replace(
            job,
            journal=call,
            artifact_directory=call.artifact_directory,
            secrets=call.secrets,
            mask=call.mask,
        )
        if step.files:
            job = replace(job, files=tuple(await call.fetch_artifacts(step.files)))
        error = _unfit(job)
        if error is not None:
            return StepResult(status=error[0], error=error[1])
        outcome = await self._sandboxes.execute(job, call)
        return _check_result(step, await _keep(outcome, call))

    def _unavailable(self, step: SandboxConfig) -> RefusedError | None:
        """What no runner can give the step."""
        try:
            self._network(step)
        except AuthoritiesUnreadableError as unreadable:
            return unreadable
        return None

    def _network(
        self, step: SandboxConfig, ceilings: Ceilings = NO_CEILINGS, workspace: str | None = None
    ) -> Network | None:
        """What the step may reach, in a workspace with these ceilings; None: nothing.

        Raises:
            AuthoritiesUnreadableError: the file of certificate authorities can't be read.
        """
        if step.network == "none" or (step.network != "full" and not step.network.allow):
            return None
        whole = step.network == "full"
        network = Network(
            allow=EVERYWHERE if isinstance(step.network, str) else Allowlist(tuple(step.network.allow)),
            # No internal destination for the whole network: these are for steps that name them.
            internal=frozenset() if whole else self._internal | ceilings.internal,
            resolver=self._resolver,
            authorities=_authorities(self._ca_file),
        )
        if workspace is None:
            return network

        async def denied_by(host: str) -> str | None:
            return (await self._rules.ceilings(workspace)).denied.denied_by(host)

        return replace(network, denied_by=denied_by)


def _code_step(config: StepConfig) -> CodeStep:
    if not isinstance(config, CodeStep):
        raise TypeError(f"{type(config).__name__} is no step of code")
    return config


@cache
def _authorities(ca_file: Path | None) -> bytes:
    if ca_file is None:
        return b""
    fix = "set STEPBOX_CA_FILE to a file of PEM certificates, or unset it"
    try:
        authorities = ca_file.read_bytes()
    except OSError as error:
        message = f"the certificate authorities in {ca_file} can't be read: {error.strerror or error}"
        raise AuthoritiesUnreadableError(message, fix=fix) from error
    if b"-----BEGIN CERTIFICATE-----" not in authorities:
        raise AuthoritiesUnreadableError(f"{ca_file} has no certificate in PEM", fix=fix)
    return authorities


def _job(step: CodeStep, inputs: Mapping[str, Json], network: Network | None) -> Job:
    return Job(
        language=step.language,
        code=step.source,
        inputs=inputs,
        limits=limits_of(step, step.language),
        tools=tuple(step.tools),
        filename=_FILENAMES[step.language],
        network=network,
        runtime=step.runtime,
    )


def held_to(job: Job, ceilings: Ceilings) -> Job:
    """The job with no more of what steps can't set themselves than the ceilings have: its code and its result."""
    lowered = {
        name: int(min(getattr(job.limits, name), ceilings.limits[name]))
        for name in ("code", "result")
        if name in ceilings.limits
    }
    return replace(job, limits=replace(job.limits, **lowered)) if lowered else job


def limits_of(step: SandboxConfig, language: Language) -> Limits:
    """The step's own limits, and the language's where it has none."""
    declared = {name: value for name, value in step.limits.model_dump().items() if value is not None}
    return replace(default_limits(language), **declared)


def _unfit(job: Job) -> tuple[Literal[StepStatus.LIMIT_EXCEEDED, StepStatus.FAILED], StepError] | None:
    """Why the job need not be tried."""
    size = len(job.code.encode(errors="replace"))
    if size > job.limits.code:
        return StepStatus.LIMIT_EXCEEDED, StepError(
            code="code_too_large",
            message=f"the code is {size} bytes, the limit is {job.limits.code}",
            fix="move data out of the code, into inputs or files",
        )
    if job.files:
        from steps.sandbox.artifacts import misfit  # noqa: PLC0415 - few steps get files

        if (error := misfit(job.files, job.limits)) is not None:
            return StepStatus.LIMIT_EXCEEDED, error
    if job.language == "python" and _SCRIPT_BLOCK in job.code:
        from steps.sandbox.script_block import missing_dependency  # noqa: PLC0415 - few steps have such a block

        missing = missing_dependency(job.code, interpreter.find())
        if missing is not None:
            return StepStatus.FAILED, missing
    return None


async def _keep(outcome: Outcome, call: StepCall) -> StepResult:
    """The result of an outcome whose artifacts are kept; where they can't be, the step has failed."""
    result = _step_result(outcome)
    if not outcome.artifacts:
        return result
    try:
        return replace(result, artifacts=await call.keep_artifacts(outcome.artifacts))
    except StepboxError as problem:
        if result.status is StepStatus.SUCCEEDED:
            return replace(result, status=StepStatus.FAILED, result=None, error=StepError.of(problem))
        await call.log("stderr", f"no artifacts are kept: {problem.message}")
        return result


def _step_result(outcome: Outcome) -> StepResult:
    return StepResult(
        status=outcome.status,
        result=outcome.result,
        error=outcome.error,
        isolation=outcome.isolation,
        duration=outcome.duration,
        tool_calls=outcome.tool_calls,
        egress=outcome.egress,
        stdout=outcome.stdout,
        stderr=outcome.stderr,
        peak_memory=outcome.peak_memory,
        cpu_time=outcome.cpu_time,
        image=outcome.image,
    )


def _check_result(step: SandboxConfig, result: StepResult) -> StepResult:
    """The result, or a failure where it doesn't match the step's ``returns``."""
    if step.returns is None or result.status is not StepStatus.SUCCEEDED:
        return result
    wrong = mismatches(step.returns, result.result)
    if not wrong:
        return result
    first = wrong[0]
    place = "result" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first.path)
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    error = StepError(code="result_schema", message=f"{place}: {first.message}{more}", fix=first.fix)
    return replace(result, status=StepStatus.FAILED, result=None, error=error)

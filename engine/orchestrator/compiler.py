"""A flow definition as a real Prefect flow, and each of its steps as a real Prefect task."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import Any

from prefect import Flow, Task
from prefect.cache_policies import NO_CACHE, CacheKeyFnPolicy
from prefect.client.schemas.objects import State, TaskRun

from engine.attempts import Work, retry_delays
from flows.contracts import StepResult
from flows.definition import Definition
from flows.model import StepConfig
from flows.values import Json, StepStatus
from steps.code import CodeStep

JITTER = 0.5
"""Prefect's clamping factor: a delay is at most this share longer or shorter."""
MAX_DELAYS = 50
"""Prefect takes no more delays; it repeats the last one."""
BACKSTOP = 15.0
"""Seconds that Prefect's own timeout of a task lies above the step's, which the attempt itself keeps to."""


class UnsuccessfulAttemptError(Exception):
    """Tells Prefect that an attempt did not succeed; carries what it came to."""

    def __init__(self, result: StepResult, *, worth_retrying: bool) -> None:
        super().__init__(result.error.message if result.error else result.status.value)
        self.result = result
        self.worth_retrying = worth_retrying


@dataclass(frozen=True, kw_only=True)
class CompiledFlow:
    """A definition's Prefect flow, and its tasks by step id."""

    flow: Flow[Any, Any]
    tasks: dict[str, Task[Any, Any]]


def compile_flow(definition: Definition, body: Callable[[str], Awaitable[Json]], cache_dir: Path) -> CompiledFlow:
    """Make the Prefect flow of a definition. ``body`` runs the run of a given id and gives its output.

    ``cache_dir`` holds the results of steps with ``cache``, and nothing else.
    """
    name = definition.flow.flow

    async def run(run_id: str) -> Json:
        return await body(run_id)

    flow: Flow[Any, Any] = Flow(
        run,
        name=name,
        description=definition.flow.description,
        version=definition.digest[:12],
        flow_run_name="{run_id}",
        validate_parameters=False,
        persist_result=False,
        result_storage=cache_dir,
        log_prints=False,
    )
    return CompiledFlow(
        flow=flow,
        tasks={step_id: compile_step(definition, step, cache_dir) for step_id, step in definition.steps.items()},
    )


def compile_step(definition: Definition, step: StepConfig, cache_dir: Path) -> Task[Any, Any]:
    """Make the Prefect task of a step, carrying its name, retries, timeout and cache policy.

    The task takes a :class:`engine.attempts.Work` and gives the result's JSON, wrapped so that it can be cached.
    """

    async def attempt(work: Work) -> dict[str, Json]:
        outcome = await work.attempt()
        if outcome.status is not StepStatus.SUCCEEDED:
            raise UnsuccessfulAttemptError(outcome, worth_retrying=work.worth_retrying(outcome))
        return {"result": outcome.result}

    # Prefect derives a task's key from its function's name; without this all steps of all flows would share one.
    attempt.__qualname__ = f"{definition.flow.flow}.{step.id}"

    options: dict[str, Any] = {}
    if step.retry is not None:
        options["retries"] = step.retry.attempts - 1
        options["retry_delay_seconds"] = retry_delays(step.retry)[:MAX_DELAYS]
        options["retry_condition_fn"] = _worth_retrying
        options["retry_jitter_factor"] = JITTER if step.retry.jitter else None
    if step.timeout is not None:
        options["timeout_seconds"] = step.timeout + BACKSTOP
    if step.cache is not None:
        options["cache_policy"] = CacheKeyFnPolicy(cache_key_fn=_cache_key(definition, step))
        options["cache_expiration"] = timedelta(seconds=step.cache.ttl)
        options["result_serializer"] = "json"
    return Task(
        attempt,
        name=step.id,
        description=step.name,
        task_run_name="{work.label}",
        persist_result=step.cache is not None,
        result_storage=cache_dir,
        **{"cache_policy": NO_CACHE, **options},
    )


def _worth_retrying(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    cause = state.data
    return isinstance(cause, UnsuccessfulAttemptError) and cause.worth_retrying


def _cache_key(definition: Definition, step: StepConfig) -> Callable[..., str]:
    """The key of a cached result: flow, step, its whole configuration and code, and its resolved inputs."""
    source = step.source if isinstance(step, CodeStep) else None
    fixed = [definition.flow.flow, step.model_dump(mode="json", exclude={"with_", "name"}), source]

    def key(_context: object, parameters: dict[str, Work]) -> str:
        return sha256(dumps([*fixed, parameters["work"].inputs], sort_keys=True).encode()).hexdigest()

    return key

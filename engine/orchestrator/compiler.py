"""A flow definition as a real Prefect flow, and each of its steps as a real Prefect task."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from prefect import Flow, Task
from prefect.cache_policies import NO_CACHE, CacheKeyFnPolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.serializers import JSONSerializer

from engine.artifacts import artifact_document
from engine.attempts import Work, retry_delays
from flows.contracts import StepResult
from flows.definition import Definition
from flows.model import StepConfig
from flows.values import Json, StepStatus

JITTER = 0.5
"""Prefect's clamping factor: a delay is at most this share longer or shorter."""
MAX_DELAYS = 50
"""Prefect takes no more delays; it repeats the last one."""
PLAIN_JSON: JSONSerializer[Any] = JSONSerializer(object_encoder=None, object_decoder=None)
"""JSON that stays data: Prefect's own decoder imports and calls what a result names, and results are hostile."""
BACKSTOP = 15.0
"""Seconds that Prefect's own timeout of a task lies above the step's, which the attempt itself keeps to."""


class UnsuccessfulAttemptError(Exception):
    """Tells Prefect that an attempt did not succeed, and whether to make another."""

    def __init__(self, result: StepResult, *, worth_retrying: bool) -> None:
        super().__init__(result.error.message if result.error else result.status.value)
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

    The task takes a :class:`engine.attempts.Work` and gives the result's JSON with the artifacts, so that both can be
    cached.
    """

    async def attempt(work: Work) -> dict[str, Json]:
        outcome = await work.attempt()
        if outcome.status is not StepStatus.SUCCEEDED:
            raise UnsuccessfulAttemptError(outcome, worth_retrying=work.worth_retrying(outcome))
        return {"result": outcome.result, "artifacts": [artifact_document(one) for one in outcome.artifacts]}

    # Prefect derives a task's key from its function's name; without this all steps of all flows would share one.
    attempt.__qualname__ = f"{definition.flow.flow}.{step.id}"

    retry, cache = step.retry, step.cache
    # Every option is given: Prefect takes those left out from its own settings and files.
    return Task(
        attempt,
        name=step.id,
        description=step.name,
        task_run_name="{work.label}",
        retries=0 if retry is None else retry.attempts - 1,
        retry_delay_seconds=0 if retry is None else retry_delays(retry)[:MAX_DELAYS],
        retry_jitter_factor=JITTER if retry is not None and retry.jitter else None,
        retry_condition_fn=_worth_retrying,
        timeout_seconds=None if step.timeout is None else step.timeout + BACKSTOP,
        cache_policy=NO_CACHE if cache is None else CacheKeyFnPolicy(cache_key_fn=_cache_key),
        cache_expiration=None if cache is None else timedelta(seconds=cache.ttl),
        refresh_cache=False,
        persist_result=cache is not None,
        cache_result_in_memory=False,
        result_storage=cache_dir,
        result_serializer=PLAIN_JSON,
        log_prints=False,
    )


def _worth_retrying(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    cause = state.data
    return isinstance(cause, UnsuccessfulAttemptError) and cause.worth_retrying


def _cache_key(_context: object, parameters: dict[str, Work]) -> str:
    return parameters["work"].cache_key()

"""Runs executions through Prefect, in one of two gears.

*Embedded*: the body of the flow runs in this process, each step through Prefect's own task engine; no server, no
network. *Server*: the compiled flow is called as a Prefect flow run, its task runs visible on the server.
"""

import asyncio
import signal
import ssl
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any, Self, cast

from httpx import HTTPError
from prefect import Task
from prefect.context import AsyncClientContext
from prefect.events.clients import NullEventsClient
from prefect.events.worker import EventsWorker
from prefect.exceptions import PrefectException
from prefect.transactions import BaseTransaction

from engine.attempts import Work
from engine.execution import Execution, RunOutcome
from engine.orchestrator.compiler import CompiledFlow, UnsuccessfulAttemptError, compile_flow
from flows.contracts import StepResult
from flows.errors import StepboxError
from flows.values import Json, RunStatus, StepStatus

COMPILED_FLOWS = 256
"""Compiled flow versions kept; the least recently used goes first."""


class PrefectUnavailableError(StepboxError):
    """The Prefect server can't be reached or answers with an error."""

    code = "prefect_unavailable"


class FailedRunError(Exception):
    """Tells Prefect that a flow run failed, so that its pages show it."""


def _unreached_client() -> AsyncClientContext:
    """The client that Prefect shares where there is no server: it trusts no authority, and so need not read any.

    Reading them would cost 20 ms. Prefect shares a client only with who asks for the same settings: for none.
    """
    context = AsyncClientContext(httpx_settings={"verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)})
    context._httpx_settings = None  # noqa: SLF001 - no public way says "this client, for everybody"
    return context


class Orchestrator:
    """Compiles and runs executions. Use as an async context manager; one a process and event loop.

    ``api_url`` None is the embedded gear. ``cache_dir`` keeps the results of steps with ``cache``.
    """

    def __init__(self, *, api_url: str | None, cache_dir: Path) -> None:
        self._api_url = api_url
        self._cache_dir = cache_dir
        self._compiled: OrderedDict[str, CompiledFlow] = OrderedDict()
        self._executions: dict[str, Execution] = {}
        self._outcomes: dict[str, RunOutcome] = {}
        self._on_sigterm = signal.getsignal(signal.SIGTERM)
        self._context = copy_context()
        self._client: AsyncClientContext | None = None

    async def __aenter__(self) -> Self:
        self._cache_dir.mkdir(parents=True, exist_ok=True)
        if self._api_url is None:
            EventsWorker.set_client_override(NullEventsClient)
            self._client = _unreached_client()
            await self._apart(self._client.__aenter__())
        return self

    async def __aexit__(self, *_exception: object) -> None:
        if self._client is not None:
            await self._apart(self._client.__aexit__(None, None, None))

    def _apart(self, work: Coroutine[Any, Any, object]) -> "asyncio.Task[object]":
        """Work in a context of its own: what entered there can be left by another task than the one that entered."""
        return asyncio.get_running_loop().create_task(work, context=self._context)

    async def run(self, execution: Execution) -> RunOutcome:
        """Run an execution to its end.

        Raises:
            asyncio.CancelledError: the run was cancelled.
            PrefectUnavailableError: the server gear can't reach its server; nothing of the flow has run.
        """
        run_id = execution.run.id
        compiled = self._compile(execution)
        self._executions[run_id] = execution
        try:
            if self._client is not None:
                with _set(AsyncClientContext.__var__, self._client):
                    await self._body(run_id)
            else:
                await self._flow_run(compiled, execution)
            return self._outcomes[run_id]
        finally:
            self._executions.pop(run_id)
            self._outcomes.pop(run_id, None)

    async def _flow_run(self, compiled: CompiledFlow, execution: Execution) -> None:
        run_id = execution.run.id
        try:
            await cast("Awaitable[Json]", compiled.flow(run_id))
        except FailedRunError:
            pass
        except (PrefectException, HTTPError, OSError, RuntimeError) as problem:
            if run_id in self._outcomes:
                return
            if execution.entered:
                raise
            message = f"the Prefect server at {self._api_url} can't run flows: {problem}"
            raise PrefectUnavailableError(
                message, fix="start it, or unset STEPBOX_PREFECT_API_URL to run without a server"
            ) from problem

    async def _body(self, run_id: str) -> Json:
        """The body of every compiled flow."""
        execution = self._executions[run_id]
        tasks = self._compile(execution).tasks

        async def perform(work: Work) -> StepResult:
            return await _perform(tasks[work.step.id], work)

        self._keep_signals()
        # Within that of the step that runs a subflow Prefect would keep all results of its tasks in memory, and cache
        # none before that step has succeeded, nor any where one of them failed.
        with _set(BaseTransaction.__var__, None):
            outcome = await execution.body(perform)
        self._outcomes[run_id] = outcome
        if outcome.status is not RunStatus.SUCCEEDED and self._api_url is not None:
            raise FailedRunError(outcome.error.message if outcome.error else outcome.status.value)
        return outcome.output

    def _keep_signals(self) -> None:
        """Undo what a Prefect flow run does to SIGTERM: whoever handles it, as the command line does, goes on to.

        Prefect would raise an exception wherever the process is, in place of cancelling the run.
        """
        if callable(self._on_sigterm) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def _compile(self, execution: Execution) -> CompiledFlow:
        definition = execution.definition
        compiled = self._compiled.get(definition.digest)
        if compiled is None:
            compiled = compile_flow(definition, self._body, self._cache_dir)
            self._compiled[definition.digest] = compiled
            if len(self._compiled) > COMPILED_FLOWS:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(definition.digest)
        return compiled


async def _perform(task: Task[Any, Any], work: Work) -> StepResult:
    """Make a step's attempts through its Prefect task."""
    try:
        value = await cast("Awaitable[dict[str, Json]]", task(work))
    except UnsuccessfulAttemptError:
        pass
    except TimeoutError:
        return await work.abandoned()
    else:
        if work.outcome is None or work.outcome.status is not StepStatus.SUCCEEDED:
            return await work.cached(value["result"], value.get("artifacts", []))
    assert work.outcome is not None
    return work.outcome


@contextmanager
def _set(variable: ContextVar[Any], value: object) -> Iterator[None]:
    """Let one of Prefect's context variables have a value for the tasks of a run."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)

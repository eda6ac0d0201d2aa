"""Runs: starting, following, reading and cancelling them; code by itself."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from engine.documents import (
    attempt_document,
    call_document,
    egress_document,
    line_document,
    report_document,
    run_document,
    snippet_document,
    started_document,
)
from engine.progress import NoObserver
from engine.service import ImageSnippet, Service, Snippet, StartedRun
from flows.values import Json, RunStatus
from ui.api.bodies import ExactRoute
from ui.api.flows import text_of
from ui.api.models import (
    AttemptOut,
    CallOut,
    EgressOut,
    ExecuteImageIn,
    ExecuteIn,
    ExecuteOut,
    LineOut,
    PageOut,
    RetryIn,
    RunDetailOut,
    RunOut,
    StartIn,
    TrialIn,
)
from ui.api.openapi import refusals
from ui.api.requests import (
    FlowPath,
    IdempotencyKey,
    LogsQuery,
    Paging,
    RunPath,
    RunsQuery,
    TheService,
    Wait,
    page_after,
)

router = APIRouter(tags=["runs"], route_class=ExactRoute)

_ENDED = {RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED}
_STARTED = {
    "Location": {"description": "Where the run is.", "schema": {"type": "string"}},
    "Idempotency-Replayed": {"description": "`true` where the key had started it.", "schema": {"type": "string"}},
}
_STARTS = {
    **refusals(400, 404, 409),
    200: {"description": "It has ended.", "headers": _STARTED},
    202: {"description": "It goes on.", "model": RunDetailOut, "headers": _STARTED},
}


@router.post("/flows/{flow}/runs", operation_id="startRun", response_model=RunDetailOut, responses=_STARTS)
async def start_run(
    *,
    service: TheService,
    flow: FlowPath,
    body: StartIn,
    response: Response,
    idempotency_key: IdempotencyKey = None,
    wait: Wait = 0,
) -> Json:
    """Start a run of the current version of a flow."""
    started = await service.start(flow, body.inputs, key=idempotency_key)
    return await _answer(service, started, response, wait)


@router.post("/runs", operation_id="startTrial", response_model=RunDetailOut, responses=_STARTS)
async def start_trial(
    service: TheService, body: TrialIn, response: Response, idempotency_key: IdempotencyKey = None, wait: Wait = 0
) -> Json:
    """Start a run of a flow as it is written here, without putting it into service."""
    started = await service.start(text_of(body.flow), body.inputs, key=idempotency_key)
    return await _answer(service, started, response, wait)


async def _answer(service: Service, started: StartedRun, response: Response, wait: float) -> Json:
    run = started.run
    if wait and run.status not in _ENDED:
        run = await service.wait(run.id, wait)
    response.status_code = 200 if run.status in _ENDED else 202
    response.headers["Location"] = f"/api/v1/runs/{run.id}"
    if started.repeated:
        response.headers["Idempotency-Replayed"] = "true"
    if run.status is RunStatus.QUEUED:
        return started_document(run)
    return report_document(await service.run_report(run.id))


@router.get("/runs", operation_id="listRuns", response_model=PageOut[RunOut], responses=refusals())
async def list_runs(service: TheService, query: Annotated[RunsQuery, Query()]) -> Json:
    """Runs, the newest first."""
    page = await service.runs(flow=query.flow, status=query.status, limit=query.limit, cursor=query.cursor)
    return {"items": [run_document(run) for run in page.items], "next": page.next}


@router.get("/runs/{run}", operation_id="getRun", response_model=RunDetailOut, responses=refusals(404, 409))
async def get_run(service: TheService, run: RunPath) -> Json:
    """A run with its inputs, its output and its steps."""
    return report_document(await service.run_report(run))


@router.post(
    "/runs/{run}/cancel",
    operation_id="cancelRun",
    response_model=RunOut,
    status_code=202,
    responses=refusals(404, 409),
)
async def cancel_run(service: TheService, run: RunPath) -> Json:
    """Cancel a run: its steps are killed, then its `finally` runs. Asked for once more, that is cut short as well."""
    return run_document(await service.cancel(run))


@router.post("/runs/{run}/retry", operation_id="retryRun", response_model=RunDetailOut, responses=_STARTS)
async def retry_run(
    *,
    service: TheService,
    run: RunPath,
    body: RetryIn,
    response: Response,
    idempotency_key: IdempotencyKey = None,
    wait: Wait = 0,
) -> Json:
    """Make a new run of the same version and inputs, for which what had ended before the step stands."""
    started = await service.start_retry(run, step=body.step, key=idempotency_key)
    return await _answer(service, started, response, wait)


@router.get(
    "/runs/{run}/steps", operation_id="listAttempts", response_model=PageOut[AttemptOut], responses=refusals(404, 409)
)
async def list_attempts(service: TheService, run: RunPath, query: Annotated[Paging, Query()]) -> Json:
    """Every attempt of every step, in the order in which they began."""
    attempts = await service.run_attempts(run)
    page, following = page_after(attempts, lambda attempt: attempt.id, query)
    return {"items": [attempt_document(attempt) for attempt in page], "next": following}


@router.get("/runs/{run}/logs", operation_id="listLines", response_model=PageOut[LineOut], responses=refusals(404, 409))
async def list_lines(service: TheService, run: RunPath, query: Annotated[LogsQuery, Query()]) -> Json:
    """What the code of a run printed, in order."""
    page = await service.run_logs(run, step=query.step, limit=query.limit, cursor=query.cursor)
    return {"items": [line_document(line) for line in page.items], "next": page.next}


@router.get(
    "/runs/{run}/tool-calls",
    operation_id="listToolCalls",
    response_model=PageOut[CallOut],
    responses=refusals(404, 409),
)
async def list_calls(service: TheService, run: RunPath, query: Annotated[Paging, Query()]) -> Json:
    """The tool calls of a run, in order."""
    calls = await service.run_calls(run)
    page, following = page_after(calls, lambda call: call.id, query)
    return {"items": [call_document(call) for call in page], "next": following}


@router.get(
    "/runs/{run}/egress", operation_id="listEgress", response_model=PageOut[EgressOut], responses=refusals(404, 409)
)
async def list_egress(service: TheService, run: RunPath, query: Annotated[Paging, Query()]) -> Json:
    """What the code of a run asked of the network, in order."""
    records = await service.run_egress(run)
    page, following = page_after(records, lambda record: record.id, query)
    return {"items": [egress_document(record) for record in page], "next": following}


@router.post("/execute", operation_id="execute", tags=["code"], response_model=ExecuteOut, responses=refusals(400))
async def execute(service: TheService, body: ExecuteIn) -> Json:
    """Execute code by itself in a single-use sandbox. Code that fails is an answer like any other: see its `status`."""
    snippet = Snippet(
        language=body.language,
        code=body.code,
        inputs=body.inputs,
        network=tuple(body.network) if isinstance(body.network, list) else body.network,
        tools=body.tools,
        timeout=body.timeout,
        memory=body.memory,
    )
    return snippet_document(await service.execute(snippet, NoObserver()))


@router.post(
    "/execute/image", operation_id="executeImage", tags=["code"], response_model=ExecuteOut, responses=refusals(400)
)
async def execute_image(service: TheService, body: ExecuteImageIn) -> Json:
    """Execute a command of an image by itself in a single-use container, as `/execute` does code."""
    snippet = ImageSnippet(
        image=body.image,
        command=body.command,
        inputs=body.inputs,
        network=tuple(body.network) if isinstance(body.network, list) else body.network,
        timeout=body.timeout,
        memory=body.memory,
    )
    return snippet_document(await service.execute(snippet, NoObserver()))

"""Runs that no engine drives: which these are, and continuing them."""

from typing import Annotated

from fastapi import APIRouter, Query

from engine.documents import run_document, version_document
from flows.values import Json
from ui.api.bodies import ExactRoute
from ui.api.models import PageOut, ResumedOut, RunOut, VersionOut
from ui.api.openapi import refusals
from ui.api.requests import Paging, RunPath, TheService, page_after

router = APIRouter(tags=["runs"], route_class=ExactRoute)


@router.post(
    "/runs/{run}/resume",
    operation_id="resumeRun",
    response_model=ResumedOut,
    status_code=202,
    responses=refusals(404, 409),
)
async def resume_run(service: TheService, run: RunPath) -> Json:
    """Continue a run that waits, or whose engine has ended: steps that had ended are not done again.

    A service does so by itself once it can go on. Asked for too early, the run waits again.
    """
    resumed = await service.have_resumed(run)
    return {**run_document(resumed.run), "position": resumed.position}


@router.get("/abandoned-runs", operation_id="listAbandonedRuns", response_model=PageOut[RunOut], responses=refusals())
async def list_abandoned_runs(service: TheService, query: Annotated[Paging, Query()]) -> Json:
    """The runs that have begun, can go on, and that no engine drives. A service continues them by itself."""
    runs = await service.abandoned()
    page, following = page_after(runs, lambda run: run.id, query)
    return {"items": [run_document(run) for run in page], "next": following}


@router.get("/runs/{run}/flow", operation_id="getRunFlow", response_model=VersionOut, responses=refusals(404, 409))
async def get_run_flow(service: TheService, run: RunPath) -> Json:
    """The version of the flow that a run is of."""
    return version_document(await service.run_flow(run))

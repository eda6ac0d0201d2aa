"""Artifacts: the files that the steps of a run left."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from engine.documents import artifact_record_document
from flows.values import Json
from ui.api.models import ARTIFACT_ID, ArtifactRecordOut, PageOut
from ui.api.openapi import refusals
from ui.api.requests import Paging, RunPath, TheService

router = APIRouter(tags=["artifacts"])

_CONTENT = {
    **refusals(404),
    200: {
        "description": "The content, with its media type. It is a download, whatever it holds.",
        "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
    },
}


@router.get(
    "/runs/{run}/artifacts",
    operation_id="listArtifacts",
    response_model=PageOut[ArtifactRecordOut],
    responses=refusals(404, 409),
)
async def list_artifacts(service: TheService, run: RunPath, query: Annotated[Paging, Query()]) -> Json:
    """What the steps of a run left, those that a later attempt has superseded, too."""
    found = sorted(await service.run_artifacts(run), key=lambda one: one.id)
    after = [one for one in found if query.cursor is None or one.id > query.cursor]
    page = after[: query.limit]
    following = page[-1].id if len(after) > query.limit else None
    return {"items": [artifact_record_document(one) for one in page], "next": following}


@router.get("/artifacts/{artifact}", operation_id="getArtifact", response_class=Response, responses=_CONTENT)
async def get_artifact(
    service: TheService,
    artifact: Annotated[str, Path(pattern="^[0-9A-HJKMNP-TV-Z]{26}$", examples=[ARTIFACT_ID])],
) -> Response:
    """The content of an artifact, checked."""
    record = await service.artifact(artifact)
    (content,) = await service.fetch_artifacts([record.artifact])
    return FileResponse(
        content,
        media_type=record.media_type,
        filename=record.path.rpartition("/")[2],
        background=BackgroundTask(service.release_artifacts, [content]),
    )

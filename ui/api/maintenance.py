"""What keeps an installation in order."""

from dataclasses import asdict

from fastapi import APIRouter

from flows.values import Json
from ui.api.bodies import ExactRoute
from ui.api.models import PrunedOut, PruneIn
from ui.api.openapi import refusals
from ui.api.requests import TheService

router = APIRouter(tags=["maintenance"], route_class=ExactRoute)


@router.post("/prune", operation_id="prune", response_model=PrunedOut, responses=refusals(400))
async def prune(service: TheService, body: PruneIn) -> Json:
    """Remove what has been kept for long enough. The answer comes when that is done."""
    removed = await service.prune(older_than=body.older_than, dry_run=body.dry_run)
    return {"removed": not body.dry_run, **asdict(removed)}

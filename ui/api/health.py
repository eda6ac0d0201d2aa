"""Health, for who has no token; metrics, for who has one."""

from typing import Final

from fastapi import APIRouter, Request, Response

from flows.values import Json
from ui.api.models import HealthOut
from ui.api.openapi import refusals
from ui.api.requests import TheServing

health = APIRouter(tags=["health"])
metrics = APIRouter(tags=["health"])

_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@health.get("/healthz", operation_id="healthz", response_model=HealthOut)
async def healthz() -> Json:
    """Whether the process answers."""
    return {"status": "ok"}


@health.get(
    "/readyz",
    operation_id="readyz",
    response_model=HealthOut,
    responses={503: {"description": "It takes no work: it shuts down, or its database is gone.", "model": HealthOut}},
)
async def readyz(serving: TheServing, response: Response) -> Json:
    """Whether the service takes work."""
    readiness = await serving.readiness()
    response.status_code = 200 if readiness.is_ready else 503
    return {"status": "ok" if readiness.is_ready else "unavailable", "checks": dict(readiness.checks)}


@metrics.get(
    "/metrics",
    operation_id="metrics",
    response_class=Response,
    responses={**refusals(), 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def read_metrics(serving: TheServing, request: Request) -> Response:
    """What Prometheus reads."""
    return Response(await serving.metrics(request.state.principal), media_type=_METRICS_TYPE)

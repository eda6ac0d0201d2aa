"""The app: its routes, and what all of them pass."""

import asyncio

from fastapi import APIRouter, Depends, FastAPI, Security

from engine.service import Serving
from ui.api import (
    approvals,
    artifacts,
    audit,
    continuing,
    decide,
    events,
    flows,
    hooks,
    kept_events,
    maintenance,
    policy,
    principals,
    problems,
    runs,
    secrets,
    tokens,
    workspaces,
)
from ui.api.guard import PREFIX, Guard
from ui.api.health import health, metrics
from ui.api.openapi import BEARER, describe
from ui.api.queries import check_query

ROUTERS = (
    flows.router,
    runs.router,
    continuing.router,
    artifacts.router,
    approvals.router,
    events.router,
    kept_events.router,
    secrets.router,
    secrets.key_router,
    tokens.router,
    policy.router,
    principals.router,
    workspaces.router,
    audit.router,
    hooks.events,
    maintenance.router,
)
"""What lies below the prefix."""


def create_app(serving: Serving, *, max_body: int) -> FastAPI:
    """The API of a service that goes on.

    ``app.state.closing`` is an :class:`asyncio.Event` that ends the streams which would not end by themselves.
    """
    app = FastAPI(
        title="Stepbox", openapi_url=f"{PREFIX}/openapi.json", docs_url=None, redoc_url=None, redirect_slashes=False
    )
    app.state.serving = serving
    app.state.closing = asyncio.Event()
    app.add_middleware(Guard, serving=serving, max_body=max_body)
    problems.install(app)
    guarded = [Security(BEARER)]
    api = APIRouter(prefix=PREFIX, dependencies=[*guarded, Depends(check_query)])
    for router in ROUTERS:
        api.include_router(router)
    app.include_router(api)
    app.include_router(metrics, dependencies=guarded)
    app.include_router(health)
    app.include_router(hooks.router)
    app.include_router(decide.router)
    describe(app)
    return app

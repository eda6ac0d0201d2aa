"""Workspaces: making, listing and deleting them."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from engine.principal_documents import token_document, workspace_document
from flows.names import MAX_NAME, NAME
from flows.values import Json
from ui.api.bodies import ExactRoute
from ui.api.models import FlowName, PageOut
from ui.api.openapi import refusals
from ui.api.requests import Paging, TheService, page_after
from ui.api.shapes import In, Out
from ui.api.tokens import IssuedTokenOut

router = APIRouter(prefix="/workspaces", tags=["workspaces"], route_class=ExactRoute)

_Workspace = Annotated[str, Path(alias="workspace", pattern=f"^{NAME.pattern}$", max_length=MAX_NAME, examples=["ops"])]


class WorkspaceIn(In):
    """A workspace to make."""

    name: FlowName = Field(examples=["ops"])
    admin: FlowName | None = Field(default=None, examples=["ann"])
    """The name of a principal to make as its admin, with a token. Left out: none is made."""


class WorkspaceOut(Out):
    """A workspace."""

    name: str = Field(examples=["ops"])
    created_at: datetime


class MadeWorkspaceOut(WorkspaceOut):
    """A new workspace."""

    token: IssuedTokenOut | None
    """The token of its admin, where one was to be made."""


@router.get("", operation_id="listWorkspaces", response_model=PageOut[WorkspaceOut], responses=refusals())
async def list_workspaces(service: TheService, query: Annotated[Paging, Query()]) -> Json:
    """The workspaces, by name."""
    page, following = page_after(await service.workspaces(), lambda one: one.name, query)
    return {"items": [workspace_document(one) for one in page], "next": following}


@router.post(
    "", operation_id="createWorkspace", response_model=MadeWorkspaceOut, status_code=201, responses=refusals(400, 409)
)
async def create_workspace(service: TheService, body: WorkspaceIn) -> Json:
    """Make a workspace, perhaps with its first admin. Only admins of the default workspace may."""
    made, issued = await service.create_workspace(body.name, admin=body.admin)
    token = None if issued is None else {**token_document(issued.record), "token": issued.text}
    return {**workspace_document(made), "token": token}


@router.delete("/{workspace}", operation_id="deleteWorkspace", status_code=204, responses=refusals(404, 409))
async def delete_workspace(service: TheService, workspace: _Workspace) -> None:
    """Remove a workspace in which nothing is left but principals."""
    await service.delete_workspace(workspace)

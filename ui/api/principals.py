"""Principals: making, changing and deleting them, and what they are granted."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import Field, StringConstraints

from engine.principal_documents import principal_document
from engine.principals import GrantPatterns
from engine.records import Role
from flows.names import MAX_NAME, NAME
from flows.values import Json
from ui.api.bodies import ExactRoute
from ui.api.models import FlowName, PageOut
from ui.api.openapi import refusals
from ui.api.requests import Paging, TheService
from ui.api.shapes import In, Out

router = APIRouter(prefix="/principals", tags=["principals"], route_class=ExactRoute)

Pattern = Annotated[str, StringConstraints(min_length=1, max_length=200)]
PrincipalPath = Annotated[
    str, Path(alias="principal", pattern=f"^{NAME.pattern}$", max_length=MAX_NAME, examples=["ann"])
]


class GrantsIn(In):
    """Patterns of names, in which `*` stands for any text."""

    tools: list[Pattern] = Field(default_factory=list, max_length=100, examples=[["workspace.*"]])
    flows: list[Pattern] = Field(default_factory=list, max_length=100, examples=[["reports_*"]])

    def patterns(self) -> GrantPatterns:
        """As the service takes them."""
        return GrantPatterns(tools=self.tools, flows=self.flows)


class PrincipalIn(GrantsIn):
    """A principal to make. It is granted all tools, and all flows, where none are named."""

    name: FlowName = Field(examples=["ann"])
    role: Role
    kind: Literal["person", "service"] = "person"


class RoleIn(In):
    """A role."""

    role: Role


class GrantOut(Out):
    """Tools or flows that a principal is granted."""

    kind: Literal["tool", "flow"]
    pattern: str = Field(examples=["workspace.*"])
    granted_by: str
    granted_at: datetime


class PrincipalOut(Out):
    """Who may act in the workspace. An admin isn't limited by `grants`."""

    name: str = Field(examples=["ann"])
    workspace: str
    kind: Literal["person", "service"]
    role: Role
    enabled: bool
    created_at: datetime
    disabled_at: datetime | None
    grants: list[GrantOut]


@router.get("", operation_id="listPrincipals", response_model=PageOut[PrincipalOut], responses=refusals())
async def list_principals(service: TheService, query: Annotated[Paging, Query()]) -> Json:
    """The principals of the workspace, by name."""
    page = await service.principals(limit=query.limit, cursor=query.cursor)
    return {"items": [principal_document(one) for one in page.items], "next": page.next}


@router.post(
    "", operation_id="createPrincipal", response_model=PrincipalOut, status_code=201, responses=refusals(400, 409)
)
async def create_principal(service: TheService, body: PrincipalIn) -> Json:
    """Make a principal. Nobody gets the name of one that was deleted."""
    made = await service.create_principal(body.name, role=body.role, kind=body.kind, grants=body.patterns())
    return principal_document(made)


@router.get("/{principal}", operation_id="getPrincipal", response_model=PrincipalOut, responses=refusals(404))
async def get_principal(service: TheService, principal: PrincipalPath) -> Json:
    """A principal, with what it is granted."""
    return principal_document(await service.principal(principal))


@router.delete("/{principal}", operation_id="deletePrincipal", status_code=204, responses=refusals(404, 409))
async def delete_principal(service: TheService, principal: PrincipalPath) -> None:
    """Take a principal away, with its tokens. What it did stays."""
    await service.delete_principal(principal)


@router.put("/{principal}/role", operation_id="setRole", response_model=PrincipalOut, responses=refusals(400, 404, 409))
async def set_role(service: TheService, principal: PrincipalPath, body: RoleIn) -> Json:
    """Give a principal another role."""
    return principal_document(await service.set_role(principal, body.role))


@router.post(
    "/{principal}/enable", operation_id="enablePrincipal", response_model=PrincipalOut, responses=refusals(404, 409)
)
async def enable_principal(service: TheService, principal: PrincipalPath) -> Json:
    """Let a principal act again."""
    return principal_document(await service.enable_principal(principal, enabled=True))


@router.post(
    "/{principal}/disable", operation_id="disablePrincipal", response_model=PrincipalOut, responses=refusals(404, 409)
)
async def disable_principal(service: TheService, principal: PrincipalPath) -> Json:
    """Let a principal do nothing: its tokens open nothing, and runs that act for it go no further."""
    return principal_document(await service.enable_principal(principal, enabled=False))


@router.post(
    "/{principal}/grant", operation_id="grantPrincipal", response_model=PrincipalOut, responses=refusals(400, 404)
)
async def grant_principal(service: TheService, principal: PrincipalPath, body: GrantsIn) -> Json:
    """Grant a principal tools and flows."""
    return principal_document(await service.grant(principal, body.patterns()))


@router.post(
    "/{principal}/revoke", operation_id="revokeGrants", response_model=PrincipalOut, responses=refusals(400, 404)
)
async def revoke_grants(service: TheService, principal: PrincipalPath, body: GrantsIn) -> Json:
    """Take back what was granted, by the same patterns."""
    return principal_document(await service.ungrant(principal, body.patterns()))

"""Tokens: making, listing and revoking them."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime, Field

from engine.principal_documents import token_document
from engine.principals import TokenScope
from engine.records import Role
from flows.values import Json
from ui.api.bodies import ExactRoute
from ui.api.models import FlowName, PageOut
from ui.api.openapi import refusals
from ui.api.principals import Pattern
from ui.api.requests import Paging, TheService, page_after
from ui.api.shapes import In, Out

router = APIRouter(prefix="/tokens", tags=["tokens"], route_class=ExactRoute)

_Token = Annotated[str, Path(alias="token_id", pattern="^[a-z0-9]{1,20}$", examples=["k3j9x0q2m5zt"])]


class TokenIn(In):
    """A token to make."""

    name: FlowName = Field(examples=["ci"])
    """Whose it is: a principal."""
    scopes: list[Pattern] = Field(default=["*"], min_length=1, max_length=100, examples=[["runs.start", "flows.*"]])
    """Patterns of the actions that it is for, of those that its principal may do."""
    only_flows: list[Pattern] = Field(default=["*"], min_length=1, max_length=100, examples=[["reports_*"]])
    """Patterns of the flows that it is for."""
    expires_at: AwareDatetime | None = Field(default=None, examples=["2030-01-01T00:00:00Z"])
    """Left out: it doesn't expire."""


class TokenOut(Out):
    """What is known of a token."""

    token_id: str = Field(examples=["k3j9x0q2m5zt"])
    name: str = Field(examples=["ci"])
    role: Role
    workspace: str
    scopes: list[str]
    only_flows: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    disabled_at: datetime | None
    """Since when its principal may not act."""
    last_used_at: datetime | None
    """To the minute."""


class IssuedTokenOut(TokenOut):
    """A new token."""

    token: str = Field(examples=["stp_k3j9x0q2m5zt_…"])
    """Its text, which nobody can read again."""


@router.get("", operation_id="listTokens", response_model=PageOut[TokenOut], responses=refusals())
async def list_tokens(service: TheService, query: Annotated[Paging, Query()]) -> Json:
    """The tokens, the oldest first, those that open nothing any more too; of who isn't an admin, its own."""
    page, following = page_after(await service.tokens(), lambda token: token.id, query)
    return {"items": [token_document(token) for token in page], "next": following}


@router.post(
    "", operation_id="createToken", response_model=IssuedTokenOut, status_code=201, responses=refusals(400, 404)
)
async def create_token(service: TheService, body: TokenIn) -> Json:
    """Make a token of a principal. Its text is in this answer and nowhere else."""
    scope = TokenScope(actions=body.scopes, only_flows=body.only_flows, expires_at=body.expires_at)
    issued = await service.create_token(body.name, scope)
    return {**token_document(issued.record), "token": issued.text}


@router.delete("/{token_id}", operation_id="revokeToken", response_model=TokenOut, responses=refusals(404))
async def revoke_token(service: TheService, token_id: _Token) -> Json:
    """Make a token open nothing from now on; who isn't an admin, one of its own."""
    return token_document(await service.revoke_token(token_id))

"""Tokens: making, listing and revoking them."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from engine.documents import token_document
from flows.values import Json
from ui.api.bodies import ExactRoute
from ui.api.models import IssuedTokenOut, PageOut, TokenIn, TokenOut
from ui.api.openapi import refusals
from ui.api.requests import Paging, TheService, page_after

router = APIRouter(prefix="/tokens", tags=["tokens"], route_class=ExactRoute)

_Token = Annotated[str, Path(alias="token_id", pattern="^[a-z0-9]{1,20}$", examples=["k3j9x0q2m5zt"])]


@router.get("", operation_id="listTokens", response_model=PageOut[TokenOut], responses=refusals())
async def list_tokens(service: TheService, query: Annotated[Paging, Query()]) -> Json:
    """The tokens, the oldest first, those that open nothing any more too."""
    page, following = page_after(await service.tokens(), lambda token: token.id, query)
    return {"items": [token_document(token) for token in page], "next": following}


@router.post("", operation_id="createToken", response_model=IssuedTokenOut, status_code=201, responses=refusals(400))
async def create_token(service: TheService, body: TokenIn) -> Json:
    """Make a token. Its text is in this answer and nowhere else."""
    issued = await service.create_token(body.name, expires_at=body.expires_at)
    return {**token_document(issued.record), "token": issued.text}


@router.delete("/{token_id}", operation_id="revokeToken", response_model=TokenOut, responses=refusals(404))
async def revoke_token(service: TheService, token_id: _Token) -> Json:
    """Make a token open nothing from now on."""
    return token_document(await service.revoke_token(token_id))

"""Secrets: setting, listing and deleting them. No answer has a value."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from engine.documents import key_rotation_document, secret_document
from flows.names import MAX_NAME, NAME
from flows.values import Json
from ui.api.bodies import ExactRoute
from ui.api.models import DeletedOut, KeyRotationIn, KeyRotationOut, PageOut, RotationIn, SecretIn, SecretOut
from ui.api.openapi import refusals
from ui.api.requests import Paging, QueryModel, TheService, page_after

router = APIRouter(prefix="/secrets", tags=["secrets"], route_class=ExactRoute)

key_router = APIRouter(prefix="/secret-key", tags=["secrets"], route_class=ExactRoute)

_Secret = Annotated[str, Path(alias="secret", pattern=f"^{NAME.pattern}$", max_length=MAX_NAME, examples=["hook_key"])]


class DeletionQuery(QueryModel):
    """How much of it."""

    old_only: bool = False
    """Only the value that was kept beside the current one."""


@router.get("", operation_id="listSecrets", response_model=PageOut[SecretOut], responses=refusals())
async def list_secrets(service: TheService, query: Annotated[Paging, Query()]) -> Json:
    """The secrets by name, without their values."""
    page, following = page_after(await service.secrets(), lambda one: one.name, query)
    return {"items": [secret_document(one) for one in page], "next": following}


@router.put("/{secret}", operation_id="setSecret", response_model=SecretOut, responses=refusals(400, 409))
async def set_secret(service: TheService, secret: _Secret, body: SecretIn) -> Json:
    """Set a secret, or give it another value."""
    return secret_document(await service.set_secret(secret, body.value.get_secret_value()))


@router.post("/{secret}/rotate", operation_id="rotateSecret", response_model=SecretOut, responses=refusals(400, 404))
async def rotate_secret(service: TheService, secret: _Secret, body: RotationIn) -> Json:
    """Give a secret another value; the one that it had stays live for a while."""
    value = body.value.get_secret_value()
    return secret_document(await service.rotate_secret(secret, value, overlap=body.overlap))


@key_router.post("/rotate", operation_id="rotateSecretKey", response_model=KeyRotationOut, responses=refusals(400, 409))
async def rotate_secret_key(service: TheService, body: KeyRotationIn) -> Json:
    """Encrypt the secrets of all workspaces by a new key."""
    return key_rotation_document(await service.rotate_secret_key(prepare=body.prepare))


@router.delete("/{secret}", operation_id="deleteSecret", response_model=DeletedOut, responses=refusals(404))
async def delete_secret(service: TheService, secret: _Secret, query: Annotated[DeletionQuery, Query()]) -> Json:
    """Forget a secret, or only its old value."""
    return {"deleted": await service.delete_secret(secret, old_only=query.old_only)}

"""The policy of the workspace: reading and setting it."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from engine.policy_documents import policy_change_document, policy_document
from engine.service import Precondition
from engine.workspace_policy import PolicyVersion
from flows.values import Json
from ui.api.bodies import ExactRoute
from ui.api.models import PageOut
from ui.api.openapi import refusals
from ui.api.requests import Paging, TheService

router = APIRouter(prefix="/policy", tags=["policy"], route_class=ExactRoute)

_ETAG = {"ETag": {"description": "Changes with the version.", "schema": {"type": "string"}}}
_Condition = Annotated[str | None, Header(max_length=1000, pattern=r"^[\x20-\x7e]*$")]


class PolicyIn(BaseModel):
    """A policy to set."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    policy: dict[str, Json] = Field(examples=[{"limits": {"memory": "1GB"}, "networks": ["none", "allow"]}])
    """The document, with units as in flows; what it leaves out is as if nobody had set it."""
    dry_run: StrictBool = False
    """Only say what would change."""


class PolicyOut(BaseModel):
    """A version of the policy."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    workspace: str
    number: int
    """From 1; 0 where nobody has set one."""
    policy: dict[str, Json]
    set_by: str | None
    set_at: datetime | None


class PolicyChangeOut(PolicyOut):
    """What setting the policy did, or would do."""

    previous: int
    """The number of the version that was in force."""
    change: Literal["created", "updated", "unchanged"]
    diff: str
    """Of the documents as YAML, in the unified format."""


@router.get(
    "",
    operation_id="getPolicy",
    response_model=PolicyOut,
    responses={**refusals(), 200: {"headers": _ETAG}, 304: {"description": "It is as you know it."}},
)
async def get_policy(service: TheService, response: Response, if_none_match: _Condition = None) -> Json:
    """The policy in force."""
    version = await service.policy()
    if if_none_match is not None and _etag(version) in _tags(if_none_match, weak=True):
        return Response(status_code=304, headers={"ETag": _etag(version)})
    response.headers["ETag"] = _etag(version)
    return policy_document(version)


@router.put(
    "",
    operation_id="setPolicy",
    response_model=PolicyChangeOut,
    responses={**refusals(400, 412), 200: {"headers": _ETAG}},
)
async def set_policy(service: TheService, body: PolicyIn, response: Response, if_match: _Condition = None) -> Json:
    """Put a policy in force. `If-Match` with its ETag makes sure that nobody has changed it meanwhile."""
    change = await service.set_policy(body.policy, precondition=_precondition(if_match), dry_run=body.dry_run)
    response.headers["ETag"] = _etag(await service.policy() if body.dry_run else change.version)
    return policy_change_document(change)


@router.get("/versions", operation_id="listPolicyVersions", response_model=PageOut[PolicyOut], responses=refusals())
async def list_versions(service: TheService, query: Annotated[Paging, Query()]) -> Json:
    """The versions of the policy, the newest first."""
    page = await service.policy_versions(limit=query.limit, cursor=query.cursor)
    return {"items": [policy_document(one) for one in page.items], "next": page.next}


@router.get("/versions/{version}", operation_id="getPolicyVersion", response_model=PolicyOut, responses=refusals(404))
async def get_version(service: TheService, version: Annotated[int, Path(ge=1, le=2_147_483_647)]) -> Json:
    """A version of the policy."""
    return policy_document(await service.policy_version(version))


def _etag(version: PolicyVersion) -> str:
    return f'"{version.tag}"'


def _tags(header: str, *, weak: bool = False) -> list[str]:
    tags = (tag.strip() for tag in header.split(","))
    return [tag.removeprefix("W/") if weak else tag for tag in tags]


def _precondition(if_match: str | None) -> Precondition | None:
    """What the header asks for; there is always a policy, so ``*`` asks for nothing."""
    if if_match is None or if_match.strip() == "*":
        return None
    return Precondition(tag=if_match.strip().removeprefix('"').removesuffix('"'))

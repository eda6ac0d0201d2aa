"""Flows: applying, reading, disabling and deleting them."""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response

from engine.documents import (
    applied_document,
    detail_document,
    flow_document,
    problem_document,
    upcoming_document,
    version_document,
)
from engine.records import FlowDetail
from engine.service import FlowText, Precondition, Service
from flows.errors import InvalidCallError, InvalidFlowError
from flows.values import Json
from ui.api.bodies import ExactRoute
from ui.api.models import (
    AppliedListOut,
    AppliedOut,
    ApplyIn,
    FlowDetailOut,
    FlowIn,
    FlowOut,
    PageOut,
    UpcomingOut,
    ValidationOut,
    VersionOut,
)
from ui.api.openapi import refusals
from ui.api.requests import FlowPath, NextQuery, Paging, TheService

router = APIRouter(prefix="/flows", tags=["flows"], route_class=ExactRoute)

_ETAG = {"ETag": {"description": "Changes with the version and the state.", "schema": {"type": "string"}}}
_Condition = Annotated[str | None, Header(max_length=1000, pattern=r"^[\x20-\x7e]*$")]


class MisnamedFlowError(InvalidCallError):
    """The text holds another flow than the path names."""

    code = "misnamed_flow"


def text_of(flow: FlowIn, path: str = "flow.yaml") -> FlowText:
    """A flow of a request as the service takes it."""
    return FlowText(text=flow.text.encode(), path=flow.path or path, directory=None, files=flow.files)


@router.get("", operation_id="listFlows", response_model=PageOut[FlowOut], responses=refusals())
async def list_flows(service: TheService, query: Annotated[Paging, Query()]) -> Json:
    """The flows by name, each with its current version and its last run."""
    page = await service.flows(limit=query.limit, cursor=query.cursor)
    return {"items": [flow_document(flow) for flow in page.items], "next": page.next}


@router.post("", operation_id="applyFlows", response_model=AppliedListOut, responses=refusals(400, 404, 409))
async def apply_flows(service: TheService, body: ApplyIn) -> Json:
    """Put flows into service, all of them or none. What is unchanged keeps its version."""
    texts = [text_of(flow, f"flows[{index}]") for index, flow in enumerate(body.flows)]
    return {"items": [applied_document(one) for one in await service.apply(texts, dry_run=body.dry_run)]}


@router.post("/validate", operation_id="validateFlow", response_model=ValidationOut, responses=refusals(400))
async def validate_flow(service: TheService, body: FlowIn) -> Json:
    """Every problem of a flow, each with its place and its fix. Nothing is kept."""
    try:
        definition = service.load(text_of(body))
    except InvalidFlowError as invalid:
        return {"valid": False, "flow": None, "problems": [problem_document(one) for one in invalid.problems]}
    return {"valid": True, "flow": definition.flow.flow, "problems": []}


@router.get(
    "/{flow}",
    operation_id="getFlow",
    response_model=FlowDetailOut,
    responses={**refusals(404), 200: {"headers": _ETAG}, 304: {"description": "It is as you know it."}},
)
async def get_flow(service: TheService, flow: FlowPath, response: Response, if_none_match: _Condition = None) -> Json:
    """A flow with its current version."""
    detail = await service.flow(flow)
    if if_none_match is not None and _etag(detail) in _tags(if_none_match, weak=True):
        return Response(status_code=304, headers={"ETag": _etag(detail)})
    response.headers["ETag"] = _etag(detail)
    return detail_document(detail)


@router.put(
    "/{flow}",
    operation_id="applyFlow",
    response_model=AppliedOut,
    responses={
        **refusals(400, 404, 409, 412),
        200: {"headers": _ETAG},
        201: {"description": "It is new.", "model": AppliedOut, "headers": _ETAG},
    },
)
async def apply_flow(
    *,
    service: TheService,
    flow: FlowPath,
    body: FlowIn,
    response: Response,
    if_match: _Condition = None,
    if_none_match: _Condition = None,
) -> Json:
    """Put a flow into service.

    `If-Match` with its ETag makes sure that nobody changed it meanwhile, `If-None-Match: *` that it is new.
    """
    text = text_of(body)
    held = service.load(text).flow.flow
    if held != flow:
        raise MisnamedFlowError(f"the text holds the flow '{held}'", fix=f"put it to /flows/{held}")
    precondition = await _precondition(service, flow, if_match, if_none_match)
    (applied,) = await service.apply([text], precondition=precondition)
    response.status_code = 201 if applied.change == "created" else 200
    response.headers["ETag"] = _etag(await service.flow(flow))
    return applied_document(applied)


@router.post("/{flow}/enable", operation_id="enableFlow", response_model=FlowDetailOut, responses=refusals(404))
async def enable_flow(service: TheService, flow: FlowPath) -> Json:
    """Let a flow start again."""
    return detail_document(await service.enable_flow(flow, enabled=True))


@router.post("/{flow}/disable", operation_id="disableFlow", response_model=FlowDetailOut, responses=refusals(404))
async def disable_flow(service: TheService, flow: FlowPath) -> Json:
    """Let nothing start a flow, whatever triggers it. Runs that go on do so."""
    return detail_document(await service.enable_flow(flow, enabled=False))


@router.delete("/{flow}", operation_id="deleteFlow", status_code=204, responses=refusals(404))
async def delete_flow(service: TheService, flow: FlowPath) -> None:
    """Forget a flow. Its runs stay, with the versions that they ran."""
    await service.delete_flow(flow)


@router.get("/{flow}/next", operation_id="listUpcoming", response_model=PageOut[UpcomingOut], responses=refusals(404))
async def list_upcoming(service: TheService, flow: FlowPath, query: Annotated[NextQuery, Query()]) -> Json:
    """When the schedules of a flow come due next, the first one first."""
    times = await service.upcoming(flow, count=query.count)
    return {"items": [upcoming_document(time) for time in times], "next": None}


@router.get(
    "/{flow}/versions",
    operation_id="listFlowVersions",
    response_model=PageOut[VersionOut],
    responses=refusals(404),
)
async def list_versions(service: TheService, flow: FlowPath, query: Annotated[Paging, Query()]) -> Json:
    """The versions of a flow, the newest first."""
    page = await service.flow_versions(flow, limit=query.limit, cursor=query.cursor)
    return {"items": [version_document(version) for version in page.items], "next": page.next}


@router.get(
    "/{flow}/versions/{version}", operation_id="getFlowVersion", response_model=VersionOut, responses=refusals(404)
)
async def get_version(
    service: TheService, flow: FlowPath, version: Annotated[int, Path(ge=1, le=2_147_483_647)]
) -> Json:
    """A version of a flow, as it was written."""
    return version_document(await service.flow_version(flow, version))


def _etag(detail: FlowDetail) -> str:
    return f'"{detail.tag}"'


def _tags(header: str, *, weak: bool = False) -> list[str]:
    tags = (tag.strip() for tag in header.split(","))
    return [tag.removeprefix("W/") if weak else tag for tag in tags]


async def _precondition(
    service: Service, flow: str, if_match: str | None, if_none_match: str | None
) -> Precondition | None:
    """What the headers ask for; None where they ask for nothing."""
    if if_none_match is not None:
        if _tags(if_none_match) != ["*"] or if_match is not None:
            raise InvalidCallError("If-None-Match takes only * here", fix="use If-Match with the ETag of the flow")
        return Precondition(tag=None)
    if if_match is None:
        return None
    try:
        current = (await service.flow(flow)).tag
    except InvalidCallError:
        current = ""
    tags = _tags(if_match)
    if current and ("*" in tags or f'"{current}"' in tags):
        return Precondition(tag=current)
    return Precondition(tag=tags[0])

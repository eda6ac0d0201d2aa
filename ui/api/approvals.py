"""Approvals: what runs wait for people to decide, and the decisions."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from engine.documents import approval_detail_document, approval_document
from engine.questions import Decision
from engine.service import Service
from flows.values import Json
from ui.api.approval_models import ApprovalDetailOut, ApprovalOut, DecidedOut, DecideIn, LinkIn, LinkOut
from ui.api.bodies import ExactRoute
from ui.api.models import APPROVAL_ID, RUN_ID, PageOut
from ui.api.openapi import refusals
from ui.api.requests import Paging, TheService

router = APIRouter(prefix="/approvals", tags=["approvals"], route_class=ExactRoute)

_Approval = Annotated[
    str,
    Path(
        alias="approval",
        pattern="^[0-9A-Za-z]{1,26}$",
        description="The approval's id, or enough of its beginning; or that of a run with only one.",
        examples=[APPROVAL_ID],
    ),
]


class ApprovalsQuery(Paging):
    """Which approvals."""

    run: str | None = Field(default=None, pattern="^[0-9A-Za-z]{1,26}$", examples=[RUN_ID])
    """Only those of this run and of its subflows."""
    decided: bool = False
    """Those that are decided, too."""


@router.get("", operation_id="listApprovals", response_model=PageOut[ApprovalOut], responses=refusals(404, 409))
async def list_approvals(service: TheService, query: Annotated[ApprovalsQuery, Query()]) -> Json:
    """What runs wait for people to decide, the newest first. A page may have fewer than `limit` and a `next`."""
    page = await service.approvals(run=query.run, undecided=not query.decided, limit=query.limit, cursor=query.cursor)
    return {"items": [approval_document(one) for one in page.items], "next": page.next}


@router.get("/{approval}", operation_id="getApproval", response_model=ApprovalDetailOut, responses=refusals(404, 409))
async def get_approval(service: TheService, approval: _Approval) -> Json:
    """One question, who was told of it, and whether you may decide it."""
    return approval_detail_document(await service.approval(approval))


@router.post(
    "/{approval}/revoke", operation_id="revokeApproval", response_model=ApprovalOut, responses=refusals(404, 409)
)
async def revoke(service: TheService, approval: _Approval) -> Json:
    """Take back a decision on `network: full` of a flow version, which is then asked for anew."""
    return approval_document(await service.revoke_approval(approval))


@router.post(
    "/{approval}/links", operation_id="linkApproval", response_model=LinkOut, responses=refusals(400, 404, 409)
)
async def link(service: TheService, approval: _Approval, body: LinkIn) -> Json:
    """Make a signed link by which a principal decides without a token. Whoever has it may decide in their name."""
    made = await service.approval_link(approval, body.principal, lasts=body.lasts)
    return {"url": made.url, "principal": made.principal, "expires_at": made.expires_at.isoformat()}


@router.post(
    "/{approval}/approve", operation_id="approve", response_model=DecidedOut, responses=refusals(400, 404, 409)
)
async def approve(service: TheService, approval: _Approval, body: DecideIn) -> Json:
    """Say yes. The run goes on by itself."""
    return await _decide(service, approval, "approved", body)


@router.post("/{approval}/reject", operation_id="reject", response_model=DecidedOut, responses=refusals(400, 404, 409))
async def reject(service: TheService, approval: _Approval, body: DecideIn) -> Json:
    """Say no. The run goes on by itself, where the step that asked fails."""
    return await _decide(service, approval, "rejected", body)


async def _decide(service: Service, approval: str, decision: Decision, body: DecideIn) -> Json:
    decided, run = await service.decide(approval, decision, pairs=body.texts, comment=body.comment, values=body.values)
    return {**approval_document(decided), "resumes": run}

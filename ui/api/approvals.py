"""Approvals: what runs wait for people to decide, and the decisions."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from engine.documents import approval_document
from engine.records import Decision
from engine.service import Service
from flows.values import Json
from ui.api.bodies import ExactRoute
from ui.api.models import APPROVAL_ID, RUN_ID, ApprovalOut, DecidedOut, DecideIn, PageOut
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

"""The audit: who did what, exported and verified."""

import json
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from engine.audit import AuditEntry
from engine.audit_documents import entry_document, verdict_document
from engine.audit_verdict import Fault
from flows.values import Json
from ui.api.bodies import ExactRoute
from ui.api.models import RUN_ID, PageOut
from ui.api.openapi import refusals
from ui.api.requests import Paging, QueryModel, TheService

router = APIRouter(prefix="/audit", tags=["audit"], route_class=ExactRoute)

_EXAMPLE = "2026-05-01T08:00:00Z"
LINES = "application/x-ndjson"
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ActorOut(_Model):
    """Who acted."""

    name: str
    kind: str
    token: str | None = None
    door: str | None = None
    address: str | None = None


class TargetOut(_Model):
    """What it was done to."""

    kind: str
    id: str


class AuditEntryOut(_Model):
    """An entry. `hash` and `seal` are of the canonical JSON of all the rest."""

    format: int
    workspace: str
    number: int
    at: AwareDatetime
    actor: ActorOut
    action: str
    target: TargetOut | None
    run: str | None
    outcome: Literal["succeeded", "failed", "cancelled", "refused"]
    details: dict[str, Any]
    previous: str
    key: str
    hash: str
    seal: str


class AuditProblemOut(_Model):
    """The first thing that is wrong with a chain."""

    fault: Fault
    number: int
    message: str


class AuditVerdictOut(_Model):
    """What looking at a chain came to."""

    workspace: str
    entries: int
    first: int
    last: int
    checkpoint: str | None
    problem: AuditProblemOut | None
    notes: list[str]


class VerifyIn(_Model):
    """From where on to look."""

    since: list[Annotated[str, Field(max_length=200)]] = Field(default_factory=list, max_length=1000)
    """Checkpoints of earlier answers, one for a workspace."""


def _written_out(value: object) -> object:
    if isinstance(value, str) and not _TIME.match(value):
        raise ValueError("write it as in RFC 3339: 2026-05-01T08:00:00Z")
    return value


_Since = Annotated[AwareDatetime, BeforeValidator(_written_out)]
"""A time, which pydantic would also read from a number."""


class AuditQuery(Paging):
    """Which entries."""

    actor: str | None = Field(
        default=None, max_length=100, description="Only what this principal did.", examples=["ann"]
    )
    action: str | None = Field(
        default=None,
        pattern=r"^[a-z_.]{1,100}$",
        description="Only this, or with a dot at its end all that begin so.",
        examples=["secret."],
    )
    since: _Since | None = Field(default=None, description="Only what was done since.", examples=[_EXAMPLE])
    run: str | None = Field(
        default=None, pattern="^[0-9A-Za-z]{1,26}$", description="Only what concerns this run.", examples=[RUN_ID]
    )


class ExportQuery(QueryModel):
    """Which entries."""

    since: _Since | None = Field(default=None, description="Only those since.", examples=[_EXAMPLE])


@router.get(
    "",
    operation_id="listAudit",
    response_model=PageOut[AuditEntryOut],
    response_model_exclude_unset=True,
    responses=refusals(),
)
async def list_audit(service: TheService, query: Annotated[AuditQuery, Query()]) -> Json:
    """Who did what, the newest first."""
    page = await service.audit(
        actor=query.actor,
        action=query.action,
        since=query.since,
        run=query.run,
        limit=query.limit,
        cursor=query.cursor,
    )
    return {"items": [entry_document(entry) for entry in page.items], "next": page.next}


@router.get(
    "/export",
    operation_id="exportAudit",
    response_class=StreamingResponse,
    responses={**refusals(), 200: {"content": {LINES: {"schema": {"type": "string"}}}}},
)
async def export_audit(service: TheService, query: Annotated[ExportQuery, Query()]) -> StreamingResponse:
    """All entries, the oldest first: a JSON object a line."""
    return StreamingResponse(_lines(await service.export_audit(since=query.since)), media_type=LINES)


@router.post(
    "/verify", operation_id="verifyAudit", response_model=PageOut[AuditVerdictOut], responses=refusals(400, 415)
)
async def verify_audit(service: TheService, body: VerifyIn) -> Json:
    """Look whether the audit is what it was. The answer comes when that is done."""
    return {"items": [verdict_document(one) for one in await service.verify_audit(body.since)], "next": None}


async def _lines(entries: AsyncIterator[AuditEntry]) -> AsyncIterator[str]:
    async for entry in entries:
        yield json.dumps(entry_document(entry), ensure_ascii=False, separators=(",", ":")) + "\n"

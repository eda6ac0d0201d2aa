"""Events that came in: what became of each, and trying once more what is dead."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from engine.deliveries import DeliveryStatus
from engine.documents import delivery_document, event_document
from flows.values import Json
from ui.api.bodies import ExactRoute
from ui.api.models import EVENT_ID, DeliveryOut, EventOut, FlowName, PageOut
from ui.api.openapi import refusals
from ui.api.requests import FlowPath, Paging, TheService

router = APIRouter(tags=["events"], route_class=ExactRoute)

_Event = Annotated[
    str,
    Path(
        alias="event",
        pattern="^[0-9A-Za-z]{1,26}$",
        description="The event's id, or enough of its beginning; or the id of one of its deliveries.",
        examples=[EVENT_ID],
    ),
]


class EventsQuery(Paging):
    """Which events."""

    flow: FlowName | None = Field(default=None, description="Only those that concern a trigger of this flow.")
    status: DeliveryStatus | None = Field(
        default=None, description="Only those of which that has become somewhere.", examples=["dead"]
    )


@router.get("/events", operation_id="listEvents", response_model=PageOut[EventOut], responses=refusals())
async def list_events(service: TheService, query: Annotated[EventsQuery, Query()]) -> Json:
    """What came in, the newest first, each with what became of it at every trigger that it concerns."""
    page = await service.events(flow=query.flow, status=query.status, limit=query.limit, cursor=query.cursor)
    return {"items": [event_document(each) for each in page.items], "next": page.next}


@router.get("/events/{event}", operation_id="getEvent", response_model=EventOut, responses=refusals(404, 409))
async def get_event(service: TheService, event: _Event) -> Json:
    """An event with its data, and what became of it."""
    return event_document(await service.event(event))


@router.post(
    "/events/{event}/redrive",
    operation_id="redriveEvent",
    response_model=PageOut[DeliveryOut],
    responses=refusals(404, 409),
)
async def redrive_event(service: TheService, event: _Event) -> Json:
    """Try what is dead of an event once more, with the versions that the flows have now."""
    return {"items": [delivery_document(each) for each in await service.redrive(event)], "next": None}


@router.post(
    "/flows/{flow}/redrive",
    operation_id="redriveFlow",
    response_model=PageOut[DeliveryOut],
    responses=refusals(404, 409),
)
async def redrive_flow(service: TheService, flow: FlowPath) -> Json:
    """Try all that is dead of a flow once more, with the version that it has now."""
    return {"items": [delivery_document(each) for each in await service.redrive_flow(flow)], "next": None}

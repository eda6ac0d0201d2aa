"""What other systems send: requests to webhooks, which prove by themselves who they are from, and CloudEvents."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request
from starlette.responses import JSONResponse

from engine.documents import accepted_document
from engine.service import RejectedError, SentRequest
from flows.values import Json
from ui.api.models import HookOut, SentEventsOut
from ui.api.openapi import problem_response, refusals
from ui.api.requests import TheServing

router = APIRouter(tags=["webhooks"])
events = APIRouter(tags=["events"])

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_REFUSED: Final = {
    400: "The body, the query or a header isn't what it says.",
    401: "The request isn't verified, too old, or from the future.",
    404: "There is no webhook of that path.",
    405: "The webhook takes other methods.",
    413: "The body is larger than the webhook takes.",
    415: "The body is compressed, or in an encoding that isn't taken.",
    429: "More requests came than the webhook's rate takes.",
    431: "The headers are too large.",
    500: "The run has failed, of a webhook that answers with what it comes to.",
    503: "The service shuts down, its database is gone for now, or the webhook can't verify requests.",
}
_RUN: Final = {"Location": {"description": "Where the run is.", "schema": {"type": "string"}}}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    **{status: problem_response(meaning) for status, meaning in _REFUSED.items()},
    200: {
        "description": "What the run has come to, where the webhook answers with that.",
        "content": {"application/json": {"schema": {}}},
        "headers": _RUN,
    },
    202: {
        "description": "It is kept, and never lost. `run` is null until it has started one.",
        "model": HookOut,
        "headers": _RUN,
    },
    "default": {"description": "An answer that the flow makes (`respond`).", "content": {"application/json": {}}},
}
_EVENT: Final = {"specversion": "1.0", "id": "1042", "source": "/shop", "type": "order.created", "data": {"n": 1}}
_SENT: Final = {
    "requestBody": {
        "required": True,
        "description": "One event, or up to 1,000: all of them are kept, or none. In the binary mode the attributes "
        "are `ce-` headers and the body is the data, of any content type.",
        "content": {
            "application/cloudevents+json": {
                "schema": {"type": "object", "required": ["specversion", "id", "source", "type"]},
                "example": _EVENT,
            },
            "application/cloudevents-batch+json": {
                "schema": {"type": "array", "items": {"type": "object"}},
                "example": [_EVENT],
            },
        },
    }
}


async def take_hook(
    serving: TheServing,
    request: Request,
    hook: Annotated[str, Path(description="The webhook's path, after its workspace's name but in the default one.")],
) -> JSONResponse:
    """Send something to a webhook. It proves who it is from as the webhook asks; there is no token.

    A message that comes again is answered as it was the first time.
    """
    answer = await serving.take_hook(hook, await _sent(request, serving.largest_body(hook)))
    return JSONResponse(answer.body, answer.status, dict(answer.headers))


for _method in _METHODS:
    router.add_api_route(
        "/hooks/{hook:path}",
        take_hook,
        methods=[_method],
        operation_id=f"takeHook{_method.title()}",
        response_class=JSONResponse,
        responses=_RESPONSES,
    )


@events.post(
    "/events",
    operation_id="sendEvents",
    status_code=202,
    response_model=SentEventsOut,
    responses=refusals(400, 413, 415),
    openapi_extra=_SENT,
)
async def send_events(serving: TheServing, request: Request) -> Json:
    """Send CloudEvents 1.0: structured, batched, or binary.

    One that was sent before, by its `source` and `id`, starts nothing more.
    """
    sent = await serving.take_events(request.state.principal, await _sent(request, None))
    return {"items": [accepted_document(each) for each in sent]}


async def _sent(request: Request, largest: int | None) -> SentRequest:
    """The request with its body, of which no more is received than may be."""
    if largest is not None and int(request.headers.get("content-length") or 0) > largest:
        raise _too_large(largest)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if largest is not None and len(body) > largest:
            raise _too_large(largest)
    return SentRequest(
        method=request.method,
        headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw],
        query=request.scope["query_string"].decode("latin-1"),
        body=bytes(body),
    )


def _too_large(largest: int) -> RejectedError:
    message = f"the body is larger than {largest:,} bytes"
    return RejectedError(message, status=413, reason="body_too_large", fix="send less")

"""A run as it happens: server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse

from engine.documents import attempt_document, line_document, run_document
from engine.records import LogLine, RunSummary
from engine.service import RunEvent
from ui.api.openapi import refusals
from ui.api.requests import RunPath, TheService

router = APIRouter(tags=["runs"])

KEEP_ALIVE = 15.0
"""Seconds without an event after which a comment says that the connection is alive."""

LAST_WORDS = 1.5
"""Seconds in which a stream may still tell of what has ended once the service ends."""

_EXAMPLE = (
    'id: 12-1764039124000\nevent: log\ndata: {"step": "hello", "item": null, "attempt": 1, "stream": "stdout", '
    '"line": "hello world", "at": "2025-11-25T03:12:04+00:00"}\n\n'
)


@router.get(
    "/runs/{run}/events",
    operation_id="followRun",
    response_class=StreamingResponse,
    responses={
        **refusals(404, 409),
        200: {
            "description": "`run`, `step` and `log` events until the run has ended. A line comes once, an attempt when "
            "it begins and when it ends; after a reconnection the last attempts may come again.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        204: {"description": "The run has ended, and its last event was the one you name: don't ask again."},
    },
)
async def follow_run(
    request: Request,
    service: TheService,
    run: RunPath,
    last_event_id: Annotated[
        str | None, Header(max_length=100, pattern=r"^[\x21-\x7e]*$", description="The id of the last event you have.")
    ] = None,
) -> Response:
    """What happens in a run, as it happens."""
    events = await service.follow(run, after=last_event_id or None)
    if last_event_id is not None and last_event_id.endswith("-end"):
        return Response(status_code=204)
    closing: asyncio.Event = request.app.state.closing
    return StreamingResponse(
        _stream(events, closing), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


async def _stream(events: AsyncIterator[RunEvent], closing: asyncio.Event) -> AsyncIterator[str]:
    """The events as text, until they end or the service does."""
    loop = asyncio.get_running_loop()
    closed = asyncio.ensure_future(closing.wait())
    coming: asyncio.Future[RunEvent] | None = None
    until: float | None = None
    try:
        while until is None or loop.time() < until:
            coming = coming or asyncio.ensure_future(anext(events))
            if closed.done():
                until = until or loop.time() + LAST_WORDS
                await asyncio.wait({coming}, timeout=max(0.0, until - loop.time()))
            else:
                both: set[asyncio.Future[Any]] = {coming, closed}
                await asyncio.wait(both, timeout=KEEP_ALIVE, return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                event, coming = coming.result(), None
                yield _text(event)
            elif not closed.done():
                yield ": alive\n\n"
    except StopAsyncIteration:
        return
    finally:
        closed.cancel()
        if coming is not None:
            coming.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await coming


def _text(event: RunEvent) -> str:
    what = event.what
    if isinstance(what, LogLine):
        name, document = "log", line_document(what)
    elif isinstance(what, RunSummary):
        name, document = "run", run_document(what)
    else:
        name, document = "step", attempt_document(what, result=False)
    return f"id: {event.position}\nevent: {name}\ndata: {json.dumps(document)}\n\n"

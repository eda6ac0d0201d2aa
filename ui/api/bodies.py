"""Bodies of requests: JSON that is kept exactly, or refused, as everywhere in Stepbox."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from flows.inputs import parse_json
from flows.values import Json


class ExactRequest(Request):
    """A request whose JSON has no number that isn't one, no half characters, and no more depth than inputs may have."""

    async def json(self) -> Json:
        """The body; see :func:`flows.inputs.parse_json` for what it raises."""
        return parse_json(await self.body())


class ExactRoute(APIRoute):
    """A route whose body is read exactly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_exactly(request: Request) -> Response:
            return await handle(ExactRequest(request.scope, request.receive))

        return handle_exactly

"""What every request passes: who asks, how much may be sent, which headers answers carry, and what is counted."""

import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from ulid import ULID

from engine import log_context, trace_context
from engine.requests import AnsweredRequest
from engine.service import Serving
from flows.errors import StepboxError
from ui.api import problems

_log = logging.getLogger("stepbox.http")

PREFIX: Final = "/api/v1"
"""What the paths of the API begin with."""
OPEN: Final = frozenset({"/healthz", "/readyz"})
"""Paths that need no token."""
LINKS: Final = "/decide/"
"""What the paths of signed links begin with. Their tokens are the authority: they need no other; no log has them."""
SELF_VERIFYING: Final = "/hooks/"
"""What the paths of requests begin with that prove by themselves who they are from, and limit their bodies."""

UNTRACED: Final = frozenset({"/metrics"})
"""Paths that are asked for so often that their spans, as those of health, would only hide the others."""
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:@/+=-]{1,128}")
"""Request ids that are taken as they come: of characters that mean nothing to any log or terminal."""

_HEADERS: Final = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
_NOT_KEPT: Final = (b"cache-control", b"no-store")
_SCHEME: Final = "bearer "


class Guard:
    """Middleware around the whole app. It leaves the principal in the request's state.

    ``open_paths`` need no token.
    """

    def __init__(self, app: ASGIApp, *, serving: Serving, max_body: int, open_paths: Iterable[str] = OPEN) -> None:
        self._app = app
        self._serving = serving
        self._max_body = max_body
        self._open = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        request_id = _request_id(headers.get(b"x-request-id"))
        traced = scope["path"] not in self._open and scope["path"] not in UNTRACED
        trace = self._serving.trace(headers.get(b"traceparent")) if traced else None
        facts = {"request_id": request_id, "trace_id": None if trace is None else trace.trace_id}
        with log_context.about(**facts), trace_context.within(trace):
            await self._answer(scope, receive, _Answer(send, request_id), headers)

    async def _answer(self, scope: Scope, receive: Receive, answer: "_Answer", headers: Mapping[bytes, str]) -> None:
        came_at, begun = datetime.now(UTC), time.perf_counter()
        try:
            await self._pass(scope, receive, answer, headers)
        except Exception:
            _log.exception("a request failed inside Stepbox", extra={"path": _shown_path(scope)})
            if answer.status is not None:
                raise
            failed = problems.problem(500, "internal_error", "Stepbox failed", fix="report this as a bug")
            await failed(scope, receive, answer)
        finally:
            request = AnsweredRequest(
                id=answer.request_id,
                method=scope["method"],
                scheme=scope.get("scheme", "http"),
                path=_shown_path(scope),
                route=_route(scope),
                status=answer.status or 0,
                came_at=came_at,
                seconds=time.perf_counter() - begun,
                traceparent=headers.get(b"traceparent"),
            )
            self._count(scope, request)

    async def _pass(self, scope: Scope, receive: Receive, send: "_Answer", headers: Mapping[bytes, str]) -> None:
        verifies_itself = scope["path"].startswith(SELF_VERIFYING)
        is_open = scope["path"] in self._open or scope["path"].startswith(LINKS)
        if not verifies_itself and not is_open:
            try:
                scope.setdefault("state", {})["principal"] = await self._principal(
                    headers.get(b"authorization"), scope.get("client")
                )
            except StepboxError as error:
                await problems.of_error(error)(scope, receive, send)
                return
        if verifies_itself:
            await self._app(scope, receive, send)
            return
        length = headers.get(b"content-length", "0")
        if not length.isdecimal() or int(length) > self._max_body:
            refused = problems.problem(413, "body_too_large", _too_large(self._max_body), fix="send less")
            await refused(scope, receive, send)
            return
        await self._app(scope, _limited(receive, self._max_body), send)

    async def _principal(self, header: str | None, client: tuple[str, int] | None) -> object:
        text = (header or "").strip()
        token = text[len(_SCHEME) :].strip() if text.lower().startswith(_SCHEME) else ""
        return await self._serving.authenticate(token, None if client is None else client[0])

    def _count(self, scope: Scope, request: AnsweredRequest) -> None:
        self._serving.requested(request)
        principal = scope.get("state", {}).get("principal")
        _log.log(
            logging.DEBUG if scope["path"] in self._open else logging.INFO,
            "request",
            extra={
                "method": request.method,
                "path": request.path,
                "status": request.status,
                "ms": round(request.seconds * 1000, 1),
                "principal": getattr(principal, "name", None),
            },
        )


def _shown_path(scope: Scope) -> str:
    """The path of a request as a log may have it."""
    path: str = scope["path"]
    return f"{LINKS}…" if path.startswith(LINKS) else path


class _Answer:
    """Sends an answer with the headers that all have, and knows its status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = {name for name, _value in message["headers"]}
            more = (*_HEADERS, _NOT_KEPT, (b"x-request-id", self.request_id.encode()))
            message = {**message, "headers": [*message["headers"], *(one for one in more if one[0] not in given)]}
        await self._send(message)


def _route(scope: Scope) -> str | None:
    """The path of the route that was found, with names for what varies."""
    path = getattr(scope.get("route"), "path_format", None)
    below = path is not None and scope["path"].startswith(f"{PREFIX}/")
    return f"{PREFIX}{path}" if below else path


def _request_id(given: str | None) -> str:
    """The id of a request: what it came with, or a new one where that is none."""
    return given if given is not None and _REQUEST_ID.fullmatch(given) else str(ULID())


def _limited(receive: Receive, limit: int) -> Callable[[], Awaitable[Message]]:
    """Receives a body up to a limit, whatever its header said."""
    received = 0

    async def receive_some() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise HTTPException(413, _too_large(limit))
        return message

    return receive_some


def _too_large(limit: int) -> str:
    return f"the body is larger than {limit:,} bytes"

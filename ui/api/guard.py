"""What every request passes: who asks, how much may be sent, which headers answers carry, and what is counted."""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.service import Serving
from flows.errors import StepboxError
from ui.api import problems

_log = logging.getLogger("stepbox.http")

OPEN: Final = frozenset({"/healthz", "/readyz"})
"""Paths that need no token."""
LINKS: Final = "/decide/"
"""What the paths of signed links begin with. Their tokens are the authority: they need no other; no log has them."""
SELF_VERIFYING: Final = "/hooks/"
"""What the paths of requests begin with that prove by themselves who they are from, and limit their bodies."""

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
        answer = _Answer(send)
        begun = time.perf_counter()
        try:
            await self._pass(scope, receive, answer)
        except Exception:
            _log.exception("a request failed inside Stepbox", extra={"path": _shown_path(scope)})
            if answer.status is not None:
                raise
            failed = problems.problem(500, "internal_error", "Stepbox failed", fix="report this as a bug")
            await failed(scope, receive, answer)
        finally:
            self._count(scope, answer.status or 0, time.perf_counter() - begun)

    async def _pass(self, scope: Scope, receive: Receive, send: "_Answer") -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        verifies_itself = scope["path"].startswith(SELF_VERIFYING)
        is_open = scope["path"] in self._open or scope["path"].startswith(LINKS)
        if not verifies_itself and not is_open:
            try:
                scope.setdefault("state", {})["principal"] = await self._principal(headers.get(b"authorization"))
            except StepboxError as error:
                await problems.of_error(error)(scope, receive, send)
                return
        if verifies_itself:
            await self._app(scope, receive, send)
            return
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._max_body:
            refused = problems.problem(413, "body_too_large", _too_large(self._max_body), fix="send less")
            await refused(scope, receive, send)
            return
        await self._app(scope, _limited(receive, self._max_body), send)

    async def _principal(self, header: bytes | None) -> object:
        text = (header or b"").decode("latin-1").strip()
        token = text[len(_SCHEME) :].strip() if text.lower().startswith(_SCHEME) else ""
        return await self._serving.authenticate(token)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self._serving.requested(scope["method"], route, status, seconds)
        principal = scope.get("state", {}).get("principal")
        _log.log(
            logging.DEBUG if scope["path"] in self._open else logging.INFO,
            "request",
            extra={
                "method": scope["method"],
                "path": _shown_path(scope),
                "status": status,
                "ms": round(seconds * 1000, 1),
                "principal": getattr(principal, "name", None),
            },
        )


def _shown_path(scope: Scope) -> str:
    """The path of a request as a log may have it."""
    path: str = scope["path"]
    return f"{LINKS}…" if path.startswith(LINKS) else path


class _Answer:
    """Sends an answer with the headers that all have, and knows its status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = {name for name, _value in message["headers"]}
            more = (*_HEADERS, _NOT_KEPT)
            message = {**message, "headers": [*message["headers"], *(one for one in more if one[0] not in given)]}
        await self._send(message)


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

"""Errors as RFC 9457 problem documents: the one place where the API translates them."""

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from engine import log_context
from engine.documents import problem_document
from engine.service import RejectedError
from flows.errors import InvalidFlowError, StepboxError
from flows.values import Json

_log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER: Final = 5
"""Seconds after which what a 503 answered is worth another request."""

_STATUS: Final[Mapping[str, int]] = {
    "unauthenticated": 401,
    "forbidden": 403,
    "not_an_approver": 403,
    "own_approval": 403,
    "invalid_link": 404,
    "link_expired": 410,
    "not_revocable": 409,
    "unknown_flow": 404,
    "unknown_record": 404,
    "unknown_secret": 404,
    "already_decided": 409,
    "not_redrivable": 409,
    "already_finished": 409,
    "ambiguous_id": 409,
    "part_of_run": 409,
    "not_retryable": 409,
    "flow_disabled": 409,
    "too_many_runs": 409,
    "name_taken": 409,
    "last_admin": 409,
    "workspace_in_use": 409,
    "precondition_failed": 412,
    "not_resumable": 409,
    "run_driven": 409,
    "all_driven": 503,
    "artifacts_unavailable": 503,
    "shutting_down": 503,
    "store_unavailable": 503,
}
"""Statuses by the codes of errors. Of others, those of the call are 422 and the rest are ours: 500."""

_CALL: Final = (2, 3)
"""Exit statuses of errors that the caller can do something about."""

_CODES: Final = {400: "unreadable_request", 404: "unknown_path", 405: "wrong_method", 413: "body_too_large"}


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    fix: str | None = None,
    problems: list[Json] | None = None,
    exit_status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem document as an answer. Its type is relative, ``/problems/CODE``: the code is what stays the same."""
    document: dict[str, Json] = {
        "type": f"/problems/{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "fix": fix,
        "request_id": log_context.facts().get("request_id"),
    }
    if exit_status is not None:
        document["exit_status"] = exit_status
    if problems is not None:
        document["problems"] = problems
    more = {"Retry-After": str(RETRY_AFTER)} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    if status == HTTPStatus.UNAUTHORIZED:
        more["WWW-Authenticate"] = 'Bearer realm="stepbox"'
    # In ASCII: what is quoted from a request may be half a character.
    return Response(json.dumps(document), status, {**more, **(headers or {})}, MEDIA_TYPE)


def of_error(error: StepboxError) -> Response:
    """An error of ours."""
    if isinstance(error, RejectedError):
        return problem(error.status, error.reason, error.message, fix=error.fix, headers=error.headers)
    status = _STATUS.get(error.code)
    if status is None:
        status = 422 if error.exit_status in _CALL else 500
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.warning("answered %d: %s", status, error)
    if isinstance(error, InvalidFlowError):
        count = len(error.problems)
        found: list[Json] = [problem_document(one) for one in error.problems]
        detail = f"the flow has {count} problem{'' if count == 1 else 's'}"
        return problem(status, error.code, detail, fix="see `problems`", problems=found, exit_status=2)
    return problem(status, error.code, error.message, fix=error.fix, exit_status=error.exit_status)


def install(app: FastAPI) -> None:
    """Let the app answer with problem documents, whatever goes wrong."""

    @app.exception_handler(StepboxError)
    async def _ours(_request: Request, error: StepboxError) -> Response:
        return of_error(error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> Response:
        found: list[Json] = [
            {"at": ".".join(str(part) for part in one["loc"]), "message": one["msg"]} for one in error.errors()
        ]
        if any(one["type"] == "json_invalid" for one in error.errors()):
            return problem(400, _CODES[400], f"the body is not JSON: {found[0]['message']}", fix="send JSON")
        return problem(422, "invalid_request", "the request is not as described", fix="see `problems`", problems=found)

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, StepboxError):
            # What FastAPI makes of an error of ours while it reads a body.
            return of_error(error.__cause__)
        code = _CODES.get(error.status_code, "http_error")
        return problem(error.status_code, code, str(error.detail), headers=error.headers)

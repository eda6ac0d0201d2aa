"""What the OpenAPI document says besides what FastAPI finds: problem responses, the token, what the API is."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.security import HTTPBearer

from flows.values import Json
from ui.api.examples import example_of
from ui.api.models import RUN_ID, ProblemOut
from ui.api.problems import MEDIA_TYPE, RETRY_AFTER

BEARER: Final = HTTPBearer(
    auto_error=False, scheme_name="token", bearerFormat="stp_…", description="`stepbox tokens create NAME` makes one."
)
"""Only describes: the guard asks for the token before anything else is looked at."""

_MEANINGS: Final[Mapping[int, str]] = {
    400: "The body can't be read.",
    401: "There is no token, or it is not valid.",
    403: "The role of the token's principal, its grants or the token's scope don't allow it.",
    404: "There is no such thing.",
    409: "What there is doesn't allow it in its state.",
    412: "It isn't as the precondition says.",
    413: "The body is too large.",
    415: "The content type isn't taken.",
    422: "What is asked for is wrong, or can't be had here.",
    503: "The service shuts down, or its database is gone for now.",
}
_ALWAYS: Final = (401, 403, 413, 422, 503)
_DESCRIPTION: Final = """
Stepbox runs automations whose every code step executes in its own single-use sandbox.

Every request but those of health and to webhooks carries `Authorization: Bearer TOKEN`. Errors are
[RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problem documents with a stable `code` and, mostly, a `fix`.
Listings answer `{"items": […], "next": cursor}`; times are ISO 8601.
"""


def _header(description: str, example: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}, "example": example}


_REQUEST_ID: Final = _header("The request's id: as it came, or made for it. The service's log has it.", RUN_ID)
_MORE_HEADERS: Final[Mapping[str, dict[str, Any]]] = {
    "401": {"WWW-Authenticate": _header("How to say who asks.", 'Bearer realm="stepbox"')},
    "503": {"Retry-After": _header("Seconds after which another request is worth it.", str(RETRY_AFTER))},
}
_PARAMETERS: Final[Mapping[str, Json]] = {
    "cursor": "01K6ZQ4T5N8W0Q2M4R6X8Y0A1B",
    "flow": "greet",
    "step": "hello",
    "version": 3,
    "hook": "orders",
    "idempotency-key": "order-1042",
    "if-match": '"3-9f86d081884c7d65-enabled"',
    "if-none-match": '"3-9f86d081884c7d65-enabled"',
    "if-range": '"9f86d081884c7d65"',
    "range": "bytes=0-1023",
    "last-event-id": "12-1764039124000",
}
"""Examples of parameters that have none where they are declared, since what declares them is used for others, too."""


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problem responses of a route: those that all have, and these."""
    return {status: problem_response(_MEANINGS[status]) for status in sorted({*_ALWAYS, *statuses})}


def problem_response(description: str) -> dict[str, Any]:
    """The response of a status that is answered with a problem document."""
    schema = {"$ref": "#/components/schemas/ProblemOut"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


def _complete(operation: dict[str, Any]) -> None:
    """Add what all operations have: examples of what is sent, and the headers of every answer."""
    _illustrate(operation.get("requestBody", {}))
    for parameter in operation.get("parameters", ()):
        example = _PARAMETERS.get(parameter["name"].lower())
        if example is not None and "examples" not in parameter["schema"]:
            parameter.setdefault("example", example)
    for status, response in operation["responses"].items():
        _illustrate(response)
        headers = response.setdefault("headers", {})
        headers["X-Request-ID"] = _REQUEST_ID
        if status in _MORE_HEADERS:
            headers.update(_MORE_HEADERS[status])


def _illustrate(sent: dict[str, Any]) -> None:
    for media_type, content in sent.get("content", {}).items():
        reference = content.get("schema", {}).get("$ref")
        if media_type == "application/json" and reference is not None and "example" not in content:
            content["example"] = example_of(reference.rpartition("/")[2])


def describe(app: FastAPI) -> None:
    """Let the app give the whole document; it is made once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title="Stepbox", version=version("stepbox"), description=_DESCRIPTION, routes=app.routes
            )
            document["components"]["schemas"]["ProblemOut"] = ProblemOut.model_json_schema()
            for operations in document["paths"].values():
                for operation in operations.values():
                    _complete(operation)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]

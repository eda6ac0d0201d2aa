"""What the OpenAPI document says besides what FastAPI finds: problem responses, the token, what the API is."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.security import HTTPBearer

from ui.api.models import ProblemOut
from ui.api.problems import MEDIA_TYPE

BEARER: Final = HTTPBearer(
    auto_error=False, scheme_name="token", bearerFormat="stp_…", description="`stepbox tokens create NAME` makes one."
)
"""Only describes: the guard asks for the token before anything else is looked at."""

_MEANINGS: Final[Mapping[int, str]] = {
    400: "The body can't be read.",
    401: "There is no token, or it is not valid.",
    403: "The role of the token's principal doesn't allow it.",
    404: "There is no such thing.",
    409: "What there is doesn't allow it in its state.",
    412: "The flow isn't as the precondition says.",
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


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problem responses of a route: those that all have, and these."""
    return {status: problem_response(_MEANINGS[status]) for status in sorted({*_ALWAYS, *statuses})}


def problem_response(description: str) -> dict[str, Any]:
    """The response of a status that is answered with a problem document."""
    schema = {"$ref": "#/components/schemas/ProblemOut"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


def describe(app: FastAPI) -> None:
    """Let the app give the whole document; it is made once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title="Stepbox", version=version("stepbox"), description=_DESCRIPTION, routes=app.routes
            )
            schemas = document["components"]["schemas"]
            schemas["ProblemOut"] = ProblemOut.model_json_schema()
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]

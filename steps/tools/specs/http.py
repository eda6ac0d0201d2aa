"""``http.*``: requests to servers."""

from collections.abc import Mapping
from typing import Final

from flows.contracts import Nature, ToolSpec
from flows.values import Json
from steps.tools.specs.shapes import arguments, text

_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_IDEMPOTENT: Final = frozenset({*_READS, "PUT", "DELETE"})
"""RFC 9110, section 9.2.2."""


def nature(given: Mapping[str, Json]) -> Nature:
    """What HTTP says of the method, unless the caller says more of this server."""
    method = given.get("method", "GET")
    keyed = any(name.lower() == "idempotency-key" for name in given.get("headers", {}))
    idempotent = given.get("idempotent", keyed or method in _IDEMPOTENT)
    return Nature(effect="read" if method in _READS else "write", idempotent=idempotent)


SPECS: Final = (
    ToolSpec(
        name="http.request",
        description="Make one HTTP request. Only servers on the public Internet, and those that the administrator "
        "lists, can be reached. The response's body may have 1 MB.",
        arguments={
            **arguments(
                {
                    "url": text("An http or https URL, without a user or password in it.", non_empty=True),
                    "method": {
                        "enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
                        "default": "GET",
                        "description": "The request method.",
                    },
                    "headers": {
                        "type": "object",
                        "additionalProperties": {"type": "string"},
                        "description": "Request headers by name.",
                    },
                    "query": {
                        "type": "object",
                        "additionalProperties": {
                            "anyOf": [
                                {"type": ["string", "number", "boolean"]},
                                {"type": "array", "items": {"type": ["string", "number", "boolean"]}},
                            ]
                        },
                        "description": "Added to the URL's query; a list gives its name several times.",
                    },
                    "json": {"description": "Sent as the body, as JSON."},
                    "body": text("Sent as the body, as it is."),
                    "timeout": {
                        "type": "number",
                        "exclusiveMinimum": 0,
                        "maximum": 300,
                        "default": 30,
                        "description": "Seconds for all of it, redirects included.",
                    },
                    "follow_redirects": {
                        "type": "boolean",
                        "default": True,
                        "description": "Follow up to 5 redirects; each is checked like the first request.",
                    },
                    "fail_on_error": {
                        "type": "boolean",
                        "default": False,
                        "description": "Let the call fail where the response's status is 400 or above.",
                    },
                    "fail_on_status": {
                        "type": "array",
                        "items": {"type": "integer", "minimum": 100, "maximum": 599},
                        "description": "Let the call fail where the response's status is one of these: those that "
                        "are worth a `retry`, such as 429 and 503.",
                    },
                    "idempotent": {
                        "type": "boolean",
                        "description": "Whether making the request twice is as making it once, as where the server "
                        "honours the `Idempotency-Key`: then it is made again where a crash left its outcome unknown. "
                        "Left out: true for all methods but POST and PATCH, and for these with an `Idempotency-Key` "
                        "among the headers.",
                    },
                },
                "url",
            ),
            "not": {"required": ["json", "body"]},
        },
        result={
            "type": "object",
            "properties": {
                "status": {"type": "integer"},
                "url": {"type": "string", "description": "The last one, after redirects."},
                "headers": {"type": "object", "additionalProperties": {"type": "string"}},
                "json": {"description": "The body, where it is JSON."},
                "body": {"type": "string", "description": "The body, where it isn't JSON."},
                "encoding": {"enum": ["text", "base64"], "description": "Of `body`: base64 where it isn't text."},
            },
            "required": ["status", "url", "headers"],
            "oneOf": [{"required": ["json"]}, {"required": ["body", "encoding"]}],
        },
        effect="write",
        nature_of=nature,
    ),
)

"""The body of a request as a JSON value, by its content type.

| content type | value |
|---|---|
| none, and no body | null |
| ``application/json``, ``*/*+json`` | the JSON value, strictly |
| ``application/x-www-form-urlencoded`` | the fields |
| ``multipart/form-data`` | the fields; files are attachments |
| ``text/*``, and XML, YAML and lines of JSON | text |
| anything else, or none | base64 |
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from flows.events import Attachment
from flows.inputs import InvalidInputError, parse_json
from flows.values import Json
from triggers.http.request import RefusedRequestError, fields_document

Encoding = Literal["none", "json", "form", "text", "base64"]
_CHARSETS: Final = frozenset({"utf-8", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252", "utf-16"})
"""What text may be written in: not all that Python knows, some of which takes long or is no text."""
_TEXTS: Final = frozenset(
    {
        "application/xml",
        "application/yaml",
        "application/x-yaml",
        "application/x-ndjson",
        "application/jsonl",
        "application/graphql",
        "application/javascript",
    }
)


@dataclass(frozen=True, kw_only=True)
class Body:
    """What came of a body. ``encoding`` says how ``value`` stands for it."""

    value: Json
    encoding: Encoding
    attachments: tuple[Attachment, ...] = ()


def parse_body(content_type: str | None, content: bytes) -> Body:
    """The value of a body.

    Raises:
        RefusedRequestError: it isn't what its content type says, or more than is taken.
    """
    media_type, parameters = read_content_type(content_type or "")
    if not content:
        return Body(value=None, encoding="none")
    if media_type == "application/json" or media_type.endswith("+json"):
        return Body(value=_json(content), encoding="json")
    if media_type == "application/x-www-form-urlencoded":
        return Body(value=fields_document(_text(content, "utf-8")), encoding="form")
    if media_type == "multipart/form-data":
        from triggers.http.multipart import parse_multipart  # noqa: PLC0415 - only forms with files need it

        fields, attachments = parse_multipart(content, parameters.get("boundary", ""))
        return Body(value=fields, encoding="form", attachments=attachments)
    if media_type.startswith("text/") or media_type in _TEXTS or media_type.endswith(("+xml", "+yaml")):
        return Body(value=_text(content, parameters.get("charset", "utf-8")), encoding="text")
    return Body(value=base64.b64encode(content).decode(), encoding="base64")


def read_content_type(text: str) -> tuple[str, Mapping[str, str]]:
    """The media type in small letters, and its parameters."""
    from python_multipart.multipart import parse_options_header  # noqa: PLC0415 - only requests need it

    try:
        media_type, parameters = parse_options_header(text)
        return media_type.decode().strip().lower(), {
            key.decode().lower(): value.decode() for key, value in parameters.items()
        }
    except (ValueError, IndexError) as error:
        raise RefusedRequestError(f"the content type can't be read: {error}", status=400) from None


def _json(content: bytes) -> Json:
    try:
        return parse_json(content, unique_keys=True)
    except InvalidInputError as problem:
        raise RefusedRequestError(f"the body is no JSON that is taken: {problem.message}", status=400) from None
    except ValueError as error:
        raise RefusedRequestError(f"the body is not JSON: {error}", status=400) from None


def _text(content: bytes, charset: str) -> str:
    name = charset.strip().lower()
    if name not in _CHARSETS:
        raise RefusedRequestError(f"text in {charset[:40]!r} isn't taken; send UTF-8", status=415)
    try:
        return content.decode(name)
    except UnicodeDecodeError:
        raise RefusedRequestError(f"the body is not text in {name}", status=400) from None

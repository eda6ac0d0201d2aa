"""CloudEvents 1.0 over HTTP: structured, binary and batched, as events.

The SDK judges the attributes; JSON is read by our own strict reader, since the SDK takes what isn't JSON for text,
keeps the last of two equal keys, and makes up an id or a version that is missing.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from flows.errors import StepboxError
from flows.events import Event
from flows.inputs import InvalidInputError, parse_json
from flows.values import Json, json_size
from triggers.event.causes import ATTRIBUTE, read_causes
from triggers.http.body import parse_body, read_content_type
from triggers.http.request import RefusedRequestError, Request

MAX_EVENT: Final = 1_000_000
"""Bytes of one event as JSON."""
MAX_BATCH: Final = 1_000
"""Events of one batch."""
_MAX_ATTRIBUTE: Final = 2_000
"""Characters of an attribute. The specification asks for short ones, but names no length."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_REQUIRED: Final = ("specversion", "id", "source", "type")
_INTEGER: Final = range(-(2**31), 2**31)


class InvalidEventError(StepboxError):
    """What was sent is no CloudEvent. ``status`` is the HTTP status of the answer."""

    code = "invalid_event"

    def __init__(self, message: str, *, fix: str, status: int = 400) -> None:
        super().__init__(message, fix=fix)
        self.status = status


def read_events(request: Request, now: datetime) -> tuple[Event, ...]:
    """The events of a request: one, or those of a batch, all of them or none.

    Raises:
        InvalidEventError: it holds none, one of them isn't right, or there is too much of it.
    """
    try:
        media_type, _ = read_content_type(request.header("Content-Type") or "")
        if media_type == "application/cloudevents-batch+json":
            return _batch(_json(request.body), now)
        if media_type == "application/cloudevents+json":
            return (_structured(_json(request.body), now, ""),)
        if media_type.startswith("application/cloudevents"):
            fix = "send application/cloudevents+json or application/cloudevents-batch+json"
            raise InvalidEventError(f"events in {media_type} aren't taken", fix=fix, status=415)
        return (_binary(request, now),)
    except RefusedRequestError as refused:
        raise InvalidEventError(refused.message, fix="send it as it is said to be", status=refused.status) from None


def structured_event(document: Mapping[str, Json], now: datetime) -> Event:
    """An event of its attributes and ``data``, by the rules for those that others send.

    Raises:
        InvalidEventError: it isn't right, or there is too much of it.
    """
    return _structured(document, now, "")


def _batch(items: Json, now: datetime) -> tuple[Event, ...]:
    if not isinstance(items, list):
        raise InvalidEventError("a batch must be a list of events", fix="send [{…}, {…}]")
    if len(items) > MAX_BATCH:
        raise InvalidEventError(f"a batch has more than {MAX_BATCH:,} events", fix="send several", status=413)
    return tuple(_structured(item, now, f"event {position}: ") for position, item in enumerate(items))


def _structured(value: Json, now: datetime, where: str) -> Event:
    if not isinstance(value, Mapping):
        raise InvalidEventError(f"{where}an event must be an object", fix='send {"specversion": "1.0", …}')
    attributes = {
        name: each for name, each in value.items() if name not in {"data", "data_base64"} and each is not None
    }
    data: dict[str, Json] = {}
    if "data_base64" in value and value["data_base64"] is not None:
        if value.get("data") is not None:
            raise InvalidEventError(f"{where}it has both `data` and `data_base64`", fix="send one of the two")
        data["data_base64"] = _base64(value["data_base64"], where)
    else:
        data["data"] = value.get("data")
    return _event(attributes, data, now, where)


def _binary(request: Request, now: datetime) -> Event:
    from cloudevents.core.bindings.http import HTTPMessage, from_binary  # noqa: PLC0415 - only events need it
    from cloudevents.core.formats.json import JSONFormat  # noqa: PLC0415 - the same

    headers: dict[str, str] = {}
    for name, value in request.headers:
        if name.lower().startswith("ce-"):
            if name.lower() in headers:
                raise InvalidEventError(f"the header {name} is there twice", fix="send each attribute once")
            headers[name.lower()] = value
    _complete({name.removeprefix("ce-"): value for name, value in headers.items()}, "ce-", "")
    content_type = request.header("Content-Type")
    if content_type:
        headers["content-type"] = content_type
    try:
        read = from_binary(HTTPMessage(headers=headers, body=b""), JSONFormat())
    except (_invalid(), ValueError, TypeError, OverflowError) as error:
        raise _not_right(error, "") from None
    body = parse_body(content_type or "application/json", request.body)
    for attachment in body.attachments:
        attachment.content.close()
    if body.attachments:
        raise InvalidEventError("an event can't be a form with files", fix="send its data as JSON")
    data: dict[str, Json] = {"data_base64" if body.encoding == "base64" else "data": body.value}
    return _event(dict(read.get_attributes()), data, now, "")


def _event(attributes: dict[str, Json], data: dict[str, Json], now: datetime, where: str) -> Event:
    from cloudevents.core.v1.event import CloudEvent  # noqa: PLC0415 - only events need it

    _complete(attributes, "", where)
    given_time = "time" in attributes
    try:
        if isinstance(attributes.get("time"), str):
            attributes["time"] = datetime.fromisoformat(attributes["time"])
        event = CloudEvent(attributes, None)
        causes = read_causes(attributes.get(ATTRIBUTE))
    except (_invalid(), ValueError, TypeError, OverflowError, AttributeError) as error:
        raise _not_right(error, where) from None
    moment: datetime = (event.get_time() or now) if given_time else now
    document: dict[str, Json] = {name: _attribute(name, value, where) for name, value in attributes.items()}
    if not given_time:
        document.pop("time", None)
    document |= data
    if (size := json_size(document)) > MAX_EVENT:
        fix = "send a reference to the data instead of all of it"
        raise InvalidEventError(f"{where}it has {size:,} bytes of at most {MAX_EVENT:,}", fix=fix, status=413)
    key = f"{event.get_source()} {event.get_id()}"
    return Event(kind="event", key=key, occurred_at=_utc(moment, where), data=document, causes=causes)


def _complete(attributes: Mapping[str, Json], prefix: str, where: str) -> None:
    for name in _REQUIRED:
        if name not in attributes:
            fix = 'an event has specversion ("1.0"), id, source and type'
            raise InvalidEventError(f"{where}`{prefix}{name}` is missing", fix=fix)


def _attribute(name: str, value: Json, where: str) -> Json:
    if isinstance(value, datetime):
        return _utc(value, where).isoformat().replace("+00:00", "Z")
    if isinstance(value, bool) or (isinstance(value, int) and value in _INTEGER):
        return value
    if not isinstance(value, str) or len(value) > _MAX_ATTRIBUTE:
        fix = f"an attribute is text of at most {_MAX_ATTRIBUTE:,} characters, a boolean or an integer of 32 bits"
        raise InvalidEventError(f"{where}the attribute `{name[:40]}` can't be taken", fix=fix)
    if _CONTROL.search(value):
        raise InvalidEventError(f"{where}the attribute `{name[:40]}` has control characters", fix="remove them")
    return value


def _utc(moment: datetime, where: str) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidEventError(f"{where}`time` is out of range", fix="send the time at which it happened") from None


def _json(content: bytes) -> Json:
    try:
        return parse_json(content, unique_keys=True)
    except InvalidInputError as problem:
        raise InvalidEventError(
            f"the body is no JSON that is taken: {problem.message}", fix="send other JSON"
        ) from None
    except ValueError as error:
        raise InvalidEventError(f"the body is not JSON: {error}", fix="send an event as JSON") from None


def _base64(value: Json, where: str) -> str:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise InvalidEventError(f"{where}`data_base64` is not base64", fix="encode the data by RFC 4648") from None
    return str(value)


def _invalid() -> type[Exception]:
    from cloudevents.core.exceptions import CloudEventValidationError  # noqa: PLC0415 - only events need it

    return CloudEventValidationError


def _not_right(error: Exception, where: str) -> InvalidEventError:
    errors: Mapping[str, Sequence[Exception]] = getattr(error, "errors", {})
    what = "; ".join(str(one) for found in errors.values() for one in found) or str(error)
    return InvalidEventError(f"{where}{what[:500]}", fix="send a CloudEvent of version 1.0")

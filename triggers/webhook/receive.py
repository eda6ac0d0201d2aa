"""From a request to an event."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from flows.events import Event
from flows.values import Json
from triggers.http.body import parse_body
from triggers.http.request import (
    MAX_HEADERS,
    RefusedRequestError,
    Request,
    fields_document,
    headers_document,
)
from triggers.webhook.config import WebhookTrigger
from triggers.webhook.verification import secret_header, verify

MAX_ID: Final = 200
"""Characters of a message's id; of a longer one its SHA-256 is the key."""


def verified(trigger: WebhookTrigger, request: Request, secrets: Sequence[str], now: datetime) -> str | None:
    """The message's id, None where it has none, once the request is verified. Nothing of the body is parsed.

    ``secrets`` are the live values of the webhook's secret.

    Raises:
        RefusedRequestError: the request isn't taken; its status says why.
        InvalidSecretError: the webhook has no secret to verify with.
    """
    webhook = trigger.webhook
    if request.method.upper() not in webhook.methods:
        raise RefusedRequestError(f"the method {request.method[:20]} isn't taken", status=405)
    if len(request.body) > webhook.max_body:
        raise RefusedRequestError(f"the body is larger than {webhook.max_body:,} bytes", status=413)
    if sum(len(name) + len(value) for name, value in request.headers) > MAX_HEADERS:
        raise RefusedRequestError(f"the headers are larger than {MAX_HEADERS:,} characters", status=431)
    return verify(webhook, request, secrets, now)


def event_of(trigger: WebhookTrigger, request: Request, identity: str | None, now: datetime) -> Event:
    """The event that a request is, of which :func:`verified` has given the ``identity``, which is the event's key.

    Its attachments are open; whoever takes the event closes them.

    Raises:
        RefusedRequestError: the request isn't taken; its status says why.
    """
    webhook = trigger.webhook
    packed = request.header("Content-Encoding")
    if packed and packed.lower() != "identity":
        raise RefusedRequestError(f"a body in {packed[:40]} isn't taken; send it as it is", status=415)
    query = fields_document(request.query)
    secret = secret_header(webhook)
    body = parse_body(request.header("Content-Type"), request.body)
    data: dict[str, Json] = {
        "body": body.value,
        "body_encoding": body.encoding,
        "files": [
            {
                "field": one.field,
                "filename": one.filename,
                "path": one.path,
                "content_type": one.content_type,
                "size": one.size,
                "sha256": one.sha256,
            }
            for one in body.attachments
        ],
        "headers": headers_document(request, without=frozenset({secret} if secret else ())),
        "query": query,
        "method": request.method.upper(),
        "path": webhook.path,
        "id": identity,
    }
    return Event(kind="webhook", key=_key(identity), occurred_at=now, data=data, attachments=body.attachments)


def _key(identity: str | None) -> str | None:
    if identity is None or len(identity) <= MAX_ID:
        return identity
    return f"sha256:{hashlib.sha256(identity.encode(errors='surrogateescape')).hexdigest()}"

"""Whether a request is from whom it says: signatures and tokens.

Pure: the time and the secrets are given. Everything secret is compared in constant time, with every live secret, and
whatever is compared is named by the flow, so that no request can choose a weaker way.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, assert_never

from flows.errors import StepboxError
from triggers.http.request import RefusedRequestError, Request
from triggers.webhook.config import Webhook

MAX_SIGNATURES: Final = 20
"""Of Standard Webhooks, in one header: more than any sender has keys."""
_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)
_STANDARD_SECRET = re.compile(r"(?:whsec_)?(?=[^=])(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2,3}={0,2})?", re.ASCII)


class InvalidSecretError(StepboxError):
    """A secret that requests can't be verified with. No request is taken until it is set right."""

    code = "invalid_secret"


def verify(webhook: Webhook, request: Request, secrets: Sequence[str], now: datetime) -> str | None:
    """The id of the message, None where it has none.

    ``secrets`` are the live values of the webhook's secret; any one will do, so that it can be changed without a gap.

    Raises:
        RefusedRequestError: it is not from whom it should be, too old, or from the future.
        InvalidSecretError: there is no secret, or it is not one for this way to verify.
    """
    if webhook.verify != "none" and not any(secrets):
        fix = f"set it: stepbox secrets set {webhook.secret}"
        raise InvalidSecretError(f"the secret {webhook.secret} of the webhook {webhook.path} isn't set", fix=fix)
    match webhook.verify:
        case "standard":
            return _standard(webhook, request, secrets, now)
        case "github":
            signature = _required(request, "X-Hub-Signature-256")
            _compare(signature, [f"sha256={_digest('sha256', secret, request.body).hex()}" for secret in secrets])
            return _identity(request, "X-GitHub-Delivery")
        case "hmac":
            return _hmac(webhook, request, secrets, now)
        case "token":
            _token(webhook, request, secrets)
            return _identity(request, webhook.id)
        case "none":
            return _identity(request, webhook.id)
        case _:
            assert_never(webhook.verify)


def secret_header(webhook: Webhook) -> str | None:
    """The header that holds a secret itself, in small letters."""
    return (webhook.header or "authorization").lower() if webhook.verify == "token" else None


def _standard(webhook: Webhook, request: Request, secrets: Sequence[str], now: datetime) -> str:
    from standardwebhooks import Webhook as StandardWebhook  # noqa: PLC0415 - only requests need it

    family = "webhook" if request.header("webhook-signature") is not None else "svix"
    identity, sent, given = (
        _required(request, f"{family}-{part}", shown=f"webhook-{part}") for part in ("id", "timestamp", "signature")
    )
    moment = _fresh(sent, webhook.tolerance, now)
    signatures = given.split(" ")
    if len(signatures) > MAX_SIGNATURES:
        raise RefusedRequestError(f"the header has {len(signatures)} signatures", status=401)
    try:
        body = request.body.decode()
    except UnicodeDecodeError:
        raise RefusedRequestError("the body isn't UTF-8, which Standard Webhooks can't sign", status=400) from None
    expected = []
    for secret in secrets:
        if not _STANDARD_SECRET.fullmatch(secret):
            fix = "set the one that the sender shows, which begins with whsec_, or another in base64"
            raise InvalidSecretError(f"the secret {webhook.secret} is not one of Standard Webhooks", fix=fix)
        try:
            expected.append(StandardWebhook(secret).sign(msg_id=identity, timestamp=moment, data=body))
        except UnicodeEncodeError:
            raise RefusedRequestError("the id of the message is not Unicode", status=401) from None
    _compare_any(signatures, expected)
    return identity


def _hmac(webhook: Webhook, request: Request, secrets: Sequence[str], now: datetime) -> str | None:
    given = _required(request, webhook.header or "X-Signature")
    prefix = webhook.prefix or ""
    before, _, after = webhook.signed.partition("{body}")
    if webhook.timestamp is not None:
        sent = _required(request, webhook.timestamp)
        _fresh(sent, webhook.tolerance, now)
        before, after = (part.replace("{timestamp}", sent) for part in (before, after))
    content = before.encode() + request.body + after.encode()
    expected = []
    for secret in secrets:
        digest = _digest(webhook.algorithm, secret, content)
        expected.append(prefix + (digest.hex() if webhook.encoding == "hex" else base64.b64encode(digest).decode()))
    start = given[: len(prefix)]
    # Senders write hexadecimal digits in either case.
    _compare(start + given[len(prefix) :].lower() if webhook.encoding == "hex" else given, expected)
    return _identity(request, webhook.id)


def _token(webhook: Webhook, request: Request, secrets: Sequence[str]) -> None:
    header = webhook.header or "Authorization"
    given = _required(request, header)
    prefix = webhook.prefix
    if prefix is None and header.lower() == "authorization":
        prefix = "Bearer "
        scheme, space, token = given.partition(" ")
        # The scheme's name is case-insensitive (RFC 9110, section 11.1).
        given = f"Bearer {token.strip()}" if space and scheme.lower() == "bearer" else given
    _compare(given, [f"{prefix or ''}{secret}" for secret in secrets])


def _digest(algorithm: str, secret: str, content: bytes) -> bytes:
    return hmac.digest(secret.encode(), content, algorithm)


def _required(request: Request, name: str, *, shown: str | None = None) -> str:
    value = request.header(name)
    if not value:
        raise RefusedRequestError(f"the header {shown or name} is missing", status=401)
    return value


def _identity(request: Request, name: str | None) -> str | None:
    return request.header(name) or None if name is not None else None


def _fresh(sent: str, tolerance: float, now: datetime) -> datetime:
    if not _TIMESTAMP.fullmatch(sent):
        raise RefusedRequestError(f"the timestamp {sent[:40]!r} is not a number of seconds since 1970", status=401)
    try:
        moment = datetime.fromtimestamp(int(sent), UTC)
    except (OverflowError, ValueError, OSError):
        raise RefusedRequestError(f"the timestamp {sent[:40]!r} is no time", status=401) from None
    age = (now - moment).total_seconds()
    if abs(age) > tolerance:
        when = f"{age:.0f} s old" if age > 0 else f"{-age:.0f} s in the future"
        raise RefusedRequestError(f"the request is {when}, more than {tolerance:g} s", status=401)
    return moment


def _compare(given: str, expected: Sequence[str]) -> None:
    _compare_any([given], expected)


def _compare_any(given: Sequence[str], expected: Sequence[str]) -> None:
    # Of hashes, so that not even a length shows; and all of them, so that the time says nothing of which one it was.
    hashes = [hashlib.sha256(one.encode(errors="surrogateescape")).digest() for one in given]
    wanted = [hashlib.sha256(one.encode()).digest() for one in expected]
    if not sum(hmac.compare_digest(one, other) for one in hashes for other in wanted):
        raise RefusedRequestError("the signature or token is not the right one", status=401)

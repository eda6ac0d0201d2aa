"""The model of triggers of ``webhook``, and what may be wrong with one."""

import re
from collections.abc import Iterator
from typing import Final, Literal

from pydantic import Field

from flows.contracts import Finding, Wiring
from flows.model import Config, TriggerConfig
from flows.names import name_finding
from flows.values import ByteSize, Duration, Json

WIRING = (Wiring(path=("webhook", "respond", "body"), run=True),)
MAX_BODY: Final = 100_000_000
"""Bytes: what ``max_body`` may be at most."""
_PATH = re.compile(r"[a-z0-9_-]+(?:/[a-z0-9_-]+)*")
_MAX_PATH = 200
_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")
_PREFIX = re.compile(r"[\x20-\x7e]{0,50}")
_PLACEHOLDER = re.compile(r"\{([a-z]*)\}")
_OWN_KEYS = {
    "header": {"hmac", "token"},
    "prefix": {"hmac", "token"},
    "algorithm": {"hmac"},
    "encoding": {"hmac"},
    "timestamp": {"hmac"},
    "signed": {"hmac"},
    "id": {"hmac", "token", "none"},
}
"""Which keys only some ways to verify have; the others know them by themselves."""


class Respond(Config):
    """An answer of one's own, sent once the run has ended."""

    status: int = Field(default=200, ge=200, le=599)
    """The HTTP status."""
    body: Json = None
    """What to answer as JSON; it may use expressions over ``output``, ``steps``, ``inputs``, ``event`` and ``run``."""


class Rate(Config):
    """How many requests are taken in a time; further ones get status 429."""

    limit: int = Field(ge=1, le=1_000_000)
    """Requests, all at once or spread over the time."""
    per: Duration = 60.0
    """The time."""


class Webhook(Config):
    """Where requests come in and how they prove where they are from."""

    path: str
    """Below ``/hooks/``: words of lower-case letters, digits, ``-`` and ``_``, between slashes."""
    methods: list[Literal["GET", "POST", "PUT", "PATCH", "DELETE"]] = Field(
        default_factory=lambda: ["POST"],  # type: ignore[arg-type]
        min_length=1,
    )
    """Which HTTP methods are taken."""
    verify: Literal["standard", "github", "hmac", "token", "none"] = "standard"
    """Standard Webhooks, GitHub's signature, an HMAC of the body, a shared token, or nothing."""
    secret: str | None = None
    """The name of the secret to verify with; needed unless ``verify`` is none."""
    header: str | None = None
    """The header with the signature or token, for ``hmac`` (X-Signature) and ``token`` (Authorization)."""
    prefix: str | None = None
    """What stands before the signature or token, such as sha256=; of the header Authorization it is Bearer."""
    algorithm: Literal["sha1", "sha256", "sha384", "sha512"] = "sha256"
    """The hash of ``hmac``."""
    encoding: Literal["hex", "base64"] = "hex"
    """How ``hmac`` writes the signature."""
    timestamp: str | None = None
    """The header with the time of sending in seconds since 1970, for ``hmac``; ``signed`` must hold it."""
    signed: str = "{body}"
    """What ``hmac`` signs: ``{body}``, and ``{timestamp}`` where there is one, such as v0:{timestamp}:{body}."""
    id: str | None = None
    """The header with the id of the message, by which one that comes again is known, where ``verify`` has none."""
    tolerance: Duration = 300.0
    """How old a signed request may be."""
    max_body: ByteSize = 1_000_000
    """The largest body."""
    rate: Rate | None = None
    """How many requests are taken in a time; left out: all."""
    respond: Literal["accepted", "result"] | Respond = "accepted"
    """Answer at once, with the run's output when it has ended, or with an answer of one's own."""


class WebhookTrigger(TriggerConfig):
    """``event`` has ``body``, ``files``, ``headers``, ``query``, ``method``, ``path`` and ``id``."""

    webhook: Webhook
    """Where requests come in."""


def check_webhook(config: TriggerConfig) -> Iterator[Finding]:
    """Whether the path is one, and requests can be verified as asked."""
    assert isinstance(config, WebhookTrigger)
    webhook = config.webhook
    yield from _path(webhook.path)
    if webhook.verify != "none" and webhook.secret is None:
        message = f"`verify: {webhook.verify}` needs a secret"
        fix = "add `secret: <name of the secret>`, or write `verify: none`"
        yield Finding(path=("webhook",), code="missing_key", message=message, fix=fix, at="key")
    if webhook.verify == "none" and webhook.secret is not None:
        message = "the secret is not used with `verify: none`"
        yield Finding(path=("webhook", "secret"), code="conflicting_keys", message=message, fix="remove one", at="key")
    if webhook.secret is not None and (finding := name_finding(webhook.secret, ("webhook", "secret"), "a secret")):
        yield finding
    for key, verifiers in _OWN_KEYS.items():
        if key in webhook.model_fields_set and getattr(webhook, key) is not None and webhook.verify not in verifiers:
            message = f"`{key}` is not for `verify: {webhook.verify}`"
            path = ("webhook", key)
            yield Finding(path=path, code="conflicting_keys", message=message, fix="remove it", at="key")
    yield from _headers(webhook)
    yield from _signed(webhook)
    if webhook.max_body > MAX_BODY:
        message, fix = f"`max_body` is more than {MAX_BODY // 1_000_000}MB", f"write {MAX_BODY // 1_000_000}MB or less"
        yield Finding(path=("webhook", "max_body"), code="invalid_value", message=message, fix=fix)
    if webhook.rate is not None and not webhook.rate.per:
        message, fix = "`per` is no time at all", "write `per: 1m`"
        yield Finding(path=("webhook", "rate", "per"), code="invalid_value", message=message, fix=fix)


def _path(path: str) -> Iterator[Finding]:
    if len(path) <= _MAX_PATH and _PATH.fullmatch(path):
        return
    words = re.sub(r"/+", "/", re.sub(r"[^a-z0-9_/-]+", "-", path.lower()[:80])).strip("/-")
    known = _PATH.fullmatch(words)
    fix = f"write `{words}`" if known else "write small letters, digits, - and _, such as `orders/new`"
    message = f"`{path[:80]}` can't be the path of a webhook"
    yield Finding(path=("webhook", "path"), code="invalid_path", message=message, fix=fix)


def _headers(webhook: Webhook) -> Iterator[Finding]:
    for key, example in (("header", "X-Signature"), ("timestamp", "X-Timestamp"), ("id", "X-Message-Id")):
        name = getattr(webhook, key)
        if name is not None and not _HEADER.fullmatch(name):
            message = f"`{name[:80]}` is not the name of a header"
            fix = f"write a name such as {example}"
            yield Finding(path=("webhook", key), code="invalid_value", message=message, fix=fix)
    if webhook.prefix is not None and not _PREFIX.fullmatch(webhook.prefix):
        message, fix = "`prefix` must be up to 50 plain characters", "write what stands before the signature"
        yield Finding(path=("webhook", "prefix"), code="invalid_value", message=message, fix=fix)


def _signed(webhook: Webhook) -> Iterator[Finding]:
    names = _PLACEHOLDER.findall(webhook.signed)
    wanted = ["body"] if webhook.timestamp is None else ["body", "timestamp"]
    if webhook.verify != "hmac" or (len(webhook.signed) <= _MAX_PATH and sorted(names) == wanted):
        return
    if webhook.timestamp is None and "timestamp" in names:
        message, fix = "`signed` holds a timestamp, of which the header isn't named", "add `timestamp: X-Timestamp`"
    elif webhook.timestamp is not None and "timestamp" not in names:
        message = "the timestamp isn't signed, so that anyone could change it"
        fix = 'write what the sender signs, such as `signed: "{timestamp}.{body}"`, or remove `timestamp`'
    else:
        message = "`signed` must hold `{body}` once"
        fix = 'write what the sender signs, such as `signed: "{timestamp}.{body}"`'
    yield Finding(path=("webhook", "signed"), code="invalid_value", message=message, fix=fix)


def shared_path(config: TriggerConfig) -> str | None:
    """The path, which no two webhooks of a flow may share."""
    assert isinstance(config, WebhookTrigger)
    return config.webhook.path

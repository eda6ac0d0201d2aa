"""Triggers of ``webhook``: an HTTP request to ``/hooks/<path>``."""

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from flows.contracts import Finding, Wiring
from flows.model import Config, TriggerConfig
from flows.names import name_finding
from flows.values import Duration, Json

WIRING = (Wiring(path=("webhook", "respond", "body"), run=True),)
_PATH = re.compile(r"[a-z0-9_-]+(?:/[a-z0-9_-]+)*")
_MAX_PATH = 200
_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")


class Respond(Config):
    """An answer of one's own, sent once the run has ended."""

    status: int = Field(default=200, ge=200, le=599)
    """The HTTP status."""
    body: Json = None
    """What to answer as JSON; it may use expressions over ``output``, ``steps``, ``inputs``, ``event`` and ``run``."""


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
    """Standard Webhooks, GitHub's signature, a plain HMAC-SHA256, a shared token, or nothing."""
    secret: str | None = None
    """The name of the secret to verify with; needed unless ``verify`` is none."""
    header: str | None = None
    """The header with the signature or token, for ``hmac`` (X-Signature) and ``token`` (Authorization)."""
    tolerance: Duration = 300.0
    """How old a signed request may be."""
    respond: Literal["accepted", "result"] | Respond = "accepted"
    """Answer at once, with the run's output when it has ended, or with an answer of one's own."""


class WebhookTrigger(TriggerConfig):
    """``event`` has ``body``, ``headers``, ``query``, ``method`` and ``path``."""

    webhook: Webhook
    """Where requests come in."""


def check_webhook(config: TriggerConfig) -> Iterator[Finding]:
    """Whether the path is one, and requests can be verified as asked."""
    assert isinstance(config, WebhookTrigger)
    webhook = config.webhook
    if len(webhook.path) > _MAX_PATH or not _PATH.fullmatch(webhook.path):
        message = f"`{webhook.path[:80]}` can't be the path of a webhook"
        words = re.sub(r"[^a-z0-9_/-]+", "-", webhook.path.lower()[:80]).strip("/-")
        fix = (
            f"write `{words}`"
            if _PATH.fullmatch(words)
            else "write small letters, digits, - and _, such as `orders/new`"
        )
        yield Finding(path=("webhook", "path"), code="invalid_path", message=message, fix=fix)
    if webhook.verify != "none" and webhook.secret is None:
        message = f"`verify: {webhook.verify}` needs a secret"
        fix = "add `secret: <name of the secret>`, or write `verify: none`"
        yield Finding(path=("webhook",), code="missing_key", message=message, fix=fix, at="key")
    if webhook.verify == "none" and webhook.secret is not None:
        message = "the secret is not used with `verify: none`"
        yield Finding(path=("webhook", "secret"), code="conflicting_keys", message=message, fix="remove one", at="key")
    if webhook.secret is not None and (finding := name_finding(webhook.secret, ("webhook", "secret"), "a secret")):
        yield finding
    if webhook.header is not None and webhook.verify not in {"hmac", "token"}:
        message = f"`verify: {webhook.verify}` has its own header"
        yield Finding(path=("webhook", "header"), code="conflicting_keys", message=message, fix="remove it", at="key")
    elif webhook.header is not None and not _HEADER.fullmatch(webhook.header):
        message = f"`{webhook.header[:80]}` is not the name of a header"
        fix = "write a name such as X-Signature"
        yield Finding(path=("webhook", "header"), code="invalid_value", message=message, fix=fix)


def shared_path(config: TriggerConfig) -> str | None:
    """The path, which no two webhooks of a flow may share."""
    assert isinstance(config, WebhookTrigger)
    return config.webhook.path

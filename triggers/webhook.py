"""Triggers of ``webhook``: an HTTP request to ``/hooks/<path>``."""

from typing import Literal

from pydantic import Field

from flows.model import Config, TriggerConfig
from flows.values import Duration, Json


class Respond(Config):
    """An answer of one's own, sent once the run has ended."""

    status: int = Field(default=200, ge=200, le=599)
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

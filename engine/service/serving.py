"""A service that goes on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from engine.service.protocol import Service
from engine.service.values import Readiness, SentRequest

if TYPE_CHECKING:
    from engine.deliveries import Accepted
    from engine.intake.hooks import HookAnswer
    from engine.principal import Principal
    from engine.requests import AnsweredRequest
    from engine.trace_context import TraceContext


class Serving(Protocol):
    """A service that goes on, as the doors that it serves see it."""

    async def authenticate(self, token: str, address: str | None = None) -> "Principal":
        """Who is behind a token that came from an address. Raises :class:`engine.tokens.UnauthenticatedError`."""

    async def open_link(self, approval: str, token: str, address: str | None = None) -> "Principal":
        """For whom a signed link to a question is.

        Raises:
            InvalidLinkError: it is none of this service, or its principal is gone.
            ExpiredLinkError: its time is over.
        """

    def service(self, principal: "Principal") -> Service:
        """The service, acting for a principal."""

    def largest_body(self, hook: str) -> int:
        """Bytes that the body of a request to the webhook of a path may have.

        Raises:
            RejectedError: there is no such webhook.
        """

    async def take_hook(self, hook: str, request: "SentRequest") -> "HookAnswer":
        """Take a request to a webhook; see :meth:`engine.intake.hooks.Hooks.take`."""

    async def take_events(self, principal: "Principal", request: "SentRequest") -> Sequence["Accepted"]:
        """Take CloudEvents of a principal; see :func:`engine.intake.hooks.take_events`."""

    async def readiness(self) -> Readiness:
        """Whether it takes work."""

    async def metrics(self, principal: "Principal") -> bytes:
        """What Prometheus reads, of all workspaces."""

    def trace(self, traceparent: str | None) -> "TraceContext | None":
        """The span of a request that came with this header; see :mod:`engine.trace_context`."""

    def requested(self, request: "AnsweredRequest") -> None:
        """Count a request that was answered, and record its span, which is worked for here."""

"""Tokens."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from engine.principals import TokenRecord, TokenScope

if TYPE_CHECKING:
    from engine.tokens import IssuedToken


class TokenUseCases(Protocol):
    """Tokens. A principal that isn't an admin sees and revokes its own."""

    async def create_token(self, principal: str, scope: TokenScope | None = None) -> "IssuedToken":
        """Make a token of a principal; without a scope, for all that it may do, for ever.

        Raises:
            UnknownRecordError: there is no such principal.
            ForbiddenError: it would open more than the token by which it is made.
            InvalidCallError: a pattern is none, or fits no action; or the token would have expired.
        """

    async def tokens(self) -> Sequence[TokenRecord]:
        """All tokens of the workspace that the caller may see, the oldest first."""

    async def revoke_token(self, token: str) -> TokenRecord:
        """Make a token open nothing from now on. Raises :class:`UnknownRecordError` where there is none to be seen."""

"""Tokens."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from engine.records import TokenRecord

if TYPE_CHECKING:
    from engine.tokens import IssuedToken


class TokenUseCases(Protocol):
    """Tokens."""

    async def create_token(self, principal: str, *, expires_at: datetime | None = None) -> "IssuedToken":
        """Make a token of a principal, who is made where there is none of that name."""

    async def tokens(self) -> Sequence[TokenRecord]:
        """All tokens of the workspace, the oldest first."""

    async def revoke_token(self, token: str) -> TokenRecord:
        """Make a token open nothing from now on."""

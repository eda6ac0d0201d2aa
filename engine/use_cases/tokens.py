"""Tokens."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from engine.records import TokenRecord
from engine.store.errors import UnknownRecordError
from engine.use_cases.acting import Acting
from flows.errors import InvalidCallError
from flows.names import NAME

if TYPE_CHECKING:
    from engine.tokens import IssuedToken


class TokenUseCases(Acting):
    """Tokens."""

    async def create_token(self, principal: str, *, expires_at: datetime | None = None) -> "IssuedToken":
        from engine.tokens import issue  # noqa: PLC0415 - argon2, which other use cases don't need

        self._may("tokens.change")
        if not NAME.fullmatch(principal):
            raise InvalidCallError(
                f"{principal[:100]!r} is no name", fix="use lower-case letters, digits and _, from a letter on"
            )
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise InvalidCallError("the token would have expired already", fix="give a time to come")
        store = await self._parts.store()
        return await issue(store, principal=principal, workspace=self._workspace, expires_at=expires_at)

    async def tokens(self) -> Sequence[TokenRecord]:
        self._may("tokens.read")
        return await (await self._parts.store()).tokens.list(workspace=self._workspace)

    async def revoke_token(self, token: str) -> TokenRecord:
        self._may("tokens.change")
        record = await (await self._parts.store()).tokens.revoke(token, workspace=self._workspace)
        if record is None:
            raise UnknownRecordError(f"there is no token {token[:100]!r}", fix="see the ids: stepbox tokens list")
        return record

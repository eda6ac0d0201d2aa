"""Tokens."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from engine.principals import TokenRecord, TokenScope
from engine.remote.calling import Calling
from engine.remote.principal_records import token as token_record
from flows.values import Json

if TYPE_CHECKING:
    from engine.tokens import IssuedToken


class TokenCalls(Calling):
    """Tokens."""

    async def create_token(self, principal: str, scope: TokenScope | None = None) -> "IssuedToken":
        from engine.tokens import IssuedToken  # noqa: PLC0415 - argon2, which other use cases don't need

        scope = scope or TokenScope()
        body: dict[str, Json] = {
            "name": principal,
            "scopes": list(scope.actions),
            "only_flows": list(scope.only_flows),
            "expires_at": None if scope.expires_at is None else scope.expires_at.isoformat(),
        }
        made = await self._client.call("POST", "/tokens", body=body)
        return IssuedToken(record=token_record(made), text=made["token"])

    async def tokens(self) -> Sequence[TokenRecord]:
        return [token_record(one) for one in await self._client.pages("/tokens")]

    async def revoke_token(self, token: str) -> TokenRecord:
        return token_record(await self._client.call("DELETE", f"/tokens/{quote(token)}"))

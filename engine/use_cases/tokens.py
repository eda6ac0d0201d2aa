"""Tokens."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from engine.policy import may
from engine.principals import TokenRecord, TokenScope
from engine.store.errors import UnknownRecordError
from engine.use_cases.acting import Acting
from engine.use_cases.patterns import check_flows, check_scopes
from flows.errors import InvalidCallError

if TYPE_CHECKING:
    from engine.tokens import IssuedToken


class TokenUseCases(Acting):
    """Tokens. A principal that isn't an admin sees and revokes its own."""

    async def create_token(self, principal: str, scope: TokenScope | None = None) -> "IssuedToken":
        from engine.tokens import issue  # noqa: PLC0415 - argon2, which other use cases don't need

        self._may("tokens.change")
        scope = scope or TokenScope()
        scope = replace(scope, actions=check_scopes(scope.actions), only_flows=check_flows(scope.only_flows))
        if not scope.actions or not scope.only_flows:
            raise InvalidCallError("the token would open nothing", fix="name what it is for, or leave that out")
        self._may_open(scope.actions, scope.only_flows)
        if scope.expires_at is not None and scope.expires_at <= datetime.now(UTC):
            raise InvalidCallError("the token would have expired already", fix="give a time to come")
        store = await self._parts.store()
        return await issue(store, await store.principals.find(principal, workspace=self._workspace), scope)

    async def tokens(self) -> Sequence[TokenRecord]:
        self._may("tokens.own")
        return await (await self._parts.store()).tokens.list(
            workspace=self._workspace, principal=None if may(self._principal, "tokens.read") else self._principal.name
        )

    async def revoke_token(self, token: str) -> TokenRecord:
        self._may("tokens.own")
        whose = None if may(self._principal, "tokens.change") else self._principal.name
        store = await self._parts.store()
        async with store.transaction():
            record = await store.tokens.revoke(token, workspace=self._workspace, principal=whose)
            if record is None:
                raise UnknownRecordError(f"there is no token {token[:100]!r}", fix="see the ids: stepbox tokens list")
            await self._record(store, "token.revoke", "token", record.id, {"principal": record.principal})
        return record

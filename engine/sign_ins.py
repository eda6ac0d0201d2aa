"""Who shows a token, and who shows one that opens nothing: as the audit tells it."""

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import replace
from typing import Final

from engine.audit import Actor, Target
from engine.policy import ForbiddenError
from engine.principal import Principal
from engine.records import DEFAULT_WORKSPACE
from engine.refusals import Refusals, reason
from engine.store import Store
from engine.tokens import PRESET, Authenticator, UnauthenticatedError, id_of
from flows.errors import InvalidCallError

LASTS: Final = 3600.0
"""Seconds for which a token that was shown from an address is no new sign-in."""
REMEMBERED: Final = 10_000
"""Tokens and addresses that a process knows; the least recently used goes first."""
MOST: Final = 5
"""Entries a minute of strangers; what is more is counted."""


class SignIns:
    """Says who is behind a token, and records it: the first time from an address, and again after an hour."""

    def __init__(self, store: Store, authenticator: Authenticator, refusals: Refusals) -> None:
        self._store = store
        self._authenticator = authenticator
        self._refusals = refusals
        self._seen: OrderedDict[tuple[str | None, str | None], float] = OrderedDict()

    async def authenticate(self, token: str, address: str | None) -> Principal:
        """The principal, as it came. Raises as :meth:`engine.tokens.Authenticator.authenticate`.

        A request without a token is none that signs in, so there is no entry for it.
        """
        try:
            known = await self._authenticator.authenticate(token)
        except UnauthenticatedError:
            if token:
                await self._refused(token, address)
            raise
        principal = replace(known, door="api", address=address)
        await self._note(principal)
        return principal

    async def unverified(self, hook: str) -> None:
        """Record that a request to a webhook proved not to be from whom it should."""
        at = Target(kind="webhook", id=hook)
        await self._stranger("webhook.receive", "unverified", door="hook", target=at, key=("hook", hook))

    async def invalid_link(self, why: InvalidCallError, address: str | None) -> None:
        """Record that a link to a question opens nothing."""
        await self._stranger("link.open", why.code, door="link", address=address, key=("link",))

    async def forbidden(self, principal: Principal, action: str, why: ForbiddenError) -> None:
        """Record that a principal may not do what it asked for by other ways than use cases."""
        await self._refusals.note(
            key=(principal.workspace, principal.name, action),
            workspace=principal.workspace,
            action=action,
            actor=Actor.of(principal),
            details=reason(why),
        )

    async def _note(self, principal: Principal) -> None:
        now = asyncio.get_running_loop().time()
        key = (principal.token, principal.address)
        at = self._seen.get(key)
        if at is not None and now - at < LASTS:
            self._seen.move_to_end(key)
            return
        self._seen[key] = now
        self._seen.move_to_end(key)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        try:
            await self._store.audit.append(
                workspace=principal.workspace,
                action="sign_in",
                target=Target(kind="token", id=str(principal.token)),
                actor=Actor.of(principal),
            )
        except BaseException:
            del self._seen[key]
            raise

    async def _refused(self, token: str, address: str | None) -> None:
        # An id is public; other texts are kept by nobody.
        claimed = id_of(token)
        of = None if claimed == PRESET else Target(kind="token", id=claimed)
        code = UnauthenticatedError.code
        await self._stranger("sign_in", code, door="api", address=address, target=of, key=("sign_in",))

    async def _stranger(
        self,
        action: str,
        code: str,
        *,
        door: str,
        key: Hashable,
        target: Target | None = None,
        address: str | None = None,
    ) -> None:
        """Record what somebody was refused who proved to be nobody: in the installation's own workspace."""
        await self._refusals.note(
            key=key,
            workspace=DEFAULT_WORKSPACE,
            action=action,
            target=target,
            actor=Actor(name="stranger", kind="stranger", door=door, address=address),
            details={"code": code},
            most=MOST,
        )

"""Who shows a token, and who shows one that opens nothing: as the audit tells it."""

import asyncio
from collections import OrderedDict
from dataclasses import replace
from typing import Final

from engine.audit import Actor, Target
from engine.policy import ForbiddenError
from engine.principal import Principal
from engine.records import DEFAULT_WORKSPACE
from engine.refusals import Refusals
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
        await self._refusals.note(
            key=("hook", hook),
            workspace=DEFAULT_WORKSPACE,
            action="webhook.receive",
            target=Target(kind="webhook", id=hook),
            actor=Actor(name="stranger", kind="stranger", door="hook"),
            details={"code": "unverified"},
            most=MOST,
        )

    async def invalid_link(self, why: InvalidCallError, address: str | None) -> None:
        """Record that a link to a question opens nothing."""
        await self._refusals.note(
            key=("link",),
            workspace=DEFAULT_WORKSPACE,
            action="link.open",
            actor=Actor(name="stranger", kind="stranger", door="link", address=address),
            details={"code": why.code},
            most=MOST,
        )

    async def forbidden(self, principal: Principal, action: str, why: ForbiddenError) -> None:
        """Record that a principal may not do what it asked for by other ways than use cases."""
        await self._refusals.note(
            key=(principal.workspace, principal.name, action),
            workspace=principal.workspace,
            action=action,
            actor=Actor.of(principal),
            details={"code": why.code, "why": why.message},
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
        await self._refusals.note(
            key=("sign_in",),
            workspace=DEFAULT_WORKSPACE,
            action="sign_in",
            target=None if claimed == PRESET else Target(kind="token", id=claimed),
            actor=Actor(name="stranger", kind="stranger", door="api", address=address),
            details={"code": UnauthenticatedError.code},
            most=MOST,
        )

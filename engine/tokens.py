"""Tokens: their text, what is kept of it, and who is behind one.

A token is ``stp_ID_SECRET``. The id finds its record, so that a request costs one argon2 hash at most, and none once a
process has seen the token; the record itself is read for each request, so that a revocation holds at once.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from engine.audit import Target
from engine.principal import Principal
from engine.principals import GrantPatterns, PrincipalRecord, TokenRecord, TokenScope
from engine.reach import EVERYTHING
from engine.records import LOCAL
from engine.store import Store
from flows.errors import InvalidCallError

ADMIN: Final = "admin"
"""The name of the first admin of an installation."""

PRESET: Final = "admin"
"""The id of the token that ``STEPBOX_ADMIN_TOKEN`` presets, whose text has none."""

REMEMBERED: Final = 1000
"""Verified tokens that a process knows without hashing; the least recently used goes first."""

_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
"""OWASP's smallest recommended setting, 20 ms: a secret of 256 random bits needs none of more."""

_TEXT: Final = re.compile(r"stp_([a-z0-9]{12})_[A-Za-z0-9_-]{43}")
_ANOTHER: Final = "make another one with: stepbox tokens create NAME"
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


class UnauthenticatedError(InvalidCallError):
    """There is no token, or it opens nothing (any more)."""

    code = "unauthenticated"


@dataclass(frozen=True, kw_only=True)
class IssuedToken:
    """A new token: its record, and its text, which nobody can read again."""

    record: TokenRecord
    text: str


async def issue(
    store: Store, principal: PrincipalRecord, scope: TokenScope | None = None, *, preset: str | None = None
) -> IssuedToken:
    """Make a token of a principal; ``preset`` is its text where somebody else chose that."""
    scope = scope or TokenScope()
    if preset is None:
        token_id = "".join(secrets.choice(_ALPHABET) for _ in range(12))
        text = f"stp_{token_id}_{secrets.token_urlsafe(32)}"
    else:
        token_id, text = id_of(preset), preset
    digest = await asyncio.to_thread(_HASHER.hash, text)
    async with store.transaction():
        record = await store.tokens.create(
            token_id,
            digest,
            principal=principal,
            scopes=scope.actions,
            only_flows=scope.only_flows,
            expires_at=scope.expires_at,
        )
        await store.audit.append(
            workspace=principal.workspace,
            action="token.create",
            target=Target(kind="token", id=token_id),
            details={
                "principal": principal.name,
                "role": principal.role,
                "scopes": list(scope.actions),
                "only_flows": list(scope.only_flows),
                "expires_at": None if scope.expires_at is None else scope.expires_at.isoformat(),
                "preset": preset is not None,
            },
        )
    return IssuedToken(record=record, text=text)


async def first_admin(store: Store) -> PrincipalRecord:
    """An enabled admin of the default workspace: ``admin``, who is made where there is none, or the first by name."""
    async with store.transaction():
        admins = [each for each in (await store.principals.list()).items if each.role == "admin" and each.is_enabled]
        if not admins:
            everything = GrantPatterns(tools=(EVERYTHING,), flows=(EVERYTHING,))
            return await store.principals.create(ADMIN, kind="person", role="admin", grants=everything, by=LOCAL)
        return next((each for each in admins if each.name == ADMIN), admins[0])


def id_of(text: str) -> str:
    """The public part of a token, by which its record is found."""
    found = _TEXT.fullmatch(text)
    return PRESET if found is None else found[1]


@dataclass(frozen=True, kw_only=True)
class _Verified:
    text_digest: bytes
    record_digest: str


class Authenticator:
    """Says who is behind a token."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._verified: OrderedDict[str, _Verified] = OrderedDict()
        self._hashing = asyncio.Lock()

    async def authenticate(self, text: str) -> Principal:
        """The principal whose token this is.

        Raises:
            UnauthenticatedError: the token is unknown, or opens nothing any more; why is said to whoever has its text.
        """
        if not text:
            raise UnauthenticatedError("there is no token", fix="send the header: Authorization: Bearer TOKEN")
        token_id = id_of(text)
        record = await self._store.tokens.find(token_id)
        now = datetime.now(UTC)
        if record is None or not await self.is_text_of(text, record):
            raise UnauthenticatedError("the token is not valid", fix=_ANOTHER)
        known = await self._store.principals.current(record.workspace, record.principal)
        if known is None or not record.is_valid(now):
            raise _closed(record)
        await self._store.tokens.touch(token_id, now)
        return Principal(
            name=record.principal,
            workspace=record.workspace,
            role=record.role,
            kind="token",
            token=record.id,
            scopes=record.scopes,
            only_flows=record.only_flows,
            granted_flows=known.patterns("flow"),
        )

    async def is_text_of(self, text: str, record: TokenRecord) -> bool:
        """Whether that is the text of the token."""
        digest = hashlib.sha256(text.encode(errors="replace")).digest()
        if self._knows(record, digest):
            return True
        # One at a time: what a stranger sends can't take more than one processor.
        async with self._hashing:
            if self._knows(record, digest):
                return True
            if not await asyncio.to_thread(_verify, record.digest, text):
                return False
        self._verified[record.id] = _Verified(text_digest=digest, record_digest=record.digest)
        self._verified.move_to_end(record.id)
        if len(self._verified) > REMEMBERED:
            self._verified.popitem(last=False)
        return True

    def _knows(self, record: TokenRecord, digest: bytes) -> bool:
        known = self._verified.get(record.id)
        return (
            known is not None
            and known.record_digest == record.digest
            and hmac.compare_digest(known.text_digest, digest)
        )


def _closed(record: TokenRecord) -> UnauthenticatedError:
    """Why a token opens nothing any more."""
    if record.revoked_at is not None:
        return UnauthenticatedError(f"the token {record.id} was revoked at {_utc(record.revoked_at)}", fix=_ANOTHER)
    if record.expires_at is not None and record.expires_at <= datetime.now(UTC):
        return UnauthenticatedError(f"the token {record.id} has expired at {_utc(record.expires_at)}", fix=_ANOTHER)
    return UnauthenticatedError(
        f"'{record.principal}', whose token this is, may not act any more", fix="ask an admin of the workspace"
    )


def _utc(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _verify(digest: str, text: str) -> bool:
    try:
        return _HASHER.verify(digest, text)
    except VerificationError:
        return False

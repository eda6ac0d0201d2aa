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

from engine.principal import Principal
from engine.records import TokenRecord
from engine.store import Store
from flows.errors import InvalidCallError

PRESET: Final = "admin"
"""The id of the token that ``STEPBOX_ADMIN_TOKEN`` presets, whose text has none."""

REMEMBERED: Final = 1000
"""Verified tokens that a process knows without hashing; the least recently used goes first."""

_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
"""OWASP's smallest recommended setting, 20 ms: a secret of 256 random bits needs none of more."""

_TEXT: Final = re.compile(r"stp_([a-z0-9]{12})_[A-Za-z0-9_-]{43}")
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
    store: Store, *, principal: str, workspace: str, expires_at: datetime | None = None, preset: str | None = None
) -> IssuedToken:
    """Make a token of an admin; ``preset`` is its text where somebody else chose that."""
    if preset is None:
        token_id = "".join(secrets.choice(_ALPHABET) for _ in range(12))
        text = f"stp_{token_id}_{secrets.token_urlsafe(32)}"
    else:
        token_id, text = id_of(preset), preset
    digest = await asyncio.to_thread(_HASHER.hash, text)
    record = await store.tokens.create(
        token_id, digest, principal=principal, role="admin", workspace=workspace, expires_at=expires_at
    )
    return IssuedToken(record=record, text=text)


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
            UnauthenticatedError: the token is unknown, revoked or has expired; which of them is not said.
        """
        if not text:
            raise UnauthenticatedError("there is no token", fix="send the header: Authorization: Bearer TOKEN")
        token_id = id_of(text)
        record = await self._store.tokens.find(token_id)
        now = datetime.now(UTC)
        if record is None or not record.is_valid(now) or not await self.is_text_of(text, record):
            raise UnauthenticatedError(
                "the token is not valid", fix="make another one with: stepbox tokens create NAME"
            )
        await self._store.tokens.touch(token_id, now)
        return Principal(
            name=record.principal, workspace=record.workspace, role=record.role, kind="token", token=record.id
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


def _verify(digest: str, text: str) -> bool:
    try:
        return _HASHER.verify(digest, text)
    except VerificationError:
        return False

"""Signed links: each lets one principal decide one question, until a time.

A link is ``/decide/APPROVAL/TOKEN``. The token has the workspace, the principal and the time, and a MAC (HMAC-SHA-256)
of them with the question's id, by a key that is derived from the one of secrets. Nothing is kept of a link: what it may
is what its principal may at the time, and a question is decided once.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from flows.errors import InvalidCallError

PURPOSE: Final = "approval links"
"""What the key is derived for."""
_LONGEST: Final = 600
"""Characters: a workspace and a principal of 200 bytes each."""


class InvalidLinkError(InvalidCallError):
    """The link was changed, is of another key or for another question, or its principal is gone."""

    code = "invalid_link"


class ExpiredLinkError(InvalidCallError):
    """The link was for a time that is over."""

    code = "link_expired"


class NoPublicUrlError(InvalidCallError):
    """Nobody has said under which address the service is reached."""

    code = "no_public_url"


@dataclass(frozen=True, kw_only=True)
class SignedLink:
    """A link that was made: it opens the question for ``principal`` and nobody else."""

    url: str
    principal: str
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class LinkHolder:
    """For whom a link is."""

    workspace: str
    principal: str
    expires_at: datetime


class Links:
    """Signs and opens links. ``key`` gives the key, of 32 bytes."""

    def __init__(self, key: Callable[[], Awaitable[bytes]]) -> None:
        self._key = key

    async def token(self, approval_id: str, holder: LinkHolder) -> str:
        """The token of a link; its time counts in whole seconds."""
        content = "\n".join((holder.workspace, holder.principal, str(int(holder.expires_at.timestamp())))).encode()
        return f"{_text(content)}.{_text(await self._mac(approval_id, content))}"

    async def open(self, approval_id: str, token: str) -> LinkHolder:
        """For whom a link to a question is.

        Raises:
            InvalidLinkError: it was changed, or is for another question.
            ExpiredLinkError: its time is over.
        """
        content, mac = _parts(token)
        if not hmac.compare_digest(mac, await self._mac(approval_id, content)):
            raise _invalid()
        workspace, principal, seconds = content.decode().split("\n")
        holder = LinkHolder(
            workspace=workspace, principal=principal, expires_at=datetime.fromtimestamp(int(seconds), UTC)
        )
        if datetime.now(UTC) >= holder.expires_at:
            raise ExpiredLinkError(
                f"the link has expired at {holder.expires_at:%Y-%m-%d %H:%M:%S} UTC", fix="ask for another one"
            )
        return holder

    async def _mac(self, approval_id: str, content: bytes) -> bytes:
        about = approval_id.encode()
        return hmac.digest(await self._key(), len(about).to_bytes(4) + about + content, hashlib.sha256)


def _invalid() -> InvalidLinkError:
    return InvalidLinkError("the link is not valid", fix="open it exactly as it was sent, or ask for another one")


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _parts(token: str) -> tuple[bytes, bytes]:
    content, dot, mac = token.partition(".")
    if not dot or len(token) > _LONGEST or not token.isascii():
        raise _invalid()
    try:
        return _bytes(content), _bytes(mac)
    except (binascii.Error, ValueError):
        raise _invalid() from None


def _bytes(text: str) -> bytes:
    found = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _text(found) != text:
        # One token has one spelling.
        raise ValueError(text)
    return found

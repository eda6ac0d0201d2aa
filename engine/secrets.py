"""The secrets of workspaces: set, used and forgotten here, and nowhere else in clear text."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from ulid import ULID

from engine.records import KeyRotation, SealedSecret, SecretSummary
from engine.secret_key import KeySource, SealBrokenError, SecretKey, SecretKeyError
from engine.store.secrets import KeyChangedError
from engine.store.secrets import Secrets as StoredSecrets
from flows.errors import InvalidCallError
from flows.names import name_finding
from flows.suggestions import closest, instead
from steps.disguises import SHORTEST

MAX_SECRET: Final = 64_000
"""Bytes of one value: a certificate with its chain has a tenth."""
LIVE: Final = 2
"""How many values of a secret are live while it is changed."""


class UnknownSecretError(InvalidCallError):
    """There is no secret of that name."""

    code = "unknown_secret"


class InvalidSecretNameError(InvalidCallError):
    """A secret can't be called so."""

    code = "invalid_name"


class SameValueError(InvalidCallError):
    """A secret is given the value that it has."""

    code = "same_value"


class SecretTooShortError(InvalidCallError):
    """A value that can't be masked, since it is in every other word, and so is given to no step."""

    code = "secret_too_short"


class Secrets:
    """The secrets of all workspaces, encrypted by the key of a source.

    A value is bound to its workspace, its name and its own id, so that nobody who can write to the database makes one
    secret stand for another.
    """

    def __init__(self, stored: StoredSecrets, source: KeySource) -> None:
        self._stored = stored
        self._source = source
        self._ring: tuple[SecretKey, ...] = ()
        self._reading = asyncio.Lock()

    async def put(self, workspace: str, name: str, value: str) -> SecretSummary:
        """Set a secret; the values that it had are gone.

        Raises:
            InvalidCallError: the name or the value can't be one.
            StepboxError: the key can't be used, or is not the one of the secrets that are there.
        """
        finding = name_finding(name, (), "a secret")
        if finding is not None:
            raise InvalidSecretNameError(finding.message, fix=finding.fix)
        return await self._put(workspace, name, value)

    async def rotate(self, workspace: str, name: str, value: str, *, overlap: float) -> SecretSummary:
        """Give a secret another value. The one that it had stays live for ``overlap`` seconds, one before that ends.

        Raises:
            UnknownSecretError: there is none of that name.
            SameValueError: it has that value already.
            StepboxError: as :meth:`put`.
        """
        present = await self.values(workspace, name)
        if value == present[0]:
            raise SameValueError(f"the secret '{name}' has this value already", fix="give the new value")
        return await self._put(workspace, name, value, overlap=overlap)

    async def _put(self, workspace: str, name: str, value: str, *, overlap: float | None = None) -> SecretSummary:
        content = value.encode()
        if not content:
            raise InvalidCallError("the value is empty", fix="give the value on standard input")
        if len(content) > MAX_SECRET:
            raise InvalidCallError(f"the value is larger than {MAX_SECRET:,} bytes", fix="keep a key to it instead")
        key = await self._key_for_writing()
        while True:
            identity = str(ULID())
            sealed = key.seal(content, bound_to=(workspace, name, identity))
            version = SealedSecret(id=identity, key_id=key.id, sealed=sealed)
            try:
                if overlap is None:
                    return await self._stored.put(workspace, name, version, live=1)
                until = datetime.now(UTC) + timedelta(seconds=overlap)
                return await self._stored.put(workspace, name, version, live=LIVE, until=until)
            except KeyChangedError as changed:
                key = await self._key(changed.key_id)

    async def values(self, workspace: str, name: str) -> Sequence[str]:
        """The live values of a secret, the newest first, for what accepts either: the verification of a webhook.

        Raises:
            UnknownSecretError: there is none of that name.
            StepboxError: the key can't be used, or the secret can't be decrypted by it.
        """
        sealed = await self._stored.values(workspace, name)
        if not sealed:
            known = [secret.name for secret in await self._stored.list(workspace)]
            raise unknown_secret(name, known)
        values = []
        for one in sealed:
            key = await self._key(one.key_id)
            values.append(_unsealed(key, workspace, name, one).decode())
        await self._stored.used(workspace, name)
        return values

    async def require(self, workspace: str, names: Sequence[str]) -> None:
        """Make sure that there are secrets of these names.

        Raises:
            UnknownSecretError: there is none of one.
        """
        known = [secret.name for secret in await self._stored.list(workspace)]
        for name in names:
            if name not in known:
                raise unknown_secret(name, known)

    async def given(self, workspace: str, name: str) -> Sequence[str]:
        """The live values of a secret for a run, of which it gets the first.

        Raises:
            SecretTooShortError: it is too short to be masked.
            StepboxError: as :meth:`values`.
        """
        values = await self.values(workspace, name)
        if len(values[0]) < SHORTEST:
            raise SecretTooShortError(
                f"the secret '{name}' is shorter than {SHORTEST} characters, so that nothing can mask it",
                fix=f"set a longer value: stepbox secrets set {name}",
            )
        return values

    async def value(self, workspace: str, name: str) -> str:
        """The newest value of a secret. Raises as :meth:`values` does."""
        return (await self.values(workspace, name))[0]

    async def list(self, workspace: str) -> Sequence[SecretSummary]:
        """What may be shown of the secrets of a workspace, by name."""
        return await self._stored.list(workspace)

    async def delete(self, workspace: str, name: str, *, old_only: bool = False) -> int:
        """Forget a secret, or with ``old_only`` the value that it had before; gives how many values are gone.

        Raises:
            UnknownSecretError: there is none of that name.
        """
        known = [secret.name for secret in await self._stored.list(workspace)]
        if name not in known:
            fix = instead(name, known, otherwise="see the names with: stepbox secrets list")
            raise UnknownSecretError(f"there is no secret '{name[:80]}'", fix=fix)
        return await self._stored.delete(workspace, name, old_only=old_only)

    async def rotate_key(self, *, prepare: bool = False) -> KeyRotation:
        """Encrypt the values of all workspaces by another key, the first that the source knows, in one transaction.

        Until that is committed, and after it until the old key is left out, both are known: whenever this ends, by
        whatever, nothing is lost, and it can be done again. A file gets a new key by itself. With ``prepare`` that is
        all that is done, so that the file can be brought to other machines first.

        Raises:
            StepboxError: there is no secret, the keys can't be used, or a value can't be decrypted; nothing is changed.
        """
        async with self._source.changing():
            known = await self._read()
            present = await self._stored.key_id()
            if present is None:
                raise InvalidCallError("there are no secrets yet", fix="set one: stepbox secrets set NAME")
            key = await self._key(present)
            if known[0] != key:
                key = known[0]
            else:
                key = await self._source.add(known)
                known = await self._read()
            if prepare:
                return KeyRotation(key_id=key.id)

            def reseal(workspace: str, name: str, one: SealedSecret) -> SealedSecret:
                old = next((each for each in known if each.id == one.key_id), None)
                if old is None:
                    raise self._unknown(one.key_id)
                content = _unsealed(old, workspace, name, one)
                sealed = key.seal(content, bound_to=(workspace, name, one.id))
                return SealedSecret(id=one.id, key_id=key.id, sealed=sealed)

            resealed = await self._stored.reseal(key.id, reseal)
            kept = await self._source.leave(key, known)
            await self._read()
        return KeyRotation(key_id=key.id, resealed=resealed, kept=tuple(map(str, kept)))

    async def derived_key(self, purpose: str) -> bytes:
        """A key of 32 bytes for something else (HKDF, RFC 5869), which tells nothing of that of the secrets.

        Raises:
            StepboxError: the key can't be used, or is not the one of the secrets that are there.
        """
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - few processes need it
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415 - the same

        key = await self._key_for_writing()
        return HKDF(SHA256(), 32, salt=None, info=f"stepbox {purpose}".encode()).derive(key.material)

    async def _key_for_writing(self) -> SecretKey:
        """The key that the secrets are encrypted by; made where there is none yet and no secret needs another one."""
        present = await self._stored.key_id()
        if present is not None:
            return await self._key(present)
        known = await self._read()
        return known[0] if known else await self._source.make()

    async def _key(self, key_id: str) -> SecretKey:
        """The key of that id; the source is read again where it isn't known yet, for it may have been changed."""
        for known in (self._ring, None):
            for key in known if known is not None else await self._read():
                if key.id == key_id:
                    return key
        raise self._unknown(key_id)

    async def _read(self) -> tuple[SecretKey, ...]:
        async with self._reading:
            self._ring = await self._source.read()
        return self._ring

    def _unknown(self, key_id: str) -> SecretKeyError:
        place = self._source.place
        if not self._ring:
            return SecretKeyError(
                f"the key {place} is missing, by which the secrets are encrypted",
                fix="put it back from a backup, or delete the secrets and set them again",
            )
        return SecretKeyError(
            f"the secrets are encrypted by another key ({key_id}) than {place} has",
            fix="give the key that belongs to this database (after `rotate-key` on another machine: its new one), or "
            "delete the secrets and set them again",
        )


def unknown_secret(name: str, known: Sequence[str]) -> UnknownSecretError:
    """Says that there is no such secret, and what sets it."""
    meant = closest(name, known)
    fix = f"set it: stepbox secrets set {name[:80]}" + (f"; or did you mean `{meant}`?" if meant else "")
    return UnknownSecretError(f"there is no secret '{name[:80]}'", fix=fix)


def _unsealed(key: SecretKey, workspace: str, name: str, one: SealedSecret) -> bytes:
    try:
        return key.unseal(one.sealed, bound_to=(workspace, name, one.id))
    except SealBrokenError as error:
        message = f"the secret '{name}' of workspace '{workspace}' can't be decrypted: {error.message}"
        raise SealBrokenError(message, fix=error.fix) from None

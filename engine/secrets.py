"""The secrets of workspaces: set, used and forgotten here, and nowhere else in clear text."""

import asyncio
from collections.abc import Sequence
from typing import Final

from ulid import ULID

from engine.records import SealedSecret, SecretSummary
from engine.secret_key import KeyFile, SealBrokenError, SecretKey, SecretKeyError
from engine.store.secrets import Secrets as StoredSecrets
from flows.errors import InvalidCallError
from flows.names import name_finding
from flows.suggestions import instead

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


class Secrets:
    """The secrets of all workspaces, encrypted by the key of a file.

    A value is bound to its workspace, its name and its own id, so that nobody who can write to the database makes one
    secret stand for another.
    """

    def __init__(self, stored: StoredSecrets, key_file: KeyFile) -> None:
        self._stored = stored
        self._key_file = key_file
        self._key: SecretKey | None = None

    async def put(self, workspace: str, name: str, value: str, *, keep_old: bool = False) -> SecretSummary:
        """Set a secret. With ``keep_old`` the value that it had stays live beside the new one, else none does.

        Raises:
            InvalidCallError: the name or the value can't be one.
            StepboxError: the key can't be used, or is not the one of the secrets that are there.
        """
        finding = name_finding(name, (), "a secret")
        if finding is not None:
            raise InvalidSecretNameError(finding.message, fix=finding.fix)
        content = value.encode()
        if not content:
            raise InvalidCallError("the value is empty", fix="give the value on standard input")
        if len(content) > MAX_SECRET:
            raise InvalidCallError(f"the value is larger than {MAX_SECRET:,} bytes", fix="keep a key to it instead")
        key = await self._key_for_writing()
        identity = str(ULID())
        sealed = SealedSecret(
            id=identity, key_id=key.id, sealed=key.seal(content, bound_to=(workspace, name, identity))
        )
        return await self._stored.put(workspace, name, sealed, live=LIVE if keep_old else 1)

    async def values(self, workspace: str, name: str) -> Sequence[str]:
        """The live values of a secret, the newest first, for what accepts either: the verification of a webhook.

        Raises:
            UnknownSecretError: there is none of that name.
            StepboxError: the key can't be used, or the secret can't be decrypted by it.
        """
        sealed = await self._stored.values(workspace, name)
        if not sealed:
            known = [secret.name for secret in await self._stored.list(workspace)]
            fix = instead(name, known, otherwise=f"set it: stepbox secrets set {name}")
            raise UnknownSecretError(f"there is no secret '{name[:80]}'", fix=fix)
        key = await self._known_key()
        values = []
        for one in sealed:
            self._match(key, frozenset({one.key_id}))
            try:
                values.append(key.unseal(one.sealed, bound_to=(workspace, name, one.id)).decode())
            except SealBrokenError as error:
                raise SealBrokenError(
                    f"the secret '{name}' can't be decrypted: {error.message}", fix=error.fix
                ) from None
        await self._stored.used(workspace, name)
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
        """The key; made where there is none yet and no secret needs another one."""
        key = self._key or await asyncio.to_thread(self._key_file.read)
        used = await self._stored.key_ids()
        if key is None and used:
            # Somebody else may have made it between the two.
            key = await asyncio.to_thread(self._key_file.read)
            if key is None:
                raise self._lost()
        if key is None:
            key = await asyncio.to_thread(self._key_file.create)
        self._match(key, used)
        self._key = key
        return key

    async def _known_key(self) -> SecretKey:
        if self._key is None:
            self._key = await asyncio.to_thread(self._key_file.read)
        if self._key is None:
            raise self._lost()
        return self._key

    def _match(self, key: SecretKey, used: frozenset[str]) -> None:
        if used - {key.id}:
            raise SecretKeyError(
                f"the secrets are encrypted by another key than {self._key_file.path}",
                fix="put back the key file that belongs to this database, or delete the secrets and set them again",
            )

    def _lost(self) -> SecretKeyError:
        return SecretKeyError(
            f"the key {self._key_file.path} is missing, by which the secrets are encrypted",
            fix="put it back from a backup, or delete the secrets and set them again",
        )

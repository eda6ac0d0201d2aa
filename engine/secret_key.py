"""The keys that secrets are encrypted by, and the file of the home that has them, apart from the database.

While a key is changed, two are known: the first is the one to change to.
"""

import asyncio
import base64
import binascii
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from flows.errors import RefusedError, StepboxError

_LENGTH: Final = 32
"""Bytes: a key of AES-256."""
_NONCE: Final = 12
_FORMAT: Final = b"\x01"
"""The first byte of what is sealed: AES-256-GCM, then the nonce, then the text with its tag."""
MAX_KEYS: Final = 4096
"""Bytes of what keys are read from: room for dozens."""
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class SecretKeyError(StepboxError):
    """The key file can't be used."""

    code = "secret_key"


class SecretKeyExposedError(RefusedError):
    """Others than the owner may read the key file, so that it keeps no secret."""

    code = "secret_key_exposed"


class SealBrokenError(StepboxError):
    """What is sealed was changed, moved to another name, or is of another key."""

    code = "secret_unreadable"


@dataclass(frozen=True, kw_only=True)
class SecretKey:
    """A key. ``id`` tells it from others and says nothing about it."""

    material: bytes = field(repr=False)

    @property
    def id(self) -> str:
        return hashlib.sha256(b"stepbox key id\n" + self.material).hexdigest()[:16]

    def seal(self, content: bytes, *, bound_to: tuple[str, ...]) -> bytes:
        """Encrypt, so that only who says the same ``bound_to`` can decrypt it."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - only secrets need it

        nonce = secrets.token_bytes(_NONCE)
        return _FORMAT + nonce + AESGCM(self.material).encrypt(nonce, content, _associated(bound_to, _FORMAT))

    def unseal(self, sealed: bytes, *, bound_to: tuple[str, ...]) -> bytes:
        """What was sealed.

        Raises:
            SealBrokenError: it was changed, is of another key, or is bound to something else.
        """
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - only secrets need it
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - the same

        nonce, content = sealed[1 : _NONCE + 1], sealed[_NONCE + 1 :]
        try:
            return AESGCM(self.material).decrypt(nonce, content, _associated(bound_to, sealed[:1]))
        except (InvalidTag, ValueError):
            message = "it was changed in the database, or moved there from elsewhere"
            raise SealBrokenError(message, fix="set the secret again") from None


def _associated(bound_to: tuple[str, ...], form: bytes) -> bytes:
    parts = [b"stepbox secret", form, *(part.encode() for part in bound_to)]
    return b"".join(len(part).to_bytes(4) + part for part in parts)


def keys_of(content: bytes, place: str, *, fix: str) -> tuple[SecretKey, ...]:
    """The keys in a text: each 32 bytes in base64, with white space between them.

    Raises:
        SecretKeyError: it holds none, or something else.
    """
    keys: list[SecretKey] = []
    for word in content.split():
        try:
            material = base64.b64decode(word, validate=True)
        except (binascii.Error, ValueError):
            material = b""
        if len(material) != _LENGTH:
            keys.clear()
            break
        keys.append(SecretKey(material=material))
    if not keys:
        raise SecretKeyError(f"{place} holds no key of {_LENGTH} bytes in base64", fix=fix)
    return tuple(keys)


class KeySource(Protocol):
    """Where keys come from."""

    @property
    def place(self) -> str:
        """What messages call it."""

    async def read(self) -> tuple[SecretKey, ...]:
        """The keys, the first the one to encrypt by; none where there is no such thing yet.

        Raises:
            StepboxError: they can't be had.
        """

    async def make(self) -> SecretKey:
        """Make the first key, or take the one that another process has just made.

        Raises:
            SecretKeyError: it is not made here.
        """

    def changing(self) -> AbstractAsyncContextManager[None]:
        """Nobody else changes the keys inside it.

        Raises:
            SecretKeyError: somebody does.
        """

    async def add(self, known: tuple[SecretKey, ...]) -> SecretKey:
        """Make another key, known besides these and before them.

        Raises:
            SecretKeyError: it has to be made elsewhere.
        """

    async def leave(self, key: SecretKey, known: tuple[SecretKey, ...]) -> tuple[Path, ...]:
        """Keep only this one of the known keys; gives where the others are now, for backups of the database."""


class KeyFile:
    """Keys in a file that only its owner may read, each a line of base64 (:class:`KeySource`)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def place(self) -> str:
        return str(self.path)

    async def read(self) -> tuple[SecretKey, ...]:
        return await asyncio.to_thread(self.known)

    async def make(self) -> SecretKey:
        return await asyncio.to_thread(self.create)

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        with self._locked():
            yield

    async def add(self, known: tuple[SecretKey, ...]) -> SecretKey:
        key = SecretKey(material=secrets.token_bytes(_LENGTH))
        await asyncio.to_thread(self._replace, self.path, (key, *known))
        return key

    async def leave(self, key: SecretKey, known: tuple[SecretKey, ...]) -> tuple[Path, ...]:
        others = {other: self.path.with_name(f"{self.path.name}.{other.id}") for other in known if other != key}
        for other, path in others.items():
            await asyncio.to_thread(self._replace, path, (other,))
        await asyncio.to_thread(self._replace, self.path, (key,))
        return tuple(others.values())

    def known(self) -> tuple[SecretKey, ...]:
        """The keys, none where there is no file.

        Raises:
            SecretKeyExposedError: others may read it.
            SecretKeyError: it can't be read, or holds no key.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise SecretKeyError(f"can't read the key {self.path}: {error.strerror}", fix="check the file") from error
        try:
            # Of what was opened, which nobody can exchange any more.
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise SecretKeyError(f"the key {self.path} is not a file", fix="remove it")
            if mode & _OTHERS:
                message = f"the key {self.path} may be read by others (mode {stat.S_IMODE(mode):o})"
                raise SecretKeyExposedError(
                    message, fix=f"chmod 600 {self.path}; if others had access to it, set all secrets again"
                )
            content = os.read(descriptor, MAX_KEYS)
        finally:
            os.close(descriptor)
        return keys_of(content, self.place, fix="put back the file from a backup")

    def create(self) -> SecretKey:
        """Make a key, or take the one that another process has just made.

        Raises:
            SecretKeyError: the file can't be written.
        """
        with self._written((SecretKey(material=secrets.token_bytes(_LENGTH)),)) as part:
            # Unlike a rename, a link never replaces: of two processes, one makes the key and the other finds it.
            try:
                os.link(part, self.path)
            except FileExistsError:
                pass
            else:
                _sync(self.path.parent)
        return self.known()[0]

    def _replace(self, path: Path, keys: tuple[SecretKey, ...]) -> None:
        with self._written(keys) as part:
            part.replace(path)
            _sync(path.parent)

    @contextmanager
    def _written(self, keys: tuple[SecretKey, ...]) -> Iterator[Path]:
        """A file beside this one that has the keys for good; gone at the end, unless it has got another name."""
        part = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with open(descriptor, "wb") as file:  # noqa: PTH123 - the mode is that of its making
                    file.write(b"".join(base64.b64encode(key.material) + b"\n" for key in keys))
                    file.flush()
                    os.fsync(descriptor)
                yield part
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            message = f"can't write the key {self.path}: {error.strerror}"
            raise SecretKeyError(message, fix="check the directory, and that its disk has room") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            descriptor = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            message = f"can't write beside the key {self.path}: {error.strerror}"
            raise SecretKeyError(message, fix="check the directory") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise SecretKeyError("somebody else is changing the key now", fix="try again in a moment") from None
        finally:
            os.close(descriptor)


def _sync(directory: Path) -> None:
    """Make a new name in a directory outlast a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

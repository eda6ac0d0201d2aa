"""The key that secrets are encrypted by: a file of the home, apart from the database."""

import base64
import binascii
import hashlib
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flows.errors import RefusedError, StepboxError

_LENGTH: Final = 32
"""Bytes: a key of AES-256."""
_NONCE: Final = 12
_FORMAT: Final = b"\x01"
"""The first byte of what is sealed: AES-256-GCM, then the nonce, then the text with its tag."""
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


class KeyFile:
    """A key in a file that only its owner may read, as one line of base64."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> SecretKey | None:
        """The key, None where there is no file.

        Raises:
            SecretKeyExposedError: others may read it.
            SecretKeyError: it can't be read, or holds no key.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
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
            content = os.read(descriptor, 1000)
        finally:
            os.close(descriptor)
        try:
            material = base64.b64decode(content.strip(), validate=True)
        except (binascii.Error, ValueError):
            material = b""
        if len(material) != _LENGTH:
            message = f"{self.path} holds no key of {_LENGTH} bytes in base64"
            raise SecretKeyError(message, fix="put back the file from a backup")
        return SecretKey(material=material)

    def create(self) -> SecretKey:
        """Make a key, or take the one that another process has just made.

        Raises:
            SecretKeyError: the file can't be written.
        """
        material = secrets.token_bytes(_LENGTH)
        part = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with open(descriptor, "wb") as file:  # noqa: PTH123 - the mode is that of its making
                    file.write(base64.b64encode(material) + b"\n")
                    file.flush()
                    os.fsync(descriptor)
                # Unlike a rename, a link never replaces: of two processes, one makes the key and the other finds it.
                try:
                    os.link(part, self.path)
                except FileExistsError:
                    pass
                else:
                    _sync(self.path.parent)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            message = f"can't write the key {self.path}: {error.strerror}"
            raise SecretKeyError(message, fix="check the directory, and that its disk has room") from error
        key = self.read()
        assert key is not None
        return key


def _sync(directory: Path) -> None:
    """Make a new name in a directory outlast a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

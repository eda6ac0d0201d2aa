"""Secrets, of which nobody is shown a value."""

from collections.abc import Sequence
from typing import Protocol

from engine.records import KeyRotation, SecretSummary


class SecretUseCases(Protocol):
    """Secrets, of which nobody is shown a value."""

    async def set_secret(self, name: str, value: str) -> SecretSummary:
        """Set a secret; the value that it had is gone. See :class:`engine.secrets.Secrets`."""

    async def rotate_secret(self, name: str, value: str, *, overlap: float) -> SecretSummary:
        """Give a secret another value; the one that it had stays live for so many seconds."""

    async def rotate_secret_key(self, *, prepare: bool) -> KeyRotation:
        """Encrypt the secrets of all workspaces by a new key; with ``prepare`` only make it known."""

    async def secrets(self) -> Sequence[SecretSummary]:
        """The secrets by name, without their values."""

    async def delete_secret(self, name: str, *, old_only: bool) -> int:
        """Forget a secret, or the value that it had before; gives how many values are gone."""

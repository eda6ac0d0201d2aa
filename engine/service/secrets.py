"""Secrets, of which nobody is shown a value."""

from collections.abc import Sequence
from typing import Protocol

from engine.records import SecretSummary


class SecretUseCases(Protocol):
    """Secrets, of which nobody is shown a value."""

    async def set_secret(self, name: str, value: str, *, keep_old: bool) -> SecretSummary:
        """Set a secret; with ``keep_old`` the value that it had stays live too. See :class:`engine.secrets.Secrets`."""

    async def secrets(self) -> Sequence[SecretSummary]:
        """The secrets by name, without their values."""

    async def delete_secret(self, name: str, *, old_only: bool) -> int:
        """Forget a secret, or the value that it had before; gives how many values are gone."""

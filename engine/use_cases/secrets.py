"""Secrets, of which nobody is shown a value."""

from collections.abc import Sequence

from engine.records import KeyRotation, SecretSummary
from engine.use_cases.acting import Acting


class SecretUseCases(Acting):
    """Secrets, of which nobody is shown a value."""

    async def set_secret(self, name: str, value: str) -> SecretSummary:
        self._may("secrets.change")
        return await (await self._parts.secrets()).put(self._workspace, name, value)

    async def rotate_secret(self, name: str, value: str, *, overlap: float) -> SecretSummary:
        self._may("secrets.change")
        return await (await self._parts.secrets()).rotate(self._workspace, name, value, overlap=overlap)

    async def rotate_secret_key(self, *, prepare: bool) -> KeyRotation:
        self._may("secrets.rotate")
        return await (await self._parts.secrets()).rotate_key(prepare=prepare)

    async def secrets(self) -> Sequence[SecretSummary]:
        self._may("secrets.read")
        return await (await self._parts.secrets()).list(self._workspace)

    async def delete_secret(self, name: str, *, old_only: bool) -> int:
        self._may("secrets.change")
        return await (await self._parts.secrets()).delete(self._workspace, name, old_only=old_only)

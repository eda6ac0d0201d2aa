"""Secrets, of which nobody is shown a value."""

from collections.abc import Sequence
from urllib.parse import quote

from engine.records import KeyRotation, SecretSummary
from engine.remote import records
from engine.remote.calling import Calling


class SecretCalls(Calling):
    """Secrets, of which nobody is shown a value."""

    async def set_secret(self, name: str, value: str) -> SecretSummary:
        path = f"/secrets/{quote(name, safe='')}"
        return records.secret(await self._client.call("PUT", path, body={"value": value}))

    async def rotate_secret(self, name: str, value: str, *, overlap: float) -> SecretSummary:
        path = f"/secrets/{quote(name, safe='')}/rotate"
        return records.secret(await self._client.call("POST", path, body={"value": value, "overlap": overlap}))

    async def rotate_secret_key(self, *, prepare: bool) -> KeyRotation:
        return records.key_rotation(await self._client.call("POST", "/secret-key/rotate", body={"prepare": prepare}))

    async def secrets(self) -> Sequence[SecretSummary]:
        return [records.secret(one) for one in await self._client.pages("/secrets")]

    async def delete_secret(self, name: str, *, old_only: bool) -> int:
        query = {"old_only": "true" if old_only else "false"}
        done = await self._client.call("DELETE", f"/secrets/{quote(name, safe='')}", query=query)
        return int(done["deleted"])

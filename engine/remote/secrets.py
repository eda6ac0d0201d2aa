"""Secrets, of which nobody is shown a value."""

from collections.abc import Sequence
from urllib.parse import quote

from engine.records import SecretSummary
from engine.remote import records
from engine.remote.calling import Calling


class SecretCalls(Calling):
    """Secrets, of which nobody is shown a value."""

    async def set_secret(self, name: str, value: str, *, keep_old: bool) -> SecretSummary:
        body = {"value": value, "keep_old": keep_old}
        return records.secret(await self._client.call("PUT", f"/secrets/{quote(name, safe='')}", body=body))

    async def secrets(self) -> Sequence[SecretSummary]:
        return [records.secret(one) for one in await self._client.pages("/secrets")]

    async def delete_secret(self, name: str, *, old_only: bool) -> int:
        query = {"old_only": "true" if old_only else "false"}
        done = await self._client.call("DELETE", f"/secrets/{quote(name, safe='')}", query=query)
        return int(done["deleted"])

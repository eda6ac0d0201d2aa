"""The service elsewhere, as commands see it."""

import asyncio
from shutil import rmtree

from engine.remote.approvals import ApprovalCalls
from engine.remote.artifacts import ArtifactCalls
from engine.remote.audit import AuditCalls
from engine.remote.kept_events import EventCalls
from engine.remote.maintenance import MaintenanceCalls
from engine.remote.policy import PolicyCalls
from engine.remote.principals import PrincipalCalls
from engine.remote.running import RunCalls
from engine.remote.secrets import SecretCalls
from engine.remote.tokens import TokenCalls
from engine.remote.workspaces import WorkspaceCalls


class RemoteService(
    RunCalls,
    ArtifactCalls,
    ApprovalCalls,
    EventCalls,
    SecretCalls,
    TokenCalls,
    AuditCalls,
    PrincipalCalls,
    PolicyCalls,
    WorkspaceCalls,
    MaintenanceCalls,
):
    """Implements :class:`engine.service.Service` over HTTP, made as :class:`engine.remote.calling.Calling` is."""

    async def close(self) -> None:
        """Remove what was fetched, and end the connection."""
        for directory in self._fetched:
            await asyncio.to_thread(rmtree, directory, ignore_errors=True)
        await self._client.close()

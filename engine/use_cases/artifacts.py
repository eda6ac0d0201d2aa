"""What steps left."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from engine.records import ArtifactRecord
from engine.use_cases.acting import Acting
from flows.contracts import Artifact


class ArtifactUseCases(Acting):
    """What steps left."""

    async def run_artifacts(self, run: str) -> Sequence[ArtifactRecord]:
        self._may("runs.read")
        store, found = await self._run(run)
        return await store.artifacts.list(found.id)

    async def fetch_artifacts(self, artifacts: Sequence[Artifact]) -> Sequence[Path]:
        self._may("runs.read")
        for one in artifacts:
            await self.artifact(one.id)
        contents = (await self._parts.store()).artifacts.contents
        return await contents.fetch(artifacts, contents.spool.directory)

    async def artifact(self, artifact: str) -> ArtifactRecord:
        self._may("runs.read")
        store = await self._parts.store()
        return await store.artifacts.get(artifact, workspace=self._workspace, reach=self._reach)

    async def release_artifacts(self, files: Sequence[Path]) -> None:
        self._may("runs.read")
        contents = (await self._parts.store()).artifacts.contents
        await asyncio.to_thread(contents.release, files)

"""What steps left."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import quote

from engine.records import ArtifactRecord
from engine.remote import records
from engine.remote.calling import Calling
from flows.contracts import Artifact


class ArtifactCalls(Calling):
    """What steps left."""

    async def run_artifacts(self, run: str) -> Sequence[ArtifactRecord]:
        found = await self._client.pages(f"/runs/{quote(run)}/artifacts")
        return [records.artifact(run, one) for one in found]

    async def artifact(self, artifact: str) -> ArtifactRecord:
        found = await self._client.call("GET", f"/artifacts/{quote(artifact, safe='')}/about")
        return records.artifact(found["run_id"], found)

    async def fetch_artifacts(self, artifacts: Sequence[Artifact]) -> Sequence[Path]:
        directory = Path(await asyncio.to_thread(mkdtemp, prefix="stepbox-artifacts-"))
        self._fetched.append(directory)
        for one in artifacts:
            await self._client.save(f"/artifacts/{one.id}", directory / one.id, sha256=one.sha256)
        return [directory / one.id for one in artifacts]

    async def release_artifacts(self, files: Sequence[Path]) -> None:
        for file in files:
            await asyncio.to_thread(file.unlink, missing_ok=True)

"""What steps left."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from engine.records import ArtifactRecord
from flows.contracts import Artifact


class ArtifactUseCases(Protocol):
    """What steps left."""

    async def run_artifacts(self, run: str) -> Sequence[ArtifactRecord]:
        """What the steps of a run left, by step, item, attempt and path."""

    async def fetch_artifacts(self, artifacts: Sequence[Artifact]) -> Sequence[Path]:
        """Files on this machine with the contents of artifacts, checked, there until the service is closed.

        Raises:
            StepboxError: a content can't be had, or is damaged.
        """

    async def artifact(self, artifact: str) -> ArtifactRecord:
        """The artifact of that id. Raises :class:`UnknownRecordError` where there is none."""

    async def release_artifacts(self, files: Sequence[Path]) -> None:
        """Say that files which :meth:`fetch_artifacts` gave aren't needed any more."""

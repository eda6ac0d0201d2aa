"""Artifacts as tests have them: kept in memory, with the directories that they need on the way."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from flows.contracts import Artifact, CollectedFile, WorkFile


@dataclass
class Shelf:
    """What an attempt takes and leaves (the part of :class:`flows.contracts.StepCall` that is about artifacts)."""

    place: Path = Path("/nonexistent")
    earlier: dict[str, bytes] = field(default_factory=dict)
    kept: dict[str, bytes] = field(default_factory=dict)

    async def fetch_artifacts(self, names: Sequence[str]) -> Sequence[WorkFile]:
        return [work_file(self.artifact_directory(), name, self.earlier[name]) for name in names]

    def artifact_directory(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.place))

    async def keep_artifacts(self, files: Sequence[CollectedFile]) -> tuple[Artifact, ...]:
        self.kept = {file.path: content_of(file) for file in files}
        return tuple(
            Artifact(id=file.path, path=file.path, size=file.size, sha256=file.sha256, media_type="text/plain")
            for file in files
        )


def content_of(file: CollectedFile) -> bytes:
    """The content of a collected file, which is what is said of it."""
    content = file.content.read_bytes()
    assert (len(content), sha256(content).hexdigest()) == (file.size, file.sha256)
    return content


def work_file(directory: Path, path: str, content: bytes) -> WorkFile:
    """A file that a step is to find, its content lying in ``directory``."""
    place = directory / sha256(path.encode()).hexdigest()
    place.write_bytes(content)
    return WorkFile(path=path, size=len(content), content=place)

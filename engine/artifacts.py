"""The artifacts of one run while it goes on: what its steps left, and what its attempts take and leave."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ulid import ULID

from flows.contracts import Artifact, CollectedFile, StepResult, WorkFile
from flows.errors import StepboxError
from flows.values import Json

if TYPE_CHECKING:
    from engine.store.contents import ArtifactContents

ALL = "*"
"""As the name of an artifact: all of the step's."""
_NAMED = 10
"""Artifacts that an error names, of those there are."""


EVENT = "event"
"""As the step of an artifact: the files that came with the event which started the run."""


class MissingArtifactError(StepboxError):
    """A step asks for an artifact that no step left."""

    code = "artifact_missing"


class RunArtifacts:
    """What came with the event of a run, and what its steps left, by their last attempts."""

    def __init__(self, of_event: Sequence[Artifact] = ()) -> None:
        self._of: dict[str, dict[str, Artifact]] = {EVENT: {one.path: one for one in of_event}}

    def add(self, step_id: str, result: StepResult) -> None:
        """The step has ended with these."""
        self._of[step_id] = {one.path: one for one in result.artifacts}

    def named(self, names: Sequence[str]) -> dict[str, Artifact]:
        """The artifacts that ``files`` of a step names, each by its path in the work directory.

        Raises:
            MissingArtifactError: there is none of a name.
        """
        return {path: artifact for name in names for path, artifact in self._find(name)}

    def digests(self, names: Sequence[str]) -> list[tuple[str, str | None]]:
        """What a step is given by ``files``, as far as it is there: paths with digests."""
        found: list[tuple[str, str | None]] = []
        for name in names:
            try:
                found += [(path, artifact.sha256) for path, artifact in self._find(name)]
            except MissingArtifactError:
                found.append((name, None))
        return found

    def _find(self, name: str) -> Iterator[tuple[str, Artifact]]:
        step_id, _, wanted = name.partition("/")
        there = self._of.get(step_id, {})
        if wanted == ALL:
            yield from ((f"{step_id}/{path}", artifact) for path, artifact in there.items())
        elif wanted in there:
            yield name, there[wanted]
        else:
            raise MissingArtifactError(
                f"{_whose(step_id)} no artifact '{wanted}': {_those(there)}", fix="correct the name in `files`"
            )


class AttemptArtifacts:
    """What one attempt takes and leaves: a directory of its own while it goes on, and nothing of it afterwards."""

    def __init__(self, earlier: RunArtifacts, contents: "ArtifactContents") -> None:
        self._earlier = earlier
        self._contents = contents
        self._made: list[Path] = []

    async def fetch(self, names: Sequence[str]) -> tuple[WorkFile, ...]:
        """See :meth:`flows.contracts.StepCall.fetch_artifacts`."""
        named = self._earlier.named(names)
        contents = await self._contents.fetch(tuple(named.values()), self.directory)
        return tuple(
            WorkFile(path=path, size=artifact.size, content=content)
            for (path, artifact), content in zip(named.items(), contents, strict=True)
        )

    def directory(self) -> Path:
        """See :meth:`flows.contracts.StepCall.artifact_directory`."""
        made = self._contents.spool.directory()
        self._made.append(made)
        return made

    async def keep(self, files: Sequence[CollectedFile]) -> tuple[Artifact, ...]:
        """See :meth:`flows.contracts.StepCall.keep_artifacts`."""
        return await self._contents.keep(files)

    def close(self) -> None:
        """Remove the directories."""
        for made in self._made:
            shutil.rmtree(made, ignore_errors=True)


def of_event(trigger: Mapping[str, Json]) -> tuple[Artifact, ...]:
    """The files of the webhook's request that started a run, of what the run knows of its start."""
    by, event = trigger.get("trigger"), trigger.get("event")
    if not isinstance(by, Mapping) or not isinstance(event, Mapping):
        return ()
    if by.get("first", by.get("kind")) != "webhook":
        return ()
    return tuple(
        Artifact(
            id=str(ULID()),
            path=one["path"],
            size=one["size"],
            sha256=one["sha256"],
            media_type=one["content_type"],
        )
        for one in event.get("files", ())
    )


def of_item(item: int, artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
    """What an item of a for-each left, as the step has it."""
    return tuple(replace(one, path=f"{item}/{one.path}") for one in artifacts)


def artifact_document(artifact: Artifact) -> dict[str, Json]:
    """An artifact as expressions and JSON documents have it."""
    return {
        "id": artifact.id,
        "path": artifact.path,
        "size": artifact.size,
        "sha256": artifact.sha256,
        "media_type": artifact.media_type,
    }


def artifact_of(document: dict[str, Json], new_id: Callable[[], str]) -> Artifact:
    """The artifact of a document, as one of another attempt that came to the same."""
    return Artifact(**{**document, "id": new_id()})


def _whose(step_id: str) -> str:
    return "the event brought" if step_id == EVENT else f"step '{step_id}' left"


def _those(there: dict[str, Artifact]) -> str:
    if not there:
        return "it left none"
    more = f" and {len(there) - _NAMED:,} more" if len(there) > _NAMED else ""
    return f"it left {', '.join(list(there)[:_NAMED])}{more}"

"""The files that come with an event: their contents are kept before it is, as those of artifacts are."""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from engine.store.contents import ArtifactContents
from flows.contracts import CollectedFile
from flows.events import Attachment


async def keep_attachments(contents: ArtifactContents, attachments: Sequence[Attachment]) -> None:
    """Keep the contents, and close them.

    Raises:
        ArtifactsUnavailableError: they can't be kept, or not in time.
    """
    try:
        if attachments:
            directory = contents.spool.directory()
            try:
                await contents.keep(await asyncio.to_thread(_write, attachments, directory))
            finally:
                shutil.rmtree(directory, ignore_errors=True)
    finally:
        for attachment in attachments:
            attachment.content.close()


def _write(attachments: Sequence[Attachment], directory: Path) -> list[CollectedFile]:
    files = []
    for number, one in enumerate(attachments):
        content = directory / str(number)
        with content.open("xb") as file:
            shutil.copyfileobj(one.content, file)
        files.append(CollectedFile(path=one.path, size=one.size, sha256=one.sha256, content=content))
    return files

"""Keeps the flows of a directory applied: now, and whenever its files change."""

import asyncio
import logging
from pathlib import Path

from engine.files import read_file
from engine.flow_files import flow_files
from engine.service import FlowText, Service
from flows.errors import InvalidCallError, StepboxError
from flows.reader import MAX_TEXT

_log = logging.getLogger("stepbox.flows")

SETTLED = 500
"""Milliseconds without a change after which files are read: a checkout writes many, one after the other."""


async def keep_applied(service: Service, directory: Path) -> None:
    """Apply what the directory holds, for ever; a change with an error in it is logged, and changes nothing.

    A flow whose file is gone stays as it is: nothing that is in service goes because a disk isn't mounted.

    Raises:
        InvalidCallError: there is no such directory.
    """
    from watchfiles import awatch  # noqa: PLC0415 - only who watches needs it

    if not await asyncio.to_thread(directory.is_dir):
        raise InvalidCallError(f"{directory} is not a directory", fix="name one with flow files by --flows")
    await _apply(service, directory)
    async for _changes in awatch(directory, step=SETTLED, debounce=10 * SETTLED):
        await _apply(service, directory)


async def _apply(service: Service, directory: Path) -> None:
    try:
        texts = await asyncio.to_thread(_texts, directory)
        applied = await service.apply(texts)
    except (StepboxError, OSError) as problem:
        why = {"directory": str(directory), "why": str(problem)}
        _log.error("the flows of the directory are not applied", extra=why)
        return
    for one in applied:
        if one.change != "unchanged":
            _log.info("applied", extra={"flow": one.flow, "version": one.version, "change": one.change})


def _texts(directory: Path) -> list[FlowText]:
    flows, _others = flow_files(directory)
    return [FlowText(text=read_file(path, limit=MAX_TEXT), path=str(path), directory=path.parent) for path in flows]

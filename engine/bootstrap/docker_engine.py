"""The Docker Engine that the environment names, for commands that need nothing else of an installation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from engine.settings import Settings
from steps.sandbox.docker.endpoint import find
from steps.sandbox.docker.engine import Engine


@asynccontextmanager
async def open_engine() -> AsyncIterator[Engine]:
    """The Engine, connected; closed at the end.

    Raises:
        RefusedError: it can't be reached, or is too old.
    """
    engine = Engine(find(Settings().docker.variables))
    try:
        await engine.open()
        yield engine
    finally:
        await engine.close()

"""Log lines on their way to the store: written in batches, so that a chatty step costs few transactions."""

import asyncio
import logging

from engine.cancellation import settled
from engine.heartbeat import of_no_run
from engine.records import LogLine
from engine.store import Store
from engine.store.errors import LeaseLostError, StoreError
from flows.errors import StepboxError

_log = logging.getLogger(__name__)

BATCH = 500
"""Lines after which a batch is written at once."""
DELAY = 0.2
"""Seconds a line may wait for company, so that `stepbox runs logs` beside a run is live."""


class Logbook:
    """Collects the lines of one run. :meth:`flush` writes what is there; :meth:`close` ends the background writing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lines: list[LogLine] = []
        self._writing = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None

    async def append(self, line: LogLine) -> None:
        """Take a line; the caller waits only where a batch is full, so that output can't outrun the store."""
        self._lines.append(line)
        if len(self._lines) >= BATCH:
            await self.flush()
        elif self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._flush_soon())

    async def flush(self) -> None:
        """Write all lines taken so far; being cancelled meanwhile neither loses a line nor writes one twice.

        Raises:
            StoreError: the lines can't be written; they are kept for the next time.
        """
        if not self._lines and not self._writing.locked():
            return
        async with self._writing:
            lines, self._lines = self._lines, []
            try:
                await self._store.logs.append(lines)
            except Exception:
                self._lines[:0] = lines
                raise

    async def close(self) -> None:
        """Write what is left and end, even where this is cancelled meanwhile.

        Raises:
            StoreError: the lines can't be written.
        """
        try:
            if self._writer is not None:
                self._writer.cancel()
                await settled(asyncio.gather(self._writer, return_exceptions=True))
        finally:
            await self.flush()

    async def leave(self) -> None:
        """Write what is left of a run that is let go of, and end; where that fails, the log says so.

        Nothing else is written of the run any more, but it is this engine's until it is released.
        """
        try:
            await of_no_run(self.close())
        except (StoreError, LeaseLostError):
            _log.warning("what a run printed last could not be written", exc_info=True)

    async def _flush_soon(self) -> None:
        await asyncio.sleep(DELAY)
        try:
            await self.flush()
        except LeaseLostError as lost:
            # Of a run that is let go of, they are written as it is left.
            if not isinstance(lost.__cause__, StepboxError):
                _log.warning("log lines of a run that another engine drives now are dropped")
        except StepboxError:
            # Whoever flushes next tries again and hears of it.
            _log.warning("log lines could not be written yet", exc_info=True)

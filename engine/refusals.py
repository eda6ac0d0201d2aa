"""Recording refusals so that nobody fills the disk with them: beyond so many a minute of one kind they are counted."""

import asyncio
import logging
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from engine.audit import Actor, Target, acting
from engine.records import Run
from engine.store import Store
from flows.errors import StepboxError
from flows.values import Json

_log = logging.getLogger(__name__)

WINDOW: Final = 60.0
"""Seconds in which so many of one kind have an entry each."""
MOST: Final = 20
"""Entries of one kind in that time, where the caller says nothing else."""
KINDS: Final = 1000
"""Kinds that are told apart at a time; further ones are counted together."""
PLACES: Final = 10
"""Addresses that an entry of those that were counted names."""

_OTHERS: Final = ("others",)


@dataclass(kw_only=True)
class _Counted:
    """What came of one kind since ``since`` (seconds of the loop's clock)."""

    since: float
    entry: Mapping[str, Any]
    written: int = 0
    times: int = 0
    addresses: set[str] = field(default_factory=set)


def reason(refused: StepboxError) -> dict[str, Json]:
    """The details of an entry: why something was refused."""
    return {"code": refused.code, "why": refused.message}


@contextmanager
def recorded_or_not(refused: StepboxError) -> Iterator[None]:
    """Record a refusal inside the block. It is refused all the same where that fails, and nothing has happened."""
    try:
        yield
    except StepboxError:
        _log.warning("a refusal can't be recorded: %s", refused.message, exc_info=True)


class Refusals:
    """The refusals that this process makes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counted: dict[Hashable, _Counted] = {}

    async def note(
        self,
        *,
        key: Hashable,
        workspace: str,
        action: str,
        target: Target | None = None,
        actor: Actor | None = None,
        run: str | None = None,
        details: Mapping[str, Json] | None = None,
        most: int = MOST,
    ) -> None:
        """Record a refusal, or count it where there were ``most`` of the kind ``key`` in this minute."""
        who = actor or acting()
        entry: dict[str, Any] = {
            "workspace": workspace,
            "action": action,
            "target": target,
            "actor": who,
            "outcome": "refused",
        }
        now = asyncio.get_running_loop().time()
        if key not in self._counted and len(self._counted) >= KINDS:
            key, most = _OTHERS, 0
        counted = self._counted.get(key)
        if counted is None:
            counted = self._counted[key] = _Counted(since=now, entry=entry)
        if counted.written < most:
            counted.written += 1
            await self._store.audit.append(**entry, run=run, details=details)
            return
        counted.times += 1
        if who is not None and who.address is not None and len(counted.addresses) < PLACES:
            counted.addresses.add(who.address)

    async def note_of_run(self, refused: StepboxError, run: Run, *, action: str, target: Target) -> None:
        """The same of what a run, or its code, was refused."""
        with recorded_or_not(refused):
            await self.note(
                key=(run.workspace, run.principal, action, target),
                workspace=run.workspace,
                action=action,
                target=target,
                actor=Actor(name=run.principal, kind="run"),
                run=run.id,
                details=reason(refused),
            )

    async def flush(self, *, all_of_them: bool = False) -> None:
        """Record how often what was counted came, of each kind whose minute is over."""
        now = asyncio.get_running_loop().time()
        for key, counted in list(self._counted.items()):
            if not all_of_them and now - counted.since < WINDOW:
                continue
            del self._counted[key]
            if counted.times:
                told: dict[str, Json] = {"more": counted.times, "addresses": sorted(counted.addresses)}
                await self._store.audit.append(**counted.entry, details=told)

    async def keep_flushed(self) -> None:
        """Record what was counted every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(WINDOW / 6)
            try:
                await self.flush()
            except StepboxError:
                # The database is away; what is counted since comes with the next minute's.
                continue

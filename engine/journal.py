"""What an attempt finds recorded of the tool calls that earlier attempts of its step made (docs/running.md).

The code runs again from its beginning; calls that have happened give their recorded results. Each record is claimed
once in an attempt, by a call of the same tool with the same arguments, in whatever order the calls come.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Final, TypeAlias

from engine.records import ToolCall
from engine.store import Store
from engine.store.calls import OUTCOME_UNKNOWN, arguments_digest
from flows.contracts import ToolSpec
from flows.values import Json, json_text
from steps.tools.contract import ToolError

PATIENCE: Final = 5.0
"""Seconds without a further call that a write which matches no record waits for the recorded ones of other threads."""
STRETCH: Final = 1.5
"""How many times the time that these took to come in their own attempt it waits at least."""
MISMATCH: Final = "journal_mismatch"
_NAMED: Final = 3
_SHOWN: Final = 120


class OutcomeUnknownError(ToolError):
    """A call was cut off while it was going on, and must not be made twice."""

    code: ClassVar[str] = OUTCOME_UNKNOWN


class JournalMismatchError(ToolError):
    """The code makes a write that no earlier attempt made, and not those that one made."""

    code: ClassVar[str] = MISMATCH


@dataclass(frozen=True, kw_only=True)
class Happened:
    """The call was made before; this is its result."""

    result: Json


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """The call may have been made before, with this key; nobody heard what it came to."""

    idempotency_key: str


@dataclass(frozen=True, kw_only=True)
class Due:
    """The call is to be made: with this key where it repeats a failed one that may have been made all the same."""

    idempotency_key: str | None = None


Claim: TypeAlias = Happened | Unknown | Due


@dataclass(kw_only=True, eq=False)
class _Entry:
    """One call, however often it was made with the same idempotency key."""

    last: ToolCall
    """The record of the last time."""
    came_after: float
    """Seconds from the beginning of the attempt that first made it."""

    @property
    def happened(self) -> bool:
        return self.last.ended_at is not None and self.last.error is None

    @property
    def unheard(self) -> bool:
        """Whether the code that made it never heard of its end."""
        error = self.last.error
        return self.last.ended_at is None or (
            error is not None and error.code == OUTCOME_UNKNOWN and self.last.uncertain
        )


@dataclass(kw_only=True)
class _Equals:
    """The unclaimed entries of one tool and the same arguments, the oldest first."""

    standing: list[_Entry] = field(default_factory=list)
    """Those that have happened, or may have without anyone hearing of it."""
    failed: list[_Entry] = field(default_factory=list)
    """Those that have not: they failed, or never got so far."""


class Journal:
    """The records that one attempt may claim. They are read once, with its first call; for a first attempt, never.

    ``spec_of`` gives the tool of a name, None where it is gone. ``one_call`` says that the step makes only one call, so
    that there are no others to wait for.
    """

    def __init__(
        self,
        store: Store,
        spec_of: Callable[[str], ToolSpec | None],
        *,
        run_id: str,
        step_id: str,
        item: int | None,
        attempt: int,
        one_call: bool,
    ) -> None:
        self._store = store
        self._spec_of = spec_of
        self._run_id = run_id
        self._step_id = step_id
        self._item = item
        self._attempt = attempt
        self._one_call = one_call
        self._loading = asyncio.Lock()
        self._entries: dict[str, _Equals] | None = {} if attempt == 1 else None
        self._unclaimed: list[_Entry] = []
        """The standing writes among them."""
        self._all_claimed = asyncio.Event()
        self._first_call = self._last_call = 0.0
        self._held = 0
        """Writes that wait for the unclaimed ones."""
        self._may_overtake = 0
        """How many of them may be made first."""

    async def claim(self, tool: str, arguments: Json) -> Claim:
        """What is to be done about a call.

        Raises:
            JournalMismatchError: it is a write that no earlier attempt made, while ones that one made are unclaimed.
        """
        if self._entries is None:
            async with self._loading:
                if self._entries is None:
                    self._entries = await self._load()
        if not self._entries:
            return Due()
        self._last_call = asyncio.get_running_loop().time()
        equals = self._entries.get(arguments_digest(tool, arguments))
        if equals is not None and equals.standing:
            return self._take(equals.standing.pop(0))
        if equals is not None and equals.failed:
            failed = equals.failed.pop(0).last
            return Due(idempotency_key=failed.idempotency_key if failed.uncertain else None)
        if self._unclaimed and self._writes(tool, arguments):
            await self._others_first(tool, arguments)
        return Due()

    def _writes(self, tool: str, arguments: Json) -> bool:
        spec = self._spec_of(tool)
        return spec is None or spec.nature(arguments).effect == "write"

    def _may_have_happened(self, entry: _Entry) -> bool:
        """Whether the call has happened, or may have without anyone hearing of it: never so for one in the store."""
        spec = self._spec_of(entry.last.tool)
        return entry.happened or (entry.unheard and not (spec is not None and spec.in_store))

    def _take(self, entry: _Entry) -> Claim:
        if entry in self._unclaimed:
            self._unclaimed.remove(entry)
            if not self._unclaimed:
                self._all_claimed.set()
        if entry.happened:
            return Happened(result=entry.last.result)
        return Unknown(idempotency_key=entry.last.idempotency_key)

    async def _others_first(self, tool: str, arguments: Json) -> None:
        """Let code that makes several calls at once claim the recorded writes before another one is made."""
        self._held += 1
        try:
            if not self._one_call and (await self._all_come() or self._let_go()):
                return
        finally:
            self._held -= 1
        missing = [_words(entry.last.tool, entry.last.arguments) for entry in self._unclaimed]
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise JournalMismatchError(
            f"no earlier attempt of this step made the write {_words(tool, arguments)}, and writes that one made are "
            f"not made again: {'; '.join(missing[:_NAMED])}{more}",
            fix="let the code make the same calls in each attempt: give it times and random values by `with`, and read "
            "what changes by tools",
        )

    async def _all_come(self) -> bool:
        """Whether the recorded writes are all claimed before one has waited for them in vain."""
        at_least = self._first_call + STRETCH * max(entry.came_after for entry in self._unclaimed)
        deadline = 0.0
        while (later := max(at_least, self._last_call) + PATIENCE) > deadline:
            deadline = later
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._all_claimed.wait()
                return True
        return False

    def _let_go(self) -> bool:
        """Whether the writes that are held back may be made first, since a pool of threads holds the others back.

        Of calls made at once, those that are behind may be made before one that has overtaken them: all but one.
        """
        if self._held > self._may_overtake:
            self._may_overtake = 0
            return False
        self._may_overtake -= 1
        return True

    async def _load(self) -> dict[str, _Equals]:
        calls, attempts = await self._store.calls.earlier(
            self._run_id, self._step_id, item=self._item, attempt=self._attempt
        )
        self._first_call = asyncio.get_running_loop().time()
        self._may_overtake = _at_once(calls) - 1
        found: dict[str, _Equals] = {}
        for entry in _entries(calls, attempts):
            equals = found.setdefault(entry.last.arguments_digest, _Equals())
            if not self._may_have_happened(entry):
                equals.failed.append(entry)
                continue
            equals.standing.append(entry)
            if self._writes(entry.last.tool, entry.last.arguments):
                self._unclaimed.append(entry)
        return found


def _entries(calls: Sequence[ToolCall], attempts: Mapping[int, datetime]) -> Iterator[_Entry]:
    """The calls, each once, in the order in which they were first made."""
    by_key: dict[str, _Entry] = {}
    for call in calls:
        known = by_key.get(call.idempotency_key)
        if known is not None:
            known.last = call
            continue
        began = attempts.get(call.attempt, call.started_at)
        came_after = (call.started_at - began).total_seconds()
        by_key[call.idempotency_key] = _Entry(last=call, came_after=max(came_after, 0.0))
    yield from by_key.values()


def _at_once(calls: Sequence[ToolCall]) -> int:
    """How many calls of one attempt were going on at the same time, at most."""
    moments = [(call.attempt, call.started_at, 1) for call in calls]
    moments += [(call.attempt, call.ended_at, -1) for call in calls if call.ended_at is not None]
    most, going_on, attempt = 1, 0, 0
    for number, _at, change in sorted(moments):
        going_on = change if number != attempt else going_on + change
        attempt, most = number, max(most, going_on)
    return most


def _words(tool: str, arguments: Json) -> str:
    """A call as a message names it."""
    text = json_text(arguments)
    return f"{tool} {text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'}"

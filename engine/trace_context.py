"""Which trace what happens here is a part of, as W3C's ``traceparent`` says it. Nothing here knows OpenTelemetry.

A run keeps the ``traceparent`` that it was started with in its trigger. The ids of its spans follow from those of
what they stand for, so that a run which waits, or which another engine takes over, stays one trace with the same root.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final, Protocol, Self

from engine.progress import Progress
from engine.records import RunSummary
from engine.requests import AnsweredRequest
from flows.values import Json

KEPT: Final = "traceparent"
"""What a run's trigger has it under."""

_HEADER: Final = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = 1


@dataclass(frozen=True, kw_only=True)
class TraceContext:
    """A span and its trace, by their ids in hexadecimal: 32 digits and 16. ``sampled``: whether it is recorded.

    ``own`` says that it is a span of Stepbox's, which can have others below it. One that isn't came from outside.
    """

    trace_id: str
    span_id: str
    sampled: bool
    own: bool = False

    @classmethod
    def parse(cls, header: object) -> Self | None:
        """What a ``traceparent`` says; None where it says nothing (https://www.w3.org/TR/trace-context/)."""
        found = _HEADER.fullmatch(header.strip()) if isinstance(header, str) else None
        if found is None or (found[1] == "00" and found[5] is not None):
            return None
        return cls(trace_id=found[2], span_id=found[3], sampled=bool(int(found[4], 16) & _SAMPLED))

    @property
    def header(self) -> str:
        """As a ``traceparent``."""
        return f"00-{self.trace_id}-{self.span_id}-{self.sampled:02x}"

    def below(self, *of: object) -> "TraceContext":
        """The context of a span of this trace, that of what ``of`` names; this one where nothing is recorded here."""
        return replace(self, span_id=span_id(*of)) if self.own else self


def span_id(*of: object) -> str:
    """The id of the span of what these name: always the same one. A run by its id, an attempt by all that tell it."""
    return _digits(of, 16)


def trace_id(*of: object) -> str:
    """The id of a trace that begins with what these name."""
    return _digits(of, 32)


def _digits(of: tuple[object, ...], count: int) -> str:
    return sha256("/".join(map(str, of)).encode()).hexdigest()[:count]


_current: ContextVar[TraceContext | None] = ContextVar("trace_context", default=None)


def current() -> TraceContext | None:
    """The span that the caller works for; None where there is none."""
    return _current.get()


@contextmanager
def within(context: TraceContext | None) -> Iterator[None]:
    """Work for a span inside the block."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def kept(trigger: Mapping[str, Json]) -> dict[str, Json]:
    """What a run is to know of its start, with the span that it is started for instead of any other."""
    here = current()
    others = {name: value for name, value in trigger.items() if name != KEPT}
    return others if here is None else {**others, KEPT: here.header}


class Traces(Protocol):
    """Decides which spans there are, and records them. An :class:`engine.progress.Observer` as well."""

    def of_run(self, run: RunSummary) -> TraceContext | None:
        """The span of a run that is driven here."""

    def of_request(self, traceparent: str | None) -> TraceContext | None:
        """The span of a request that came with this header."""

    def requested(self, request: AnsweredRequest) -> None:
        """Record a request that was answered."""

    def notice(self, progress: Progress) -> None: ...


class Untraced:
    """Implements :class:`Traces` where nothing is recorded: the traces of others are passed on as they came."""

    def of_run(self, run: RunSummary) -> TraceContext | None:
        return TraceContext.parse(run.trigger.get(KEPT))

    def of_request(self, traceparent: str | None) -> TraceContext | None:
        return TraceContext.parse(traceparent)

    def requested(self, request: AnsweredRequest) -> None:
        """Record nothing."""

    def notice(self, progress: Progress) -> None:
        """Record nothing."""

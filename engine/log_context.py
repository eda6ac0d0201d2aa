"""What log lines are about: the request, the run and the step that are worked for where they are written."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_NOTHING: Final[Mapping[str, str]] = {}
_facts: ContextVar[Mapping[str, str]] = ContextVar("log_context", default=_NOTHING)

FACTS: Final = ("run", "flow", "step", "request_id", "trace_id")
"""What can be known, in the order in which lines have it."""


@contextmanager
def about(**facts: str | None) -> Iterator[None]:
    """Say in each line that is written inside the block what it is about, by the names of :data:`FACTS`.

    None says that it isn't about any, where it was before.
    """
    known = {**_facts.get(), **facts}
    token = _facts.set({name: fact for name, fact in known.items() if fact is not None})
    try:
        yield
    finally:
        _facts.reset(token)


def facts() -> Mapping[str, str]:
    """What the caller works for."""
    return _facts.get()

"""Which events a trigger is for."""

import re
from functools import lru_cache

from flows.events import Event
from triggers.event.config import EventPattern


def matches(pattern: EventPattern, event: Event) -> bool:
    """Whether an event is one of those. An attribute that the event doesn't have matches only where none is asked for.

    What ``if`` says is not looked at here.
    """
    wanted = {"type": pattern.type, "source": pattern.source, "subject": pattern.subject}
    return all(like(text, event.data.get(name)) for name, text in wanted.items() if text is not None)


def like(pattern: str, value: object) -> bool:
    """Whether a value is a text that a pattern fits, in which ``*`` stands for any text."""
    return isinstance(value, str) and _compiled(pattern).fullmatch(value) is not None


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    # Each piece is taken where it is first found and never moved, so that no pattern takes more than one pass.
    first, *rest = (re.escape(piece) for piece in re.split(r"\*+", pattern))
    if not rest:
        return re.compile(first)
    *middle, last = rest
    return re.compile(f"(?s:{first}{''.join(f'(?>.*?{piece})' for piece in middle)}.*{last})")

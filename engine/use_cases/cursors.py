"""Places in listings that are counted."""

from engine.service import InvalidPositionError

_DIGITS = 18
"""As many always fit in 64 bit."""


def number(cursor: str) -> int:
    """The number that a cursor stands for.

    Raises:
        InvalidPositionError: it stands for none.
    """
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > _DIGITS:
        raise no_cursor(cursor)
    return int(cursor)


def no_cursor(cursor: str) -> InvalidPositionError:
    """What to raise for a text that no listing gave."""
    return InvalidPositionError(f"{cursor[:100]!r} is no cursor", fix="give the `next` of the page before")

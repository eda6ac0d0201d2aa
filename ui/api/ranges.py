"""Which part of a content a request asks for (RFC 9110, section 14)."""

import re
from typing import Final

_RANGE: Final = re.compile(r"bytes\s*=\s*([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)


class UnsatisfiableError(Exception):
    """No byte of the content is in the range."""


def requested(header: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and the one after the last; None for all of the content.

    What is no range, or several of them, asks for all, as the RFC allows.

    Raises:
        UnsatisfiableError: the content has none of it.
    """
    found = _RANGE.fullmatch((header or "").strip())
    if found is None or found.group(1, 2) == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        wanted = min(int(last), size)
        if wanted == 0:
            raise UnsatisfiableError
        return size - wanted, size
    start, end = int(first), size if not last else min(int(last) + 1, size)
    if last and int(last) < start:
        return None
    if start >= size:
        raise UnsatisfiableError
    return start, end

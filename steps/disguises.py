"""The forms in which the value of a secret may turn up in what code prints or gives (docs/secrets.md)."""

import base64
import html
import json
import shlex
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, quote_plus

SHORTEST: Final = 4
"""Characters of the shortest value that can be masked: what is shorter is in every other word."""
SHORTEST_LINE: Final = 8
"""Characters of the shortest line that is looked for by itself, of a value with several."""
_KEPT_BY_JAVASCRIPT: Final = ("!'()*", ";,/?:@&=+$!~*'()#")
"""What ``encodeURIComponent`` and ``encodeURI`` leave as it is, besides what Python's ``quote`` does."""


def disguises(value: str) -> frozenset[str]:
    """Every form that is looked for, without line ends: these are passed over where it is looked for them."""
    forms = {*_texts(value), *_bytes(value.encode(errors="replace"))}
    forms |= {line for line in value.splitlines() if len(line) >= SHORTEST_LINE}
    flat = (form.replace("\n", "").replace("\r", "") for form in forms)
    return frozenset(form for form in flat if len(form) >= SHORTEST)


def base64_forms(data: bytes) -> Iterator[str]:
    """The characters of base64 that stand for the data alone, wherever in a text of bytes it begins and ends."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data).decode()
        # A character has six bits: those that also hold bits of the neighbours are left out.
        own = encoded[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        yield own
        yield own.replace("+", "-").replace("/", "_")


def _texts(value: str) -> Iterator[str]:
    yield value
    yield value[::-1]
    yield html.escape(value)
    yield shlex.quote(value)[1:-1] if "'" in value else value
    yield value.replace("'", r"'\''")
    for ascii_only in (True, False):
        once = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield once
        yield json.dumps(once, ensure_ascii=ascii_only)[1:-1]
    yield repr(value)[1:-1]
    yield repr(value.encode(errors="replace"))[2:-1]
    for kept in ("", "/", *_KEPT_BY_JAVASCRIPT):
        yield from _either_case(quote(value, safe=kept, errors="replace"))
    yield from _either_case(quote_plus(value, errors="replace"))


def _bytes(data: bytes) -> Iterator[str]:
    yield from base64_forms(data)
    for digits in (data.hex(), data.hex().upper()):
        pairs = [digits[place : place + 2] for place in range(0, len(digits), 2)]
        yield digits
        yield "".join(f"%{pair}" for pair in pairs)
        yield "".join(f"\\x{pair}" for pair in pairs)


def _either_case(escaped: str) -> Iterator[str]:
    """The text with the hexadecimal digits of its escapes in capitals, and in small letters."""
    yield escaped
    first, *rest = escaped.split("%")
    yield "%".join((first, *(part[:2].lower() + part[2:] for part in rest)))

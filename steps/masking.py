"""Takes the values of secrets out of what steps print and give: as they are, and in their usual disguises.

Line ends are passed over, so that a value is found that is split over lines. What comes in pieces is held back only
where it may be the beginning of a value.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import ahocorasick

from flows.values import Json
from steps.disguises import SHORTEST, base64_forms, disguises

SHOWN: Final = "•••"
"""What stands in the place of a value."""
PIECE: Final = 512
"""Characters: what is twice as long is looked for in pieces of this length."""
HEAD: Final = 16
"""Characters of a form that the automaton knows; the rest is compared."""
MAX_HELD: Final = 8 * PIECE
"""Characters that are held back at most: what a value is split into by still more line ends isn't one."""
_BREAK: Final = re.compile(r"[\r\n]")
_WITHIN_LINES: Final = re.compile(r"[^\r\n]+")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/=_-]*")
_LAST_OF_BASE64: Final = re.compile(r"[A-Za-z0-9+/=_-]*\Z")


@dataclass(frozen=True, kw_only=True)
class Form:
    """A text to be looked for. ``secret`` is whose value it is as it is; ``base64`` says that it is a part of such."""

    text: str
    secret: str | None = None
    base64: bool = False


@dataclass(kw_only=True)
class Span:
    """A place in a text that a value takes up, ``end`` exclusive; ``forms`` are those that were found there."""

    start: int
    end: int
    forms: list[Form]


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What a text has: whole values, and from where on it may be the beginning of one (at its end: nothing is)."""

    spans: list[Span]
    begun: int
    begun_length: int = field(default=0)
    """Characters of the beginning, without line ends."""


class Mask:
    """Finds the values of some secrets. ``values`` has all that each had lately, by its name."""

    def __init__(self, values: Mapping[str, Sequence[str]]) -> None:
        self.values = {name: tuple(of) for name, of in values.items()}
        self._heads = ahocorasick.Automaton()
        # An automaton without a word can't be made; no text has this one.
        self._heads.add_word("\n", (1, ()))
        by_head: dict[str, dict[str, Form]] = {}
        for form in _forms(self.values):
            by_head.setdefault(form.text[:HEAD], {}).setdefault(form.text, form)
        for head, forms in by_head.items():
            longest_first = sorted(forms.values(), key=lambda form: -len(form.text))
            self._heads.add_word(head, (len(head), tuple(longest_first)))
        self._heads.make_automaton()

    def text(self, text: str) -> str:
        """A text without the values."""
        return text if self._is_free(text) else _without(text, self._look(text).spans)

    def cut(self, text: str) -> str:
        """A text that may have been cut off, as messages are: also without the beginning of a value at its end."""
        return self.stream().finish(text, cut=True)

    def json(self, value: Json) -> Json:
        """A JSON value without the values of secrets, also in keys and in whole numbers."""
        return _mapped(value, self.text)

    def arguments(self, value: Json) -> Json:
        """As :meth:`json`, as records show the arguments of a call: the same after a secret has got another value.

        A value as it is shows as the expression that gives it; what base64 is around one goes with it.
        """
        return _mapped(value, self._argument)

    def stream(self) -> "MaskedStream":
        """For a text that comes in pieces."""
        return MaskedStream(self)

    def _is_free(self, text: str) -> bool:
        """Whether a text has no value for sure, which most have not."""
        if len(text) < SHORTEST:
            return True
        return next(self._heads.iter(text), None) is None and "\n" not in text and "\r" not in text

    def _argument(self, text: str) -> str:
        if self._is_free(text):
            return text
        parts, done = [], 0
        for span in self._look(text).spans:
            start, end = span.start, span.end
            if any(form.base64 for form in span.forms):
                before, after = _LAST_OF_BASE64.search(text, done, start), _BASE64.match(text, end)
                start, end = before.start() if before else start, after.end() if after else end
            if start < done:
                continue
            names = {form.secret for form in span.forms if form.secret is not None}
            exact = len(names) == 1 and any(len(form.text) == span.end - span.start for form in span.forms)
            parts += [text[done:start], f"${{{{ secrets.{names.pop()} }}}}" if exact else SHOWN]
            done = end
        return "".join((*parts, text[done:]))

    def _look(self, text: str) -> _Seen:
        breaks = [found.start() for found in _BREAK.finditer(text)]
        if not breaks:
            return self._look_flat(text)
        flat = self._look_flat(text.replace("\n", "").replace("\r", ""))
        # The break that comes right before the character of that number, when breaks aren't counted.
        shifted = [place - number for number, place in enumerate(breaks)]

        def place(index: int) -> int:
            return index + bisect_right(shifted, index)

        for span in flat.spans:
            span.start, span.end = place(span.start), place(span.end - 1) + 1
        begun = place(flat.begun) if flat.begun_length else len(text)
        return _Seen(spans=flat.spans, begun=begun, begun_length=flat.begun_length)

    def _look_flat(self, text: str) -> _Seen:
        spans: list[Span] = []
        size = begun = len(text)
        for last, (length, forms) in self._heads.iter(text):
            start = last + 1 - length
            for form in forms:
                if text.startswith(form.text, start):
                    spans.append(Span(start=start, end=start + len(form.text), forms=[form]))
                    break
                if start + len(form.text) > size and form.text.startswith(text[start:]):
                    begun = min(begun, start)
        for start in range(max(size - HEAD + 1, 0), begun):
            if self._heads.match(text[start:]) and text[start:] not in self._heads:
                begun = start
                break
        return _Seen(spans=_merged(spans), begun=begun, begun_length=size - begun)


class MaskedStream:
    """One text that comes in pieces, such as what code prints on stdout."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._given = ""
        """What was given, though a value may begin with it."""
        self._held = ""

    def feed(self, text: str) -> str:
        """Take a piece; gives what can be shown by now.

        A line is held back where its end is as long as the shortest value and begins one; what is shorter is given, so
        that the line is seen at once, and only the rest of the value is masked.
        """
        whole, shown = self._given + self._held + text, len(self._given)
        seen = self._mask._look(whole)  # noqa: SLF001 - the two are one
        hold = seen.begun
        if (whole.endswith("\n") and seen.begun_length < SHORTEST) or len(whole) - hold > MAX_HELD:
            hold = len(whole)
        for span in seen.spans:
            if span.start < hold < span.end:
                hold = span.start
        hold = max(hold, shown)
        begun = min(seen.begun, hold)
        self._given, self._held = (whole[begun:hold], whole[hold:]) if hold - begun < MAX_HELD else ("", whole[hold:])
        return _without(whole, seen.spans, start=shown, end=hold)

    def finish(self, text: str = "", *, cut: bool = False) -> str:
        """Take the last piece; where the text was ``cut`` off, the beginning of a value at its end is masked too."""
        whole, shown = self._given + self._held + text, len(self._given)
        seen = self._mask._look(whole)  # noqa: SLF001 - the same
        self._given = self._held = ""
        spans = seen.spans
        if cut and seen.begun_length >= SHORTEST:
            spans = _merged([*spans, Span(start=seen.begun, end=len(whole), forms=[])])
        return _without(whole, spans, start=shown)


def _forms(values: Mapping[str, Sequence[str]]) -> Iterator[Form]:
    """What is looked for; the values as they are first, for one text may be several things."""
    for name, of in sorted(values.items()):
        for value in of:
            flat = value.replace("\n", "").replace("\r", "")
            if len(flat) >= SHORTEST:
                yield from (Form(text=piece, secret=name) for piece in _pieces(flat))
    for of in values.values():
        for value in of:
            encoded = frozenset(base64_forms(value.encode(errors="replace")))
            for text in disguises(value):
                yield from (Form(text=piece, base64=text in encoded) for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    """The text, or where it is long its pieces, the last of up to twice their length."""
    start = 0
    while len(text) - start >= 2 * PIECE:
        yield text[start : start + PIECE]
        start += PIECE
    yield text[start:]


def _merged(spans: list[Span]) -> list[Span]:
    """The spans in order, those that touch as one."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if merged and span.start <= merged[-1].end:
            merged[-1].end = max(merged[-1].end, span.end)
            merged[-1].forms += span.forms
        else:
            merged.append(span)
    return merged


def _without(text: str, spans: Sequence[Span], *, start: int = 0, end: int | None = None) -> str:
    """A part of a text, the spans masked in each line that they take up."""
    stop = len(text) if end is None else end
    if not spans:
        return text[start:stop]
    parts, done = [], start
    for span in spans:
        if span.end <= done or span.start >= stop:
            continue
        begin = max(span.start, done)
        parts += [text[done:begin], _WITHIN_LINES.sub(SHOWN, text[begin : min(span.end, stop)])]
        done = min(span.end, stop)
    return "".join((*parts, text[done:stop]))


def _mapped(value: Json, mask: Callable[[str], str]) -> Json:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        written = str(value)
        return value if (masked := mask(written)) == written else masked
    if isinstance(value, Mapping):
        mapped: dict[str, Json] = {}
        for key, item in value.items():
            name = unused(mask(key), mapped)
            mapped[name] = _mapped(item, mask)
        return mapped
    return [_mapped(item, mask) for item in value]


def unused(name: str, taken: Container[str]) -> str:
    """The name, with a number where it is taken: two names may differ in nothing but what is masked."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name} {number}"
    return found

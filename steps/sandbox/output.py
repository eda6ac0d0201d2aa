"""The output of a job as it comes: bytes in, lines and text out, up to a limit."""

import codecs
from collections.abc import Iterator
from typing import Literal

from flows.masks import MaskedText, Masking

Stream = Literal["stdout", "stderr"]

MAX_LINE = 16_384
"""Characters; what is longer is cut into several lines."""


BYTES_A_LINE = 20
"""Of the limit on bytes, for each line of the limit on lines: a line costs the host more than its bytes."""
MIN_LINES = 1_000


class Output:
    """Collects stdout and stderr of one job.

    Together they keep at most ``limit`` bytes, and a twentieth of that in lines (1,000 at least). ``mask`` finds what
    nobody may see of it.
    """

    def __init__(self, limit: int, mask: Masking | None = None) -> None:
        self._limit = limit
        self._left = limit
        self._max_lines = max(limit // BYTES_A_LINE, MIN_LINES)
        self._lines_left = self._max_lines
        self._decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in ("stdout", "stderr")}
        self._mask = mask
        self._masked: dict[Stream, MaskedText] = {}
        if mask is not None:
            self._masked = {"stdout": mask.stream(), "stderr": mask.stream()}
        self._partial: dict[Stream, str] = {"stdout": "", "stderr": ""}
        self._text: dict[Stream, list[str]] = {"stdout": [], "stderr": []}
        self.truncated = False

    def feed(self, stream: Stream, data: bytes) -> Iterator[tuple[Stream, str]]:
        """Take a chunk; yields the lines that it completes, without their ends."""
        if self.truncated:
            return
        kept, limit = data[: self._left], f"{self._limit} bytes"
        lines = kept.count(b"\n")
        if lines > self._lines_left:
            kept, limit = _first_lines(kept, self._lines_left), f"{self._max_lines} lines"
        self._left -= len(kept)
        self._lines_left -= lines
        text = self._decoders[stream].decode(kept)
        yield from self._take(stream, self._masked[stream].feed(text) if self._masked else text)
        if len(kept) < len(data):
            self.truncated = True
            for each, masked in self._masked.items():
                yield from self._take(each, masked.finish(cut=True))
            yield from self._take(stream, f"\n[output beyond {limit} is dropped]\n")

    def note(self, line: str) -> Iterator[tuple[Stream, str]]:
        """Take a line of the host's own for stderr, where the limit leaves room for it; yields it."""
        line = line if self._mask is None else self._mask.text(line)
        self._left -= len(line.encode()) + 1
        if self.truncated or self._left < 0:
            self._left = max(self._left, 0)
            return
        begun, self._partial["stderr"] = self._partial["stderr"], ""
        if begun:
            self._text["stderr"].append("\n")
        yield from self._take("stderr", f"{line}\n")
        self._partial["stderr"] = begun

    def finish(self) -> Iterator[tuple[Stream, str]]:
        """Yields the last lines, which had no end."""
        streams: tuple[Stream, Stream] = ("stdout", "stderr")
        for stream in streams:
            text = self._decoders[stream].decode(b"", final=True)
            if self._masked:
                text = self._masked[stream].finish(text)
            yield from self._take(stream, text)
            if self._partial[stream]:
                yield stream, self._partial[stream]
                self._partial[stream] = ""

    def text(self, stream: Stream) -> str:
        return "".join(self._text[stream])

    def _take(self, stream: Stream, text: str) -> Iterator[tuple[Stream, str]]:
        if not text:
            return
        self._text[stream].append(text)
        lines = (self._partial[stream] + text).split("\n")
        for line in lines[:-1]:
            yield from ((stream, part) for part in _cut(line.removesuffix("\r")))
        rest = lines[-1]
        while len(rest) > MAX_LINE:
            yield stream, rest[:MAX_LINE]
            rest = rest[MAX_LINE:]
        self._partial[stream] = rest


def _first_lines(data: bytes, count: int) -> bytes:
    end = 0
    for _line in range(count):
        end = data.index(b"\n", end) + 1
    return data[:end]


def _cut(line: str) -> Iterator[str]:
    yield line[:MAX_LINE]
    for start in range(MAX_LINE, len(line), MAX_LINE):
        yield line[start : start + MAX_LINE]

"""Forms with files: the fields, and the files as attachments."""

import hashlib
import re
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from typing import IO, Final, cast

from flows.events import Attachment
from flows.values import Json
from triggers.http.request import MAX_FIELDS, RefusedRequestError, gathered

MAX_FILES: Final = 100
MAX_FIELD: Final = 1_000_000
"""Bytes of one field that is no file."""
_IN_MEMORY: Final = 256_000
"""Bytes of a file that are kept in memory; a larger one is put into a temporary file."""
_CHUNK: Final = 64_000
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MAX_NAME: Final = 255
_ENDING: Final = 20
"""Bytes at the end of a name that is too long which are kept."""


@dataclass(kw_only=True)
class _Part:
    headers: dict[str, bytes] = field(default_factory=dict)
    name: str = ""
    filename: str | None = None
    text: bytearray = field(default_factory=bytearray)
    file: IO[bytes] | None = None
    size: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)


class _Form:
    """What the parser finds, as it finds it."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.ended = False
        self._header = bytearray()
        self._value = bytearray()

    def on_part_begin(self) -> None:
        if len(self.parts) >= MAX_FIELDS:
            raise RefusedRequestError(f"there are more than {MAX_FIELDS:,} fields", status=400)
        self.parts.append(_Part())

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        self.parts[-1].headers[self._header.decode("latin-1").lower()] = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def on_headers_finished(self) -> None:
        from python_multipart.multipart import parse_options_header  # noqa: PLC0415 - only forms with files need it

        part = self.parts[-1]
        kind, options = parse_options_header(part.headers.get("content-disposition", b""))
        if kind != b"form-data" or b"name" not in options:
            raise RefusedRequestError("a part of the form has no name", status=400)
        part.name = _utf8(options[b"name"])
        if b"filename" not in options:
            return
        part.filename = _filename(_utf8(options[b"filename"]))
        if sum(one.filename is not None for one in self.parts) > MAX_FILES:
            raise RefusedRequestError(f"there are more than {MAX_FILES} files", status=400)
        part.file = cast("IO[bytes]", SpooledTemporaryFile(max_size=_IN_MEMORY))  # noqa: SIM115 - who takes it closes it

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        part, piece = self.parts[-1], data[start:end]
        if part.file is not None:
            part.file.write(piece)
            part.size += len(piece)
            part.digest.update(piece)
        elif len(part.text) + len(piece) > MAX_FIELD:
            raise RefusedRequestError(f"a field is larger than {MAX_FIELD:,} bytes", status=413)
        else:
            part.text += piece

    def on_end(self) -> None:
        self.ended = True

    def check_end(self) -> None:
        if not self.ended:
            raise RefusedRequestError("the form is cut off", status=400)

    def close(self) -> None:
        for part in self.parts:
            if part.file is not None:
                part.file.close()


def parse_multipart(content: bytes, boundary: str) -> tuple[dict[str, Json], tuple[Attachment, ...]]:
    """The fields of a form and its files.

    Raises:
        RefusedRequestError: it is no such form, is cut off, or has more than is taken.
    """
    from python_multipart.exceptions import FormParserError  # noqa: PLC0415 - only forms with files need it
    from python_multipart.multipart import MultipartParser  # noqa: PLC0415 - the same

    if not boundary:
        raise RefusedRequestError("the content type names no boundary", status=400)
    form = _Form()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": form.on_part_begin,
                "on_header_field": form.on_header_field,
                "on_header_value": form.on_header_value,
                "on_header_end": form.on_header_end,
                "on_headers_finished": form.on_headers_finished,
                "on_part_data": form.on_part_data,
                "on_end": form.on_end,
            },
        )
        for start in range(0, len(content), _CHUNK):
            parser.write(content[start : start + _CHUNK])
        parser.finalize()
        form.check_end()
        fields = gathered((part.name, _utf8(bytes(part.text))) for part in form.parts if part.file is None)
        files = [(part, part.file) for part in form.parts if part.file is not None]
        return fields, tuple(_attachment(number, part, file) for number, (part, file) in enumerate(files))
    except FormParserError as error:
        form.close()
        raise RefusedRequestError(f"the form can't be read: {error}", status=400) from None
    except BaseException:
        form.close()
        raise


def _attachment(number: int, part: _Part, file: IO[bytes]) -> Attachment:
    file.seek(0)
    filename = part.filename or "file"
    return Attachment(
        field=part.name,
        filename=filename,
        path=f"{number}/{_fitting(filename)}",
        content_type=part.headers.get("content-type", b"application/octet-stream").decode("latin-1")[:_MAX_NAME],
        size=part.size,
        sha256=part.digest.hexdigest(),
        content=file,
    )


def _filename(name: str) -> str:
    """What a sender calls a file, without directories and characters that command a terminal."""
    last = _CONTROL.sub("", name.replace("\\", "/").rpartition("/")[2])[:_MAX_NAME]
    return last if last.strip(". ") else "file"


def _fitting(name: str) -> str:
    """A name that any file system takes: of as many bytes, with its ending."""
    encoded = name.encode()
    if len(encoded) <= _MAX_NAME:
        return name
    ending = encoded[-_ENDING:]
    return (encoded[: _MAX_NAME - _ENDING] + ending).decode(errors="ignore")


def _utf8(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise RefusedRequestError("a field of the form is not UTF-8", status=400) from None

"""What ``files.*`` does: reading and writing below one root, through fsspec."""

import asyncio
import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from uuid import uuid4

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from flows.values import Json
from steps.tools import moments, tables
from steps.tools.contract import (
    AlreadyExistsError,
    InvalidArgumentsError,
    NotFoundError,
    NotGrantedError,
    TooLargeError,
    ToolContext,
)
from steps.tools.encoding import decoded

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Arguments = Mapping[str, Json]

MAX_READ: Final = 1_000_000
MAX_WRITTEN: Final = 10_000_000
MAX_ENTRIES: Final = 1000

_PART: Final = ".part-"


async def read(arguments: Arguments, context: ToolContext) -> Json:
    return await asyncio.to_thread(_Root(context.services.shared).read, arguments["path"], arguments.get("encoding"))


async def write(arguments: Arguments, context: ToolContext) -> Json:
    content = decoded(arguments)
    if len(content) > MAX_WRITTEN:
        raise TooLargeError(f"a file may be written with {MAX_WRITTEN} bytes, not {len(content)}", fix="split it")
    root = _Root(context.services.shared)
    return await asyncio.to_thread(root.write, arguments["path"], content, overwrite=arguments.get("overwrite", True))


# The tool is called so.
async def list(arguments: Arguments, context: ToolContext) -> Json:  # noqa: A001
    root = _Root(context.services.shared)
    return await asyncio.to_thread(root.list, arguments.get("path", ""), recursive=arguments.get("recursive", False))


class _Root:
    """The shared files. Every path is checked against leaving the root, by its form and by where links lead."""

    def __init__(self, url: str) -> None:
        files, root = url_to_fs(url)
        self._files: AbstractFileSystem = files
        self._root: str = root.rstrip("/")
        self._is_local = isinstance(files, LocalFileSystem)

    def read(self, path: str, encoding: Literal["text", "base64"] | None) -> Json:
        place = self._place(path)
        if not self._files.isfile(place):
            raise self._missing(path)
        with self._files.open(place, "rb") as file:
            content: bytes = file.read(MAX_READ + 1)
        if len(content) > MAX_READ:
            raise TooLargeError(
                f"{path} has more than {MAX_READ} bytes", fix="open it as rows with workspace.import_file, or split it"
            )
        text = None if encoding == "base64" else tables.decode(content)
        if text is None and encoding == "text":
            raise InvalidArgumentsError(f"{path} isn't UTF-8 text", fix="read it with encoding: base64")
        return {
            "path": path,
            "size": len(content),
            "content": base64.b64encode(content).decode() if text is None else text,
            "encoding": "base64" if text is None else "text",
        }

    def write(self, path: str, content: bytes, *, overwrite: bool) -> Json:
        place = self._place(path)
        if self._files.isdir(place):
            raise InvalidArgumentsError(f"{path} is a directory", fix="name a file in it")
        if not overwrite and self._files.exists(place):
            raise AlreadyExistsError(f"{path} exists", fix="write elsewhere, or with overwrite: true")
        folder, _, name = place.rpartition("/")
        part = f"{folder}/{_PART}{uuid4().hex}"
        try:
            self._files.makedirs(folder, exist_ok=True)
            self._files.pipe_file(part, content)
            self._files.mv(part, place)
        except (FileExistsError, NotADirectoryError):
            raise InvalidArgumentsError(f"a directory of {path} is a file", fix=f"write {name} elsewhere") from None
        return {"path": path, "size": len(content)}

    def list(self, path: str, *, recursive: bool) -> Json:
        place = self._place(path) if path.strip("/.") else self._root
        if not self._files.isdir(place):
            if place == self._root:
                return []
            raise self._missing(path)
        entries = sorted(self._walk(place, recursive=recursive), key=lambda entry: str(entry["path"]))
        if len(entries) > MAX_ENTRIES:
            raise TooLargeError(
                f"{path or 'the root'} has more than {MAX_ENTRIES} entries", fix="list a directory of it"
            )
        return entries

    def _walk(self, place: str, *, recursive: bool) -> Sequence[dict[str, Json]]:
        """Up to one entry too many. Links to directories aren't followed, and those that leave the root not shown."""
        entries = []
        pending = [place]
        while pending:
            for found in self._files.ls(pending.pop(), detail=True):
                name: str = found["name"]
                if _PART in name or self._leaves(name):
                    continue
                entries.append(self._entry(found))
                if len(entries) > MAX_ENTRIES:
                    return entries
                if recursive and found["type"] == "directory" and not found.get("islink"):
                    pending.append(name)
        return entries

    def _entry(self, found: Mapping[str, Json]) -> dict[str, Json]:
        directory = found["type"] == "directory"
        changed = found.get("mtime") or found.get("LastModified") or found.get("last_modified")
        if isinstance(changed, int | float):
            changed = datetime.fromtimestamp(changed, UTC)
        return {
            "path": found["name"].removeprefix(self._root).lstrip("/"),
            "kind": "directory" if directory else "file",
            "size": 0 if directory else found["size"] or 0,
            "updatedAt": moments.write(changed) if isinstance(changed, datetime) else None,
        }

    def _place(self, path: str) -> str:
        parts = path.split("/")
        if path.startswith("/") or "\\" in path or "\0" in path or any(part in {"", ".", ".."} for part in parts):
            raise InvalidArgumentsError(
                f"{path!r} isn't a path below the shared files", fix="write it like reports/may.csv"
            )
        if parts[-1].startswith(_PART):
            raise InvalidArgumentsError(f"names beginning with {_PART} are taken", fix="choose another")
        place = f"{self._root}/{path}"
        if self._leaves(place):
            raise NotGrantedError(f"{path} is a link that leaves the shared files", fix="copy the file there")
        return place

    def _leaves(self, place: str) -> bool:
        return self._is_local and not Path(place).resolve().is_relative_to(Path(self._root).resolve())

    @staticmethod
    def _missing(path: str) -> NotFoundError:
        return NotFoundError(f"there is nothing at {path!r}", fix="see what there is with files.list")

"""The contents of files, kept beside the database by their SHA-256."""

from functools import cached_property
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class Blobs:
    """Contents under one root: a directory, or any fsspec URL. Blocking; the store calls it in its threads."""

    def __init__(self, root: str) -> None:
        self._url = root

    @cached_property
    def _place(self) -> tuple["AbstractFileSystem", str]:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - a run without files must not pay for it

        files, root = url_to_fs(self._url)
        return files, root

    def put(self, sha256: str, content: bytes) -> None:
        """Keep ``content``; a reader sees all of it or none."""
        files, path = self._find(sha256)
        if files.exists(path):
            return
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
        part = f"{path}.{uuid4().hex}.part"
        files.pipe_file(part, content)
        files.mv(part, path)

    def get(self, sha256: str) -> bytes:
        """The content.

        Raises:
            FileNotFoundError: there is none.
        """
        files, path = self._find(sha256)
        content: bytes = files.cat_file(path)
        return content

    def delete(self, sha256: str) -> None:
        files, path = self._find(sha256)
        files.rm_file(path)

    def _find(self, sha256: str) -> tuple["AbstractFileSystem", str]:
        files, root = self._place
        return files, f"{root}/{sha256[:2]}/{sha256}"

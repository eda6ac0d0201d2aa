"""A workspace's content, as the ``workspace.*`` tools need it: documents, tasks and files, by ids that users choose."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, TypedDict

Format = Literal["csv", "tsv", "json", "jsonl", "parquet", "text", "binary"]


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text that people and flows write to."""

    id: str
    name: str
    content: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class Task:
    """Something to be done. ``status_id`` is any word the workspace uses: ``in_progress``, ``archived``."""

    id: str
    title: str
    status_id: str
    description: str = ""
    assignee_id: str | None = None
    labels: tuple[str, ...] = ()
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class File:
    """What is known of a file. ``size`` in bytes; ``sha256`` of its content in hexadecimal."""

    id: str
    name: str
    format: Format
    size: int
    sha256: str
    created_at: datetime
    updated_at: datetime


class DocumentChanges(TypedDict, total=False):
    """New values of a document's fields."""

    name: str
    content: str
    updated_at: datetime


class TaskChanges(TypedDict, total=False):
    """New values of a task's fields."""

    title: str
    status_id: str
    description: str
    assignee_id: str | None
    labels: tuple[str, ...]
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class TaskQuery:
    """Which tasks; what is left out doesn't matter. ``text`` is looked for in title and description, in any case."""

    statuses: Collection[str] = ()
    text: str | None = None
    assignee_id: str | None = None
    label: str | None = None
    updated_before: datetime | None = None
    updated_after: datetime | None = None
    limit: int = 1000
    offset: int = 0


class WorkspaceContent(Protocol):
    """Documents, tasks and files of all workspaces. Times are aware, in UTC.

    ``create_*`` gives False where the id is taken; where it is unknown, ``get_*``, ``read_*`` and ``update_*`` give
    None and ``delete_*`` False. An update changes the fields it names, and no other writer's change is lost.
    ``*_ids`` lists what there is, to say what might have been meant.
    """

    async def create_document(self, workspace: str, document: Document) -> bool: ...
    async def get_document(self, workspace: str, document_id: str) -> Document | None: ...
    async def update_document(self, workspace: str, document_id: str, changes: DocumentChanges) -> Document | None: ...
    async def delete_document(self, workspace: str, document_id: str) -> bool: ...
    async def list_documents(
        self, workspace: str, *, text: str | None, limit: int, offset: int
    ) -> tuple[Document, ...]:
        """By id. ``text`` is looked for in id, name and content, in any case."""

    async def document_ids(self, workspace: str) -> tuple[str, ...]: ...

    async def create_task(self, workspace: str, task: Task) -> bool: ...
    async def get_task(self, workspace: str, task_id: str) -> Task | None: ...
    async def update_task(self, workspace: str, task_id: str, changes: TaskChanges) -> Task | None: ...
    async def delete_task(self, workspace: str, task_id: str) -> bool: ...
    async def search_tasks(self, workspace: str, query: TaskQuery) -> tuple[Task, ...]:
        """The one that was updated longest ago first."""

    async def task_ids(self, workspace: str) -> tuple[str, ...]: ...

    async def put_file(self, workspace: str, file: File, content: bytes) -> File:
        """Create the file, or replace its content. A file that existed keeps its ``created_at``."""

    async def get_file(self, workspace: str, file_id: str) -> File | None: ...
    async def read_file(self, workspace: str, file_id: str) -> tuple[File, bytes] | None: ...
    async def delete_file(self, workspace: str, file_id: str) -> bool: ...
    async def list_files(self, workspace: str, *, text: str | None, limit: int, offset: int) -> tuple[File, ...]:
        """By id. ``text`` is looked for in id and name, in any case."""

    async def file_ids(self, workspace: str) -> tuple[str, ...]: ...

"""A workspace's content in memory: for tests and trials, with the same behaviour as the store's."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from steps.tools.content import Document, DocumentChanges, File, Task, TaskChanges, TaskQuery

Entry = TypeVar("Entry", Document, Task, File)
Key = tuple[str, str]


class MemoryContent:
    """Implements :class:`steps.tools.content.WorkspaceContent`; gone with the process."""

    def __init__(self) -> None:
        self._documents: dict[Key, Document] = {}
        self._tasks: dict[Key, Task] = {}
        self._files: dict[Key, tuple[File, bytes]] = {}

    async def create_document(self, workspace: str, document: Document) -> bool:
        return self._documents.setdefault((workspace, document.id), document) is document

    async def get_document(self, workspace: str, document_id: str) -> Document | None:
        return self._documents.get((workspace, document_id))

    async def update_document(self, workspace: str, document_id: str, changes: DocumentChanges) -> Document | None:
        document = self._documents.get((workspace, document_id))
        if document is not None:
            document = self._documents[workspace, document_id] = replace(document, **changes)
        return document

    async def delete_document(self, workspace: str, document_id: str) -> bool:
        return self._documents.pop((workspace, document_id), None) is not None

    async def list_documents(
        self, workspace: str, *, text: str | None, limit: int, offset: int
    ) -> tuple[Document, ...]:
        return _page(
            (document for (owner, _), document in self._documents.items() if owner == workspace),
            lambda document: _mentions(text, document.id, document.name, document.content),
            limit,
            offset,
        )

    async def document_ids(self, workspace: str) -> tuple[str, ...]:
        return _ids(self._documents, workspace)

    async def create_task(self, workspace: str, task: Task) -> bool:
        return self._tasks.setdefault((workspace, task.id), task) is task

    async def get_task(self, workspace: str, task_id: str) -> Task | None:
        return self._tasks.get((workspace, task_id))

    async def update_task(self, workspace: str, task_id: str, changes: TaskChanges) -> Task | None:
        task = self._tasks.get((workspace, task_id))
        if task is not None:
            task = self._tasks[workspace, task_id] = replace(task, **changes)
        return task

    async def delete_task(self, workspace: str, task_id: str) -> bool:
        return self._tasks.pop((workspace, task_id), None) is not None

    async def search_tasks(self, workspace: str, query: TaskQuery) -> tuple[Task, ...]:
        found = [task for (owner, _), task in self._tasks.items() if owner == workspace and _matches(task, query)]
        found.sort(key=lambda task: (task.updated_at, task.id))
        return tuple(found[query.offset : query.offset + query.limit])

    async def task_ids(self, workspace: str) -> tuple[str, ...]:
        return _ids(self._tasks, workspace)

    async def put_file(self, workspace: str, file: File, content: bytes) -> File:
        known = self._files.get((workspace, file.id))
        if known is not None:
            file = replace(file, created_at=known[0].created_at)
        self._files[workspace, file.id] = (file, content)
        return file

    async def get_file(self, workspace: str, file_id: str) -> File | None:
        known = self._files.get((workspace, file_id))
        return known[0] if known else None

    async def read_file(self, workspace: str, file_id: str) -> tuple[File, bytes] | None:
        return self._files.get((workspace, file_id))

    async def delete_file(self, workspace: str, file_id: str) -> bool:
        return self._files.pop((workspace, file_id), None) is not None

    async def list_files(self, workspace: str, *, text: str | None, limit: int, offset: int) -> tuple[File, ...]:
        return _page(
            (file for (owner, _), (file, _content) in self._files.items() if owner == workspace),
            lambda file: _mentions(text, file.id, file.name),
            limit,
            offset,
        )

    async def file_ids(self, workspace: str) -> tuple[str, ...]:
        return _ids(self._files, workspace)


def _mentions(text: str | None, *fields: str) -> bool:
    return text is None or any(text.lower() in field.lower() for field in fields)


def _matches(task: Task, query: TaskQuery) -> bool:
    return (
        (not query.statuses or task.status_id in query.statuses)
        and _mentions(query.text, task.title, task.description)
        and (query.assignee_id is None or task.assignee_id == query.assignee_id)
        and (query.label is None or query.label in task.labels)
        and (query.updated_before is None or task.updated_at < query.updated_before)
        and (query.updated_after is None or task.updated_at > query.updated_after)
    )


def _page(entries: Iterable[Entry], keep: Callable[[Entry], bool], limit: int, offset: int) -> tuple[Entry, ...]:
    return tuple(sorted(filter(keep, entries), key=lambda entry: entry.id)[offset : offset + limit])


def _ids(entries: Iterable[Key], workspace: str) -> tuple[str, ...]:
    return tuple(sorted(entry_id for owner, entry_id in entries if owner == workspace))

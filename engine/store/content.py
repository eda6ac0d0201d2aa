"""The workspaces' documents, tasks and files."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Delete, Row, Select, delete, exists, func, or_, select, update
from sqlmodel import col

from engine.store.blobs import Blobs
from engine.store.database import Database, upsert_into
from engine.store.errors import StoreError
from engine.store.locks import hold_name
from engine.store.tables import DocumentTable, FileTable, Table, TaskTable
from steps.tools.content import Document, DocumentChanges, File, Task, TaskChanges, TaskQuery


class Content:
    """Implements :class:`steps.tools.content.WorkspaceContent`. Every method is one transaction.

    A file's content is written before its row is committed and removed with the last row that names it.
    """

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    async def create_document(self, workspace: str, document: Document) -> bool:
        values = {
            "workspace": workspace,
            "id": document.id,
            "name": document.name,
            "content": document.content,
            "created_at": document.created_at,
            "updated_at": document.updated_at,
        }
        return await self._create(DocumentTable, values)

    async def get_document(self, workspace: str, document_id: str) -> Document | None:
        row = await self._get(DocumentTable, workspace, document_id)
        return None if row is None else _document(row)

    async def update_document(self, workspace: str, document_id: str, changes: DocumentChanges) -> Document | None:
        row = await self._update(DocumentTable, workspace, document_id, dict(changes))
        return None if row is None else _document(row)

    async def delete_document(self, workspace: str, document_id: str) -> bool:
        return await self._delete(DocumentTable, workspace, document_id)

    async def list_documents(
        self, workspace: str, *, text: str | None, limit: int, offset: int
    ) -> tuple[Document, ...]:
        mentions = _mentions(text, DocumentTable.id, DocumentTable.name, DocumentTable.content)
        return tuple(map(_document, await self._list(DocumentTable, workspace, mentions, limit, offset)))

    async def document_ids(self, workspace: str) -> tuple[str, ...]:
        return await self._ids(DocumentTable, workspace)

    async def create_task(self, workspace: str, task: Task) -> bool:
        values = {
            "workspace": workspace,
            "id": task.id,
            "title": task.title,
            "status_id": task.status_id,
            "description": task.description,
            "assignee_id": task.assignee_id,
            "labels": list(task.labels),
            "created_at": task.created_at,
            "updated_at": task.updated_at,
        }
        return await self._create(TaskTable, values)

    async def get_task(self, workspace: str, task_id: str) -> Task | None:
        row = await self._get(TaskTable, workspace, task_id)
        return None if row is None else _task(row)

    async def update_task(self, workspace: str, task_id: str, changes: TaskChanges) -> Task | None:
        values: dict[str, Any] = dict(changes)
        if "labels" in changes:
            values["labels"] = list(changes["labels"])
        row = await self._update(TaskTable, workspace, task_id, values)
        return None if row is None else _task(row)

    async def delete_task(self, workspace: str, task_id: str) -> bool:
        return await self._delete(TaskTable, workspace, task_id)

    async def search_tasks(self, workspace: str, query: TaskQuery) -> tuple[Task, ...]:
        where = [col(TaskTable.workspace) == workspace]
        if query.statuses:
            where.append(col(TaskTable.status_id).in_(sorted(query.statuses)))
        if query.assignee_id is not None:
            where.append(col(TaskTable.assignee_id) == query.assignee_id)
        if query.updated_before is not None:
            where.append(col(TaskTable.updated_at) < query.updated_before)
        if query.updated_after is not None:
            where.append(col(TaskTable.updated_at) > query.updated_after)
        if query.label is not None:
            unnest = func.json_each if self._database.is_sqlite else func.json_array_elements_text
            labels = unnest(col(TaskTable.labels)).table_valued("value")
            where.append(exists().select_from(labels).where(labels.c.value == query.label))
        where += _mentions(query.text, TaskTable.title, TaskTable.description)
        statement = (
            select(TaskTable.__table__)
            .where(*where)
            .order_by(col(TaskTable.updated_at), col(TaskTable.id))
            .limit(query.limit)
            .offset(query.offset)
        )
        return tuple(map(_task, await self._database.rows(statement)))

    async def task_ids(self, workspace: str) -> tuple[str, ...]:
        return await self._ids(TaskTable, workspace)

    async def put_file(self, workspace: str, file: File, content: bytes) -> File:
        def put(connection: Connection) -> tuple[File, str | None]:
            known = connection.execute(_one(FileTable, workspace, file.id)).one_or_none()
            stored = file if known is None else replace(file, created_at=known.created_at)
            values = {
                "workspace": workspace,
                "id": stored.id,
                "name": stored.name,
                "format": stored.format,
                "size": stored.size,
                "sha256": stored.sha256,
                "created_at": stored.created_at,
                "updated_at": stored.updated_at,
            }
            _lock_contents(connection, stored.sha256)
            self._blobs.put(stored.sha256, content)
            upsert = upsert_into(connection, FileTable).values(values)
            connection.execute(upsert.on_conflict_do_update(index_elements=["workspace", "id"], set_=values))
            return stored, None if known is None else known.sha256

        stored, replaced = await self._database.write(put)
        if replaced is not None:
            await self._delete_unused(replaced)
        return stored

    async def get_file(self, workspace: str, file_id: str) -> File | None:
        row = await self._get(FileTable, workspace, file_id)
        return None if row is None else _file(row)

    async def read_file(self, workspace: str, file_id: str) -> tuple[File, bytes] | None:
        def read(connection: Connection) -> tuple[File, bytes] | None:
            row = connection.execute(_one(FileTable, workspace, file_id)).one_or_none()
            if row is None:
                return None
            try:
                return _file(row), self._blobs.get(row.sha256)
            except FileNotFoundError:
                raise StoreError(
                    f"the content of file {file_id!r} is gone", fix="restore STEPBOX_HOME/files or import it again"
                ) from None

        return await self._database.read(read)

    async def delete_file(self, workspace: str, file_id: str) -> bool:
        statement = _delete_one(FileTable, workspace, file_id).returning(col(FileTable.sha256))
        sha256 = await self._database.write(lambda connection: connection.execute(statement).scalar_one_or_none())
        if sha256 is None:
            return False
        await self._delete_unused(sha256)
        return True

    async def list_files(self, workspace: str, *, text: str | None, limit: int, offset: int) -> tuple[File, ...]:
        mentions = _mentions(text, FileTable.id, FileTable.name)
        return tuple(map(_file, await self._list(FileTable, workspace, mentions, limit, offset)))

    async def file_ids(self, workspace: str) -> tuple[str, ...]:
        return await self._ids(FileTable, workspace)

    async def _create(self, table: type[Table], values: Mapping[str, Any]) -> bool:
        def create(connection: Connection) -> bool:
            statement = upsert_into(connection, table).values(values).on_conflict_do_nothing()
            return connection.scalar(statement.returning(table.__table__.c.id)) is not None

        return await self._database.write(create)

    async def _get(self, table: type[Table], workspace: str, entry_id: str) -> Row[*tuple[Any, ...]] | None:
        rows = await self._database.rows(_one(table, workspace, entry_id))
        return rows[0] if rows else None

    async def _update(
        self, table: type[Table], workspace: str, entry_id: str, values: Mapping[str, Any]
    ) -> Row[*tuple[Any, ...]] | None:
        columns = table.__table__.c
        statement = (
            update(table.__table__)
            .where(columns.workspace == workspace, columns.id == entry_id)
            .values(values)
            .returning(*columns)
        )
        return await self._database.write(lambda connection: connection.execute(statement).one_or_none())

    async def _delete(self, table: type[Table], workspace: str, entry_id: str) -> bool:
        statement = _delete_one(table, workspace, entry_id)
        return await self._database.write(lambda connection: connection.execute(statement).rowcount == 1)

    async def _list(
        self, table: type[Table], workspace: str, where: list[ColumnElement[bool]], limit: int, offset: int
    ) -> list[Row[*tuple[Any, ...]]]:
        columns = table.__table__.c
        statement = select(table.__table__).where(columns.workspace == workspace, *where).order_by(columns.id)
        return list(await self._database.rows(statement.limit(limit).offset(offset)))

    async def _ids(self, table: type[Table], workspace: str) -> tuple[str, ...]:
        columns = table.__table__.c
        statement = select(columns.id).where(columns.workspace == workspace).order_by(columns.id)
        return tuple(row.id for row in await self._database.rows(statement))

    async def _delete_unused(self, sha256: str) -> None:
        def remove(connection: Connection) -> None:
            _lock_contents(connection, sha256)
            used = select(exists().where(col(FileTable.sha256) == sha256))
            if not connection.scalar(used):
                self._blobs.delete(sha256)

        await self._database.after_commit(remove)


def _one(table: type[Table], workspace: str, entry_id: str) -> Select[*tuple[Any, ...]]:
    columns = table.__table__.c
    return select(table.__table__).where(columns.workspace == workspace, columns.id == entry_id)


def _delete_one(table: type[Table], workspace: str, entry_id: str) -> Delete:
    columns = table.__table__.c
    return delete(table.__table__).where(columns.workspace == workspace, columns.id == entry_id)


def _mentions(text: str | None, *columns: str) -> list[ColumnElement[bool]]:
    if text is None:
        return []
    return [or_(*(func.lower(column).contains(text.lower(), autoescape=True) for column in columns))]


def _lock_contents(connection: Connection, sha256: str) -> None:
    """Keep a content from being removed while a row is about to name it."""
    hold_name(connection, f"content/{sha256}")


def _document(row: Row[*tuple[Any, ...]]) -> Document:
    return Document(id=row.id, name=row.name, content=row.content, created_at=row.created_at, updated_at=row.updated_at)


def _task(row: Row[*tuple[Any, ...]]) -> Task:
    return Task(
        id=row.id,
        title=row.title,
        status_id=row.status_id,
        description=row.description,
        assignee_id=row.assignee_id,
        labels=tuple(row.labels),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _file(row: Row[*tuple[Any, ...]]) -> File:
    return File(
        id=row.id,
        name=row.name,
        format=row.format,
        size=row.size,
        sha256=row.sha256,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )

"""What ``workspace.*`` does; what it takes and gives is in ``steps.tools.specs.workspace``."""

import asyncio
import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from ulid import ULID

from flows.values import Json
from steps.tools import host_files, moments, tables
from steps.tools.arguments import did_you_mean
from steps.tools.content import Document, DocumentChanges, File, Format, Task, TaskChanges, TaskQuery
from steps.tools.contract import (
    AlreadyExistsError,
    InvalidArgumentsError,
    NotFoundError,
    ToolContext,
)
from steps.tools.encoding import decoded
from steps.tools.specs.shapes import ID

Arguments = Mapping[str, Json]

_ROW_ARGUMENTS: Final = ("columns", "limit", "offset")


async def open_resource(arguments: Arguments, context: ToolContext) -> Json:
    kind, source_id = arguments["sourceKind"], arguments["sourceId"]
    if kind == "file":
        return await _open_file(source_id, arguments, context)
    _refuse_row_arguments(arguments, f"a {kind}")
    content = context.services.content
    if kind == "doc":
        document = await content.get_document(context.workspace, source_id)
        if document is None:
            raise await _no_doc(source_id, context)
        return {"id": document.id, "name": document.name, "kind": "doc", "content": document.content}
    task = await content.get_task(context.workspace, source_id)
    if task is None:
        raise await _no_task(source_id, context)
    return {
        "id": task.id,
        "name": task.title,
        "kind": "task",
        "content": task.description,
        "task": _task_to_json(task),
    }


async def search_tasks(arguments: Arguments, context: ToolContext) -> Json:
    status = arguments.get("status", [])
    query = TaskQuery(
        statuses=[status] if isinstance(status, str) else status,
        text=arguments.get("text"),
        assignee_id=arguments.get("assigneeId"),
        label=arguments.get("label"),
        updated_before=_moment(arguments, "updatedBefore"),
        updated_after=_moment(arguments, "updatedAfter"),
        limit=int(arguments.get("limit", 1000)),
        offset=int(arguments.get("offset", 0)),
    )
    return [_task_to_json(task) for task in await context.services.content.search_tasks(context.workspace, query)]


async def get_task(arguments: Arguments, context: ToolContext) -> Json:
    task = await context.services.content.get_task(context.workspace, arguments["taskId"])
    if task is None:
        raise await _no_task(arguments["taskId"], context)
    return _task_to_json(task)


async def create_task(arguments: Arguments, context: ToolContext) -> Json:
    _check_texts(arguments)
    now = datetime.now(UTC)
    updated_at = _moment(arguments, "updatedAt") or now
    task = Task(
        id=arguments.get("taskId") or str(ULID()),
        title=arguments["title"],
        status_id=arguments["statusId"],
        description=arguments.get("description", ""),
        assignee_id=arguments.get("assigneeId"),
        labels=tuple(dict.fromkeys(arguments.get("labels", []))),
        created_at=min(now, updated_at),
        updated_at=updated_at,
    )
    if not await context.services.content.create_task(context.workspace, task):
        raise AlreadyExistsError(f"there is a task {task.id!r}", fix="change it with workspace.update_task")
    return _task_to_json(task)


async def update_task(arguments: Arguments, context: ToolContext) -> Json:
    _check_texts(arguments)
    changes = TaskChanges(updated_at=_moment(arguments, "updatedAt") or datetime.now(UTC))
    if "title" in arguments:
        changes["title"] = arguments["title"]
    if "statusId" in arguments:
        changes["status_id"] = arguments["statusId"]
    if "description" in arguments:
        changes["description"] = arguments["description"]
    if "assigneeId" in arguments:
        changes["assignee_id"] = arguments["assigneeId"]
    if "labels" in arguments:
        changes["labels"] = tuple(dict.fromkeys(arguments["labels"]))
    task = await context.services.content.update_task(context.workspace, arguments["taskId"], changes)
    if task is None:
        raise await _no_task(arguments["taskId"], context)
    return _task_to_json(task)


async def delete_task(arguments: Arguments, context: ToolContext) -> Json:
    if not await context.services.content.delete_task(context.workspace, arguments["taskId"]):
        raise await _no_task(arguments["taskId"], context)
    return {"id": arguments["taskId"], "deleted": True}


async def list_docs(arguments: Arguments, context: ToolContext) -> Json:
    documents = await context.services.content.list_documents(context.workspace, **_page(arguments))
    return [_document_to_json(document) for document in documents]


async def create_doc(arguments: Arguments, context: ToolContext) -> Json:
    _check_texts(arguments)
    document = _new_document(arguments)
    if not await context.services.content.create_document(context.workspace, document):
        raise AlreadyExistsError(f"there is a document {document.id!r}", fix="replace it with workspace.update_doc")
    return _document_to_json(document)


async def update_doc(arguments: Arguments, context: ToolContext) -> Json:
    _check_texts(arguments)
    content = context.services.content
    changes = DocumentChanges(updated_at=datetime.now(UTC))
    if "name" in arguments:
        changes["name"] = arguments["name"]
    if "content" in arguments:
        changes["content"] = arguments["content"]
    document = await content.update_document(context.workspace, arguments["docId"], changes)
    if document is None and arguments.get("createIfMissing"):
        document = _new_document(arguments)
        if not await content.create_document(context.workspace, document):
            # Somebody else created it in between.
            document = await content.update_document(context.workspace, arguments["docId"], changes)
    if document is None:
        raise await _no_doc(arguments["docId"], context)
    return _document_to_json(document)


async def delete_doc(arguments: Arguments, context: ToolContext) -> Json:
    if not await context.services.content.delete_document(context.workspace, arguments["docId"]):
        raise await _no_doc(arguments["docId"], context)
    return {"id": arguments["docId"], "deleted": True}


async def list_files(arguments: Arguments, context: ToolContext) -> Json:
    files = await context.services.content.list_files(context.workspace, **_page(arguments))
    return [_file_to_json(file) for file in files]


async def import_file(arguments: Arguments, context: ToolContext) -> Json:
    _check_texts({"name": arguments.get("name", "")})
    file_id = arguments["fileId"]
    if "path" in arguments:
        if "encoding" in arguments:
            raise InvalidArgumentsError("encoding is that of content, not of a path", fix="leave it out")
        path, content = await asyncio.to_thread(host_files.read, arguments["path"], context.host_directories)
        name = arguments.get("name") or path.name
        format_ = _format(arguments, name, content)
        if format_ in {"text", "binary"}:
            # A name such as "Sales, May" hides the ending that the path has.
            format_ = _format(arguments, path.name, content)
    else:
        content = decoded(arguments)
        name = arguments.get("name") or file_id
        format_ = _format(arguments, name, content)
    return await _put_file(file_id, name, format_, content, context)


async def import_files(arguments: Arguments, context: ToolContext) -> Json:
    paths = await asyncio.to_thread(host_files.find, arguments["glob"], context.host_directories)
    ids = _ids_of_paths(paths)
    imported = []
    for path, file_id in ids.items():
        place, content = await asyncio.to_thread(host_files.read, path, context.host_directories)
        format_ = tables.format_of(place.name, content)
        imported.append({**await _put_file(file_id, place.name, format_, content, context), "path": path})
    return imported


async def delete_file(arguments: Arguments, context: ToolContext) -> Json:
    if not await context.services.content.delete_file(context.workspace, arguments["fileId"]):
        raise await _no_file(arguments["fileId"], context)
    return {"id": arguments["fileId"], "deleted": True}


async def _open_file(file_id: str, arguments: Arguments, context: ToolContext) -> Json:
    found = await context.services.content.read_file(context.workspace, file_id)
    if found is None:
        raise await _no_file(file_id, context)
    file, content = found
    resource: dict[str, Json] = {"id": file.id, "name": file.name, "kind": "file", "format": file.format}
    table = await asyncio.to_thread(tables.read, file.name, file.format, content)
    if table is None:
        _refuse_row_arguments(arguments, f"{file.name}, which has no rows,")
        text = tables.decode(content)
        if text is None:
            return {**resource, "content": base64.b64encode(content).decode(), "encoding": "base64"}
        return {**resource, "content": text, "encoding": "text"}
    columns = _columns(arguments.get("columns"), table, file.name)
    limit = arguments.get("limit")
    rows = table.rows(columns, int(arguments.get("offset", 0)), None if limit is None else int(limit))
    return {**resource, "columns": columns, "totalRows": table.length, "rows": rows}


def _columns(wanted: Sequence[str] | None, table: tables.Table, name: str) -> list[str]:
    if wanted is None:
        return list(table.columns)
    for column in wanted:
        if column not in table.columns:
            meant = did_you_mean(column, table.columns)
            raise InvalidArgumentsError(
                f"{name} has no column {column!r}",
                fix=f"did you mean {meant!r}?" if meant else f"it has {', '.join(table.columns)}",
            )
    return list(dict.fromkeys(wanted))


def _refuse_row_arguments(arguments: Arguments, what: str) -> None:
    given = [name for name in _ROW_ARGUMENTS if name in arguments]
    if given:
        raise InvalidArgumentsError(f"{what} can't be opened with {', '.join(given)}", fix="leave them out")


def _ids_of_paths(paths: Sequence[str]) -> dict[str, str]:
    """The id of each file: its path, with `-` for what an id can't hold."""
    ids: dict[str, str] = {}
    taken: dict[str, str] = {}
    for path in paths:
        file_id = re.sub(r"[^A-Za-z0-9._-]+", "-", path).lstrip("._-")
        if not re.fullmatch(ID["pattern"], file_id):
            raise InvalidArgumentsError(f"{path} can't become an id of at most 128 characters", fix="rename it")
        if file_id in taken:
            raise InvalidArgumentsError(f"{taken[file_id]} and {path} have the same id {file_id!r}", fix="rename one")
        taken[file_id], ids[path] = path, file_id
    return ids


async def _put_file(file_id: str, name: str, format_: Format, content: bytes, context: ToolContext) -> dict[str, Json]:
    host_files.check_size(len(content))
    now = datetime.now(UTC)
    file = File(
        id=file_id,
        name=name,
        format=format_,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        created_at=now,
        updated_at=now,
    )
    return _file_to_json(await context.services.content.put_file(context.workspace, file, content))


def _format(arguments: Arguments, name: str, content: bytes) -> Format:
    given: Format | None = arguments.get("format")
    return given or tables.format_of(name, content)


def _check_texts(arguments: Arguments) -> None:
    """Refuse what no database keeps as text."""
    for name, value in arguments.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and ("\0" in text or not _is_unicode(text)):
                raise InvalidArgumentsError(
                    f"{name} isn't text: it holds a NUL character or half a surrogate pair", fix="take these out"
                )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _moment(arguments: Arguments, name: str) -> datetime | None:
    return moments.parse(arguments[name], name) if name in arguments else None


def _page(arguments: Arguments) -> dict[str, Json]:
    return {
        "text": arguments.get("text"),
        "limit": int(arguments.get("limit", 100)),
        "offset": int(arguments.get("offset", 0)),
    }


def _new_document(arguments: Arguments) -> Document:
    now = datetime.now(UTC)
    return Document(
        id=arguments["docId"],
        name=arguments.get("name") or arguments["docId"],
        content=arguments.get("content", ""),
        created_at=now,
        updated_at=now,
    )


async def _no_task(task_id: str, context: ToolContext) -> NotFoundError:
    return await _not_found("task", task_id, context.services.content.task_ids, context, "workspace.create_task")


async def _no_doc(doc_id: str, context: ToolContext) -> NotFoundError:
    return await _not_found("document", doc_id, context.services.content.document_ids, context, "workspace.create_doc")


async def _no_file(file_id: str, context: ToolContext) -> NotFoundError:
    return await _not_found("file", file_id, context.services.content.file_ids, context, "workspace.import_file")


async def _not_found(
    noun: str, wanted: str, ids: Callable[[str], Awaitable[tuple[str, ...]]], context: ToolContext, creator: str
) -> NotFoundError:
    meant = did_you_mean(wanted, await ids(context.workspace))
    return NotFoundError(
        f"there is no {noun} {wanted!r}", fix=f"did you mean {meant!r}?" if meant else f"add it with {creator}"
    )


def _task_to_json(task: Task) -> dict[str, Json]:
    return {
        "id": task.id,
        "title": task.title,
        "statusId": task.status_id,
        "description": task.description,
        "assigneeId": task.assignee_id,
        "labels": list(task.labels),
        "createdAt": moments.write(task.created_at),
        "updatedAt": moments.write(task.updated_at),
    }


def _document_to_json(document: Document) -> dict[str, Json]:
    return {
        "id": document.id,
        "name": document.name,
        "createdAt": moments.write(document.created_at),
        "updatedAt": moments.write(document.updated_at),
    }


def _file_to_json(file: File) -> dict[str, Json]:
    return {
        "id": file.id,
        "name": file.name,
        "format": file.format,
        "size": file.size,
        "sha256": file.sha256,
        "createdAt": moments.write(file.created_at),
        "updatedAt": moments.write(file.updated_at),
    }

"""``workspace.*``: the workspace's documents, tasks and files."""

from typing import Final

from flows.contracts import ToolSpec
from steps.tools.specs.shapes import TIME, an_id, arguments, described, page, text

_MOMENT: Final = "an ISO 8601 time (UTC where it names no zone), `now`, or a distance such as `30 days ago`"
_STATUS: Final = {"type": "string", "minLength": 1}

_TASK: Final = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "title": {"type": "string"},
        "statusId": {"type": "string"},
        "description": {"type": "string"},
        "assigneeId": {"type": ["string", "null"]},
        "labels": {"type": "array", "items": {"type": "string"}},
        "createdAt": TIME,
        "updatedAt": TIME,
    },
    "required": ["id", "title", "statusId", "description", "assigneeId", "labels", "createdAt", "updatedAt"],
}
_DOC: Final = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "name": {"type": "string"}, "createdAt": TIME, "updatedAt": TIME},
    "required": ["id", "name", "createdAt", "updatedAt"],
}
_FORMAT: Final = {"enum": ["csv", "tsv", "json", "jsonl", "parquet", "text", "binary"]}
_FILE_PROPERTIES: Final = {
    "id": {"type": "string"},
    "name": {"type": "string"},
    "format": _FORMAT,
    "size": described({"type": "integer"}, "Bytes."),
    "sha256": {"type": "string"},
    "createdAt": TIME,
    "updatedAt": TIME,
}
_FILE: Final = {"type": "object", "properties": _FILE_PROPERTIES, "required": list(_FILE_PROPERTIES)}
_FOUND_FILE_PROPERTIES: Final = {**_FILE_PROPERTIES, "path": text("From the flow's directory.")}
_FOUND_FILE: Final = {"type": "object", "properties": _FOUND_FILE_PROPERTIES, "required": list(_FOUND_FILE_PROPERTIES)}
_RESOURCE: Final = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string"},
        "kind": {"enum": ["file", "doc", "task"]},
        "format": described(_FORMAT, "Of a file."),
        "rows": {"type": "array", "items": {"type": "object"}, "description": "Of a tabular file."},
        "totalRows": {"type": "integer", "description": "Rows in the whole file."},
        "columns": {"type": "array", "items": {"type": "string"}, "description": "Of `rows`, in the file's order."},
        "content": {"type": "string", "description": "Of a document, a task or any other file."},
        "encoding": {"enum": ["text", "base64"], "description": "Of a file's `content`."},
        "task": described(_TASK, "Of a task: all of it."),
    },
    "required": ["id", "name", "kind"],
}
_DELETED: Final = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "deleted": {"const": True}},
    "required": ["id", "deleted"],
}

_TASK_FIELDS: Final = {
    "title": text("What is to be done.", non_empty=True),
    "statusId": described(_STATUS, "Any word the workspace uses: `in_progress`, `archived`."),
    "description": text("The details."),
    "assigneeId": {"type": ["string", "null"], "description": "Who does it; null for nobody."},
    "labels": {"type": "array", "items": {"type": "string", "minLength": 1}, "description": "All of its labels."},
    "updatedAt": text(f"When it was touched last: {_MOMENT}. Left out: now."),
}
_SEARCH_TEXT: Final = "Only those that have this text in"

SPECS: Final = (
    ToolSpec(
        name="workspace.open_resource",
        description="Open a file, a document or a task. CSV, TSV, JSON (a list of objects), JSON lines and Parquet "
        "files come as rows; anything else as its content.",
        arguments=arguments(
            {
                "sourceKind": {"enum": ["file", "doc", "task"], "description": "What it is."},
                "sourceId": an_id("Its id."),
                "columns": {
                    "type": "array",
                    "items": {"type": "string"},
                    "minItems": 1,
                    "description": "Of a tabular file: only these columns.",
                },
                "limit": {"type": "integer", "minimum": 0, "description": "Of a tabular file: rows at most."},
                "offset": {
                    "type": "integer",
                    "minimum": 0,
                    "description": "Of a tabular file: rows to leave out before.",
                },
            },
            "sourceKind",
            "sourceId",
        ),
        result=_RESOURCE,
        effect="read",
        idempotent=True,
        in_store=True,
    ),
    ToolSpec(
        name="workspace.search_tasks",
        description="Find tasks; the one that was touched longest ago comes first.",
        arguments=arguments(
            {
                "status": {
                    "anyOf": [_STATUS, {"type": "array", "items": _STATUS, "minItems": 1}],
                    "description": "The statusId, or several of which one must match.",
                },
                "text": text(f"{_SEARCH_TEXT} title or description, in any case."),
                "assigneeId": text("Only those of this person."),
                "label": text("Only those with this label."),
                "updatedBefore": text(f"Only those untouched since: {_MOMENT}."),
                "updatedAfter": text(f"Only those touched after: {_MOMENT}."),
                **page(10_000, 1000),
            }
        ),
        result={"type": "array", "items": _TASK},
        effect="read",
        idempotent=True,
        in_store=True,
    ),
    ToolSpec(
        name="workspace.get_task",
        description="One task by its id.",
        arguments=arguments({"taskId": an_id("Its id.")}, "taskId"),
        result=_TASK,
        effect="read",
        idempotent=True,
        in_store=True,
    ),
    ToolSpec(
        name="workspace.create_task",
        description="Add a task.",
        arguments=arguments(
            {"taskId": an_id("Its id; left out: a new one."), **_TASK_FIELDS},
            "title",
            "statusId",
        ),
        result=_TASK,
        effect="write",
        in_store=True,
    ),
    ToolSpec(
        name="workspace.update_task",
        description="Change fields of a task; those left out stay as they are.",
        arguments={**arguments({"taskId": an_id("Its id."), **_TASK_FIELDS}, "taskId"), "minProperties": 2},
        result=_TASK,
        effect="write",
        idempotent=True,
        in_store=True,
    ),
    ToolSpec(
        name="workspace.delete_task",
        description="Remove a task for good.",
        arguments=arguments({"taskId": an_id("Its id.")}, "taskId"),
        result=_DELETED,
        effect="write",
        in_store=True,
    ),
    ToolSpec(
        name="workspace.list_docs",
        description="List documents by id, without their content.",
        arguments=arguments({"text": text(f"{_SEARCH_TEXT} id, name or content, in any case."), **page(1000, 100)}),
        result={"type": "array", "items": _DOC},
        effect="read",
        idempotent=True,
        in_store=True,
    ),
    ToolSpec(
        name="workspace.create_doc",
        description="Add a document.",
        arguments=arguments(
            {
                "docId": an_id("Its id."),
                "name": text("What people call it; left out: its id.", non_empty=True),
                "content": text("Its text."),
            },
            "docId",
            "content",
        ),
        result=_DOC,
        effect="write",
        in_store=True,
    ),
    ToolSpec(
        name="workspace.update_doc",
        description="Replace the text of a document, or its name.",
        arguments={
            **arguments(
                {
                    "docId": an_id("Its id."),
                    "name": text("Its new name.", non_empty=True),
                    "content": text("Its new text."),
                    "createIfMissing": {
                        "type": "boolean",
                        "default": False,
                        "description": "Add the document where there is none of that id.",
                    },
                },
                "docId",
            ),
            "anyOf": [{"required": ["content"]}, {"required": ["name"]}],
        },
        result=_DOC,
        effect="write",
        idempotent=True,
        in_store=True,
    ),
    ToolSpec(
        name="workspace.delete_doc",
        description="Remove a document for good.",
        arguments=arguments({"docId": an_id("Its id.")}, "docId"),
        result=_DELETED,
        effect="write",
        in_store=True,
    ),
    ToolSpec(
        name="workspace.list_files",
        description="List files by id, without their content.",
        arguments=arguments({"text": text(f"{_SEARCH_TEXT} id or name, in any case."), **page(1000, 100)}),
        result={"type": "array", "items": _FILE},
        effect="read",
        idempotent=True,
        in_store=True,
    ),
    ToolSpec(
        name="workspace.import_file",
        description="Add a file, or replace the one of that id.",
        arguments={
            **arguments(
                {
                    "fileId": an_id("Its id."),
                    "name": text("Its name; the ending tells the format. Left out: that of the path, or the id."),
                    "content": text("Its content."),
                    "encoding": {
                        "enum": ["text", "base64"],
                        "default": "text",
                        "description": "Of `content`: base64 for what isn't text.",
                    },
                    "path": text(
                        "A file of this machine, in the flow's own directory (from there, if it is relative). "
                        "Code in a sandbox can't name one.",
                        non_empty=True,
                    ),
                    "format": described(_FORMAT, "Where neither name nor content tells what it is."),
                },
                "fileId",
            ),
            "oneOf": [{"required": ["content"]}, {"required": ["path"]}],
        },
        result=_FILE,
        effect="write",
        idempotent=True,
        in_store=True,
    ),
    ToolSpec(
        name="workspace.import_files",
        description="Add the files that a pattern names, at most 1000, or replace those of their ids. A file's id is "
        "its path with `-` for each `/` and for what an id can't hold. None where the pattern names none.",
        arguments=arguments(
            {
                "glob": text(
                    "Files of this machine, from the flow's own directory: `incoming/*.csv`; `**` stands for "
                    "directories at any depth. Code in a sandbox can't name any.",
                    non_empty=True,
                )
            },
            "glob",
        ),
        result={"type": "array", "items": _FOUND_FILE},
        effect="write",
        idempotent=True,
    ),
    ToolSpec(
        name="workspace.delete_file",
        description="Remove a file for good.",
        arguments=arguments({"fileId": an_id("Its id.")}, "fileId"),
        result=_DELETED,
        effect="write",
        in_store=True,
    ),
)

"""``files.*``: files that the installation's flows share."""

from typing import Final

from flows.contracts import ToolSpec
from steps.tools.specs.shapes import TIME, arguments, text

_PATH: Final = text("Where it is, from the root of the shared files: `reports/may.csv`.", non_empty=True)
_ENTRY: Final = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "kind": {"enum": ["file", "directory"]},
        "size": {"type": "integer", "description": "Bytes; 0 for a directory."},
        "updatedAt": {"anyOf": [TIME, {"type": "null"}]},
    },
    "required": ["path", "kind", "size", "updatedAt"],
}

SPECS: Final = (
    ToolSpec(
        name="files.read",
        description="Read a shared file of at most 1 MB.",
        arguments=arguments(
            {
                "path": _PATH,
                "encoding": {
                    "enum": ["text", "base64"],
                    "description": "How to give it; left out: as text if it is UTF-8, else in base64.",
                },
            },
            "path",
        ),
        result={
            "type": "object",
            "properties": {
                "path": {"type": "string"},
                "size": {"type": "integer"},
                "content": {"type": "string"},
                "encoding": {"enum": ["text", "base64"]},
            },
            "required": ["path", "size", "content", "encoding"],
        },
        effect="read",
        idempotent=True,
    ),
    ToolSpec(
        name="files.write",
        description="Write a shared file, with the directories it needs. Readers see all of it or what was before.",
        arguments=arguments(
            {
                "path": _PATH,
                "content": text("What to write: at most 10 MB."),
                "encoding": {
                    "enum": ["text", "base64"],
                    "default": "text",
                    "description": "Of `content`: base64 for what isn't text.",
                },
                "overwrite": {
                    "type": "boolean",
                    "default": True,
                    "description": "Whether to replace a file that is there.",
                },
            },
            "path",
            "content",
        ),
        result={
            "type": "object",
            "properties": {"path": {"type": "string"}, "size": {"type": "integer"}},
            "required": ["path", "size"],
        },
        effect="write",
        idempotent=True,
    ),
    ToolSpec(
        name="files.list",
        description="List a directory of the shared files by path: at most 1000 entries.",
        arguments=arguments(
            {
                "path": text("The directory; left out: the root."),
                "recursive": {
                    "type": "boolean",
                    "default": False,
                    "description": "Whether to list the files below its directories too.",
                },
            }
        ),
        result={"type": "array", "items": _ENTRY},
        effect="read",
        idempotent=True,
    ),
)

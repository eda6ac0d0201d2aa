"""``image.*``: images on the Docker Engine, for steps of ``image``."""

from typing import Final

from flows.contracts import ToolSpec
from steps.tools.specs.shapes import arguments, text

MAX_FILES: Final = 200
MAX_MEMORY_MB: Final = 8192
MAX_TIMEOUT: Final = 3600

_NAME: Final = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_HOST: Final = r"[A-Za-z0-9][A-Za-z0-9.-]{0,200}(?::[0-9]{1,5})?"
_TAG: Final = rf"^(?:{_HOST}/)?{_NAME}(?:/{_NAME})*:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}$"

SPECS: Final = (
    ToolSpec(
        name="image.build",
        description="Build an image on the Docker Engine, for steps of `image`; a person is asked before. Nothing that "
        "the Dockerfile runs has a network.",
        arguments=arguments(
            {
                "tag": {
                    "type": "string",
                    "pattern": _TAG,
                    "maxLength": 400,
                    "description": "The image's name and tag: `orders-tests:1`. One that a flow of this workspace "
                    "built is replaced, no other.",
                },
                "dockerfile": text("The Dockerfile. It may not use ADD; COPY takes from `files`.", non_empty=True),
                "files": {
                    "type": "object",
                    "maxProperties": MAX_FILES,
                    "additionalProperties": {
                        "anyOf": [
                            {"type": "string"},
                            arguments(
                                {
                                    "content": text("What is in it."),
                                    "encoding": {"enum": ["text", "base64"], "default": "text"},
                                    "executable": {"type": "boolean", "default": False},
                                },
                                "content",
                            ),
                        ]
                    },
                    "description": "Files for COPY, by path: their text, or `content` with its `encoding`. At most 1 "
                    "MB together.",
                },
                "args": {
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                    "description": "Values for the Dockerfile's ARG.",
                },
                "target": text("The stage to build; left out: the last.", non_empty=True),
                "pull": {
                    "enum": ["missing", "never"],
                    "default": "missing",
                    "description": "Whether images to start from are pulled where the Engine doesn't have them.",
                },
                "timeout": {
                    "type": "number",
                    "exclusiveMinimum": 0,
                    "maximum": MAX_TIMEOUT,
                    "default": 600,
                    "description": "Seconds for all of it.",
                },
                "memory_mb": {
                    "type": "integer",
                    "minimum": 16,
                    "maximum": MAX_MEMORY_MB,
                    "default": 1024,
                    "description": "Megabytes that each command of the Dockerfile may use.",
                },
            },
            "tag",
            "dockerfile",
        ),
        result={
            "type": "object",
            "properties": {
                "image": {"type": "string", "description": "The tag."},
                "id": {"type": "string", "description": "The image's id: `sha256:…`."},
                "size": {"type": "integer", "description": "Bytes."},
                "log": {"type": "string", "description": "The last 10 KB of what the build printed."},
            },
            "required": ["image", "id", "size", "log"],
        },
        effect="write",
        idempotent=True,
        approval="always",
    ),
)

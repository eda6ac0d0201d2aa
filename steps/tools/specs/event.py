"""``event.*``: events that other flows trigger on."""

from typing import Final

from flows.contracts import ToolSpec
from steps.tools.specs.shapes import arguments, described

SPECS: Final = (
    ToolSpec(
        name="event.emit",
        description="Tell of something that has happened, so that the flows that trigger on it start.",
        arguments=arguments(
            {
                "type": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 300,
                    "description": "What has happened, such as `order.created`; not `stepbox.…`.",
                },
                "data": described({}, "Any JSON. The whole event may have 1 MB."),
                "subject": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 300,
                    "description": "What it has happened to.",
                },
                "id": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 300,
                    "description": "Tells it from all else that the flow tells of; left out: one for each call.",
                },
            },
            "type",
        ),
        result={
            "type": "object",
            "properties": {
                "id": {"type": "string"},
                "type": {"type": "string"},
                "source": {"type": "string"},
                "event": {"type": "string", "description": "Its id in `stepbox events`."},
                "triggers": {"type": "integer", "description": "How many triggers it is for."},
                "duplicate": {"type": "boolean", "description": "Whether it had been told of before."},
            },
            "required": ["id", "type", "source", "event", "triggers", "duplicate"],
        },
        effect="write",
        idempotent=True,
        in_store=True,
    ),
)

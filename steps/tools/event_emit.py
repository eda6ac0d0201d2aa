"""What ``event.emit`` does; what it takes and gives is in ``steps.tools.specs.event``."""

from collections.abc import Mapping

from flows.values import Json
from steps.tools.contract import ToolContext, ToolError
from steps.tools.events import EmittedEvent


async def emit(arguments: Mapping[str, Json], context: ToolContext) -> Json:
    outlet = context.services.events
    if outlet is None:
        raise ToolError("events can't be told of from here", fix="call the tool in a flow")
    event = EmittedEvent(
        type=arguments["type"],
        id=arguments.get("id", context.idempotency_key),
        subject=arguments.get("subject"),
        data=arguments.get("data"),
    )
    kept = await outlet.emit(context.run_id, event)
    return {
        "id": event.id,
        "type": event.type,
        "source": kept.source,
        "event": kept.event,
        "triggers": kept.triggers,
        "duplicate": kept.duplicate,
    }

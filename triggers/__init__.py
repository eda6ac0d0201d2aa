"""What starts a run: one module a kind. ``KINDS`` is the table of the built-in kinds."""

from flows.contracts import TriggerKind
from triggers.event import EventTrigger
from triggers.file import FileTrigger
from triggers.manual import ManualTrigger
from triggers.queue import QueueTrigger
from triggers.schedule import ScheduleTrigger
from triggers.webhook import WebhookTrigger

KINDS: tuple[TriggerKind, ...] = (
    TriggerKind(key="schedule", config=ScheduleTrigger),
    TriggerKind(key="webhook", config=WebhookTrigger),
    TriggerKind(key="event", config=EventTrigger),
    TriggerKind(key="file", config=FileTrigger),
    TriggerKind(key="queue", config=QueueTrigger),
    TriggerKind(key="manual", config=ManualTrigger),
)

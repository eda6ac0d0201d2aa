"""What starts a run: one module a kind. ``KINDS`` is the table of the built-in kinds."""

from flows.contracts import TriggerKind
from triggers.event.config import EventTrigger, check_event
from triggers.file.config import FileTrigger, check_file
from triggers.manual import ManualTrigger
from triggers.queue.config import QueueTrigger, check_queue
from triggers.schedule.config import ScheduleTrigger, check_schedule
from triggers.webhook.config import WIRING as WEBHOOK_WIRING
from triggers.webhook.config import WebhookTrigger, check_webhook, shared_path

KINDS: tuple[TriggerKind, ...] = (
    TriggerKind(key="schedule", config=ScheduleTrigger, check=check_schedule),
    TriggerKind(key="webhook", config=WebhookTrigger, check=check_webhook, wiring=WEBHOOK_WIRING, unique=shared_path),
    TriggerKind(key="event", config=EventTrigger, check=check_event),
    TriggerKind(key="file", config=FileTrigger, check=check_file),
    TriggerKind(key="queue", config=QueueTrigger, check=check_queue),
    TriggerKind(key="manual", config=ManualTrigger, asks_inputs=True),
)

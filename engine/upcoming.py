"""When the schedules of a flow come due next."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from zoneinfo import ZoneInfo

from flows.definition import Definition
from triggers.schedule.config import ScheduleTrigger
from triggers.schedule.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Upcoming:
    """One time at which a trigger comes due; ``due_at`` is ``scheduled_at`` with its jitter. Both are in UTC."""

    trigger: str
    scheduled_at: datetime
    due_at: datetime
    zone: ZoneInfo


def plan_of(trigger: ScheduleTrigger, *, workspace: str, flow: str) -> Plan:
    """The plan of a flow's trigger: wherever it is made, its times are the same, jitter included."""
    return Plan(trigger, name=f"{workspace}/{flow}/{trigger.id}")


def upcoming(definition: Definition, *, workspace: str, after: datetime, count: int) -> tuple[Upcoming, ...]:
    """The next times of all schedules of a flow together, the first one first."""
    flow = definition.flow
    times = [
        _times(trigger, workspace, flow.flow, after)
        for trigger in flow.triggers
        if isinstance(trigger, ScheduleTrigger)
    ]
    return tuple(islice(heapq.merge(*times, key=lambda one: one.due_at), count))


def _times(trigger: ScheduleTrigger, workspace: str, flow: str, after: datetime) -> Iterator[Upcoming]:
    plan = plan_of(trigger, workspace=workspace, flow=flow)
    for one in plan.occurrences(after):
        yield Upcoming(trigger=trigger.id, scheduled_at=one.scheduled_at, due_at=one.due_at, zone=plan.zone)

"""Whether an event starts a run, and with which inputs: ``if`` and ``with`` of a trigger, without doing anything."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from flows.events import Event
from flows.expressions import ExpressionError, condition, resolve
from flows.model import TriggerConfig
from flows.values import Json
from triggers.event.causes import loop


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """The inputs of the run, not yet checked against the flow's."""

    inputs: Mapping[str, Json]


@dataclass(frozen=True, kw_only=True)
class Filtered:
    """No run starts. ``by`` is what said so, ``error`` whether it did because it can't be evaluated."""

    by: Literal["if", "with", "loop"]
    reason: str
    error: bool = False


def admit(trigger: TriggerConfig, event: Event, *, flow: str, kind: str) -> Admitted | Filtered:
    """Decide on an event; ``kind`` is the key of the trigger's kind. The same event is always decided alike."""
    if (reason := loop(flow, event)) is not None:
        return Filtered(by="loop", reason=reason)
    names: dict[str, Json] = {"event": event.data, "trigger": {"id": trigger.id, "kind": kind}}
    if trigger.if_ is not None:
        try:
            if not condition(trigger.if_, names):
                return Filtered(by="if", reason=f"`if: {_shown(trigger.if_)}` says no")
        except ExpressionError as error:
            return Filtered(by="if", reason=str(error), error=True)
    try:
        inputs = resolve(trigger.with_, names)
    except ExpressionError as error:
        return Filtered(by="with", reason=str(error), error=True)
    return Admitted(inputs=inputs)


def _shown(text: str | bool) -> str:  # noqa: FBT001 - `if: false` is a condition too
    return str(text).lower() if isinstance(text, bool) else " ".join(text.split())[:200]

"""Which slot of its flow's ``concurrency`` a run takes."""

import hashlib
from collections.abc import Mapping
from typing import Final

from engine.records import Slot
from engine.store.types import canonical_json
from flows.expressions import resolve
from flows.model import Flow
from flows.values import Json

_LONGEST: Final = 100
"""Characters of a key that is kept as it is; of a longer one its SHA-256."""


def slot_of(flow: Flow, inputs: Mapping[str, Json], trigger: Mapping[str, Json]) -> Slot | None:
    """The slot for a run with these inputs, which that started; None where the flow has no ``concurrency``.

    Raises:
        ExpressionError: its key can't be evaluated.
    """
    concurrency = flow.concurrency
    if concurrency is None:
        return None
    names = {"inputs": dict(inputs), "event": trigger.get("event"), "trigger": trigger.get("trigger")}
    key = "" if concurrency.key is None else canonical_json(resolve(concurrency.key, names))
    if len(key) > _LONGEST:
        key = hashlib.sha256(key.encode()).hexdigest()
    return Slot(key=key, limit=concurrency.limit, policy=concurrency.policy)

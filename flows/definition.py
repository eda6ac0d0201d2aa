"""What loading a flow gives: the models, the text they came from, and what was computed on the way."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flows.model import Flow, StepConfig


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A flow that was checked in full.

    ``digest`` is the SHA-256, in hex, over the text and the files. ``files`` is the text of the code kept beside the
    flow, by its path from the flow's directory on. ``steps`` holds every step by id, those of ``on_failure`` and
    ``finally`` too, with the flow's defaults applied, as they are in ``flow``. ``kinds`` is the key of each step's
    kind, by step id, and ``trigger_kinds`` of each trigger's.
    """

    flow: Flow
    text: str
    files: Mapping[str, str] = field(default_factory=dict)
    digest: str
    needs: Mapping[str, tuple[str, ...]]
    """Ids of the steps that must end first, by step id, with the default (the step before) resolved."""
    order: tuple[str, ...]
    """Ids of ``steps`` so that each comes after those it needs; in the order of the text where that allows."""
    steps: Mapping[str, StepConfig]
    kinds: Mapping[str, str]
    trigger_kinds: Mapping[str, str]

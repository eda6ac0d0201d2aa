"""Triggers of ``manual``: a person's click. Every flow can be started by command without one."""

from flows.model import Config, TriggerConfig


class Manual(Config):
    """What is shown where the flow can be started."""

    label: str | None = None
    """What the button says."""


class ManualTrigger(TriggerConfig):
    """``event`` has ``by``, the principal."""

    manual: Manual | None
    """May be left empty: ``manual:``."""

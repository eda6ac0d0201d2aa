"""What Stepbox keeps: flows, runs, attempts of steps, logs, tool calls and the workspace's content."""

from engine.store.store import Store

__all__ = ["Store"]

"""The log of a service: for people on a terminal, JSON lines elsewhere. Everything goes to standard error."""

import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Final, Literal

import structlog

from engine.log_context import FACTS, facts
from ui.cli.streams import Stream

if TYPE_CHECKING:
    from structlog.typing import Processor

LogFormat = Literal["auto", "text", "json"]

_QUIET: Final = ("httpx", "httpcore", "uvicorn.error", "asyncio", "prefect", "docker", "urllib3", "alembic")
"""Loggers of others, of which only warnings matter here."""
_FIRST: Final = ("time", "level", "logger", "event", *FACTS)


def configure(format_: LogFormat, level: str) -> None:
    """Let all loggers of the process write so."""
    stream = Stream("stderr")
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _add_facts,
    ]
    if format_ == "json" or (format_ == "auto" and not stream.isatty()):
        ending: list[Processor] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        ending = [structlog.dev.ConsoleRenderer(colors=stream.isatty(), timestamp_key="time")]
    handler = logging.StreamHandler(stream.as_file())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _add_facts(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Say what the line is about where it doesn't say so itself, and bring what all lines have to its beginning."""
    known = {**facts(), **line}
    ordered: dict[str, Any] = {name: known[name] for name in _FIRST if name in known}
    return {**ordered, **{name: value for name, value in known.items() if name not in ordered}}

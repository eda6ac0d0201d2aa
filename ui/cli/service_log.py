"""The log of a service: for people on a terminal, JSON lines elsewhere. Everything goes to standard error."""

import logging
from typing import TYPE_CHECKING, Literal

import structlog

from ui.cli.streams import Stream

if TYPE_CHECKING:
    from structlog.typing import Processor

LogFormat = Literal["auto", "console", "json"]

_QUIET = ("httpx", "httpcore", "uvicorn.error", "asyncio", "prefect", "docker", "urllib3", "alembic")
"""Loggers of others, of which only warnings matter here."""


def configure(format_: LogFormat, level: str) -> None:
    """Let all loggers of the process write so."""
    stream = Stream("stderr")
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if format_ == "json" or (format_ == "auto" and not stream.isatty()):
        ending: list[Processor] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        ending = [structlog.dev.ConsoleRenderer(colors=stream.isatty())]
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

"""``stepbox serve``: the service that one leaves running."""

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Coroutine, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.errors import StepboxError
from ui.cli.doors import leave
from ui.cli.show import write

if TYPE_CHECKING:
    import uvicorn

    from engine.local_serving import LocalServing

_log = logging.getLogger("stepbox")

BACKLOG = 2048
CLOSE_WITHIN = 5
"""Seconds that open requests may take once runs have ended."""


class LogFormat(StrEnum):
    """How the log is written."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


class AddressUnavailableError(StepboxError):
    """The address can't be listened on."""

    code = "address_unavailable"


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0: any free one.")] = 8080,
    flows: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Apply the flows of a directory, now and whenever its files change."),
    ] = None,
    log_format: Annotated[
        LogFormat | None,
        typer.Option(help="JSON lines, or text for people; auto: text on a terminal.", show_default="auto"),
    ] = None,
) -> None:
    """Serve the HTTP API and drive the runs that are started by it, until SIGTERM or Ctrl-C.

    Then nothing more is started, and runs may take STEPBOX_SHUTDOWN_GRACE to end; the next start goes on with those
    that take longer. A second signal lets go of them at once.
    The first start prints an admin token on standard output, once.

    Example: `stepbox serve --port 8080`
    """

    def work() -> "Coroutine[None, None, int]":
        return _serve(host, port, flows, log_format)

    leave(work)


async def _serve(host: str, port: int, flows: Path | None, log_format: LogFormat | None) -> int:
    from engine.bootstrap import open_serving
    from engine.settings import Settings
    from ui.cli.service_log import configure

    settings = Settings().serve
    configure(settings.log_format if log_format is None else log_format.value, settings.log_level)
    with _listen(host, port) as listening:
        async with open_serving() as serving:
            token = await serving.first_token()
            if token is not None:
                write(f"admin token, shown only now: {token}\n")
            server = _server(serving, settings.max_body)
            answering = asyncio.create_task(server.serve(sockets=[listening]))
            watching = asyncio.create_task(_apply_changes(serving, flows))
            _announce(listening)
            try:
                await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
                if watching.done():
                    watching.result()
            except asyncio.CancelledError:
                _continue()
                await _stop(serving)
            finally:
                watching.cancel()
                await _close(server, answering)
    _log.info("stopped")
    return 0


async def _stop(serving: "LocalServing") -> None:
    """Let what runs end, and let go of what takes too long; of everything at a second signal."""
    _log.info("stopping: nothing more is started", extra={"running": serving.active})
    try:
        left = await serving.stop()
    except asyncio.CancelledError:
        _continue()
        _log.warning("stopping at once: what runs is let go of")
        left = await serving.stop(at_once=True)
    if left:
        _log.warning("runs take longer: the next start, or another engine, goes on with them", extra={"left": left})


async def _close(server: "uvicorn.Server", answering: "asyncio.Task[None]") -> None:
    """Answer what was asked, and end."""
    app = getattr(server.config.app, "state", None)
    if app is not None:
        app.closing.set()
    server.should_exit = True
    await answering


def _continue() -> None:
    """Take note of a cancellation that is answered here and now."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


def _server(serving: "LocalServing", max_body: int) -> "uvicorn.Server":
    import uvicorn

    from ui.api.app import create_app

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Signals are the command's."""
            yield

    config = uvicorn.Config(
        create_app(serving, max_body=max_body),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=CLOSE_WITHIN,
    )
    return Server(config)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        AddressUnavailableError: it can't be had.
    """
    try:
        family, _kind, _protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=False)
    except OSError as problem:
        raise AddressUnavailableError(
            f"can't listen on {host} port {port}: {problem.strerror or problem}",
            fix="end what listens there, or choose another by --host and --port",
        ) from problem
    # Its connections have it too. asyncio sets it only where the socket names its protocol, which this one doesn't;
    # without it each answer, whose body follows its head, waits for the other side's delayed acknowledgement: 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _announce(listening: socket.socket) -> None:
    address, port = listening.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    _log.info("listening", extra={"url": f"http://{shown}:{port}"})
    if not ipaddress.ip_address(address).is_loopback:
        _log.warning("what is sent is not encrypted: put a proxy that speaks TLS in front")


async def _apply_changes(serving: "LocalServing", directory: Path | None) -> None:
    """Keep the flows of a directory applied, for ever."""
    if directory is None:
        await asyncio.Event().wait()
    else:
        from engine.bootstrap import keep_applied

        await keep_applied(serving, directory)

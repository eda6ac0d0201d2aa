"""Where the Docker Engine is, as Docker's own environment and contexts say it, and how to reach it.

The order is that of Docker's own command line: ``DOCKER_HOST``, then the context that ``DOCKER_CONTEXT`` or
``~/.docker/config.json`` names, then the socket of this machine.
"""

import asyncio
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from flows.errors import RefusedError

LOCAL = "unix:///var/run/docker.sock"
PLAIN_PORT, TLS_PORT = 2375, 2376
DIAL_TIMEOUT = 10.0
PROBES = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}
"""When the kernel asks whether an Engine far away is still there: after 30 s without a word, three times in 30 s.

Else one that lost its power would be waited for until the job's timeout, and what is between would forget the
connection of a container that waits.
"""


class DockerUnavailableError(RefusedError):
    """The Docker Engine, or something that it needs for isolating code, can't be had."""

    code = "docker_unavailable"


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """Files (PEM) for TLS. ``client`` is a certificate with its key; without ``verify`` the Engine's isn't checked."""

    authority: Path | None = None
    client: tuple[Path, Path] | None = None
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """What a connection of ours needs of them."""
        context = ssl.create_default_context(cafile=str(self.authority) if self.authority else None)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.client is not None:
            context.load_cert_chain(*self.client)
        return context


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A Docker Engine's address: ``unix:///path`` or ``tcp://host:port``, with certificates where it speaks TLS."""

    url: str = LOCAL
    certificates: Certificates | None = None

    @property
    def socket(self) -> Path | None:
        """The Engine's socket; None where it is reached by TCP."""
        parts = urlsplit(self.url)
        return Path(parts.path) if parts.scheme == "unix" else None

    @property
    def absent(self) -> bool:
        """Whether there is nothing at all at this address, as far as that costs nothing to know."""
        return self.socket is not None and not self.socket.exists()

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection.

        Raises:
            OSError: nobody answers there, or not as it should.
        """
        try:
            async with asyncio.timeout(DIAL_TIMEOUT):
                if self.socket is not None:
                    return await asyncio.open_unix_connection(self.socket)
                parts = urlsplit(self.url)
                context = self.certificates.context() if self.certificates else None
                port = parts.port or (TLS_PORT if context else PLAIN_PORT)
                reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=context)
        except TimeoutError:
            raise TimeoutError(f"no connection within {DIAL_TIMEOUT:g} s") from None
        line = writer.get_extra_info("socket")
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in PROBES.items():
            line.setsockopt(socket.IPPROTO_TCP, option, value)
        return reader, writer


def find(variables: Mapping[str, str]) -> Endpoint:
    """The Engine that these variables of the environment name.

    Read are DOCKER_HOST, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH, DOCKER_CONTEXT and DOCKER_CONFIG.

    Raises:
        DockerUnavailableError: they name one that can't be reached from here, or a context that doesn't exist.
    """
    folder = Path(variables.get("DOCKER_CONFIG") or Path.home() / ".docker")
    if host := variables.get("DOCKER_HOST"):
        verify = bool(variables.get("DOCKER_TLS_VERIFY"))
        path = variables.get("DOCKER_CERT_PATH")
        tls = _certificates(Path(path) if path else folder, verify=verify) if path or verify else None
        return Endpoint(url=_checked(host), certificates=tls)
    name = variables.get("DOCKER_CONTEXT") or _current_context(folder)
    return Endpoint() if name in (None, "default") else _of_context(str(name))


def _certificates(folder: Path, *, verify: bool) -> Certificates:
    authority, certificate, key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
    return Certificates(
        authority=authority if verify and authority.exists() else None,
        client=(certificate, key) if certificate.exists() and key.exists() else None,
        verify=verify,
    )


def _current_context(folder: Path) -> str | None:
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("currentContext")
    except (OSError, ValueError, AttributeError):
        return None
    return name if isinstance(name, str) and name else None


def _of_context(name: str) -> Endpoint:
    from docker.context import ContextAPI  # noqa: PLC0415 - slow to import, and few have a context
    from docker.errors import DockerException  # noqa: PLC0415 - the same

    try:
        context: Any = ContextAPI.get_context(name)
    except (DockerException, OSError, ValueError) as error:
        raise DockerUnavailableError(f"the Docker context {name!r} can't be read: {error}") from None
    if context is None:
        raise DockerUnavailableError(
            f"there is no Docker context {name!r}", fix="see `docker context ls`, or set DOCKER_HOST"
        )
    tls = context.TLSConfig
    certificates = None
    if tls is not None and (tls.ca_cert or tls.cert):
        client = (Path(tls.cert[0]), Path(tls.cert[1])) if tls.cert else None
        certificates = Certificates(
            authority=Path(tls.ca_cert) if tls.ca_cert else None, client=client, verify=tls.verify is not False
        )
    return Endpoint(url=_checked(context.Host), certificates=certificates)


def _checked(url: str) -> str:
    parts = _split(url)
    match parts.scheme:
        case "unix" if parts.path:
            return f"unix://{parts.path}"
        case "tcp" | "http" | "https" if parts.hostname:
            return parts._replace(scheme="tcp").geturl()
        case "ssh":
            raise DockerUnavailableError(
                f"Stepbox doesn't speak SSH to a Docker Engine itself ({url})",
                fix=f"make a tunnel: ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock {parts.netloc}; "
                "then set DOCKER_HOST=unix:///tmp/engine.sock",
            )
        case _:
            raise DockerUnavailableError(
                f"{url!r} is not the address of a Docker Engine",
                fix="set DOCKER_HOST to unix:///path/to/docker.sock or tcp://host:port",
            )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _port = parts.port
    except ValueError as error:
        raise DockerUnavailableError(
            f"{url!r} is not the address of a Docker Engine: {error}",
            fix="set DOCKER_HOST to unix:///path/to/docker.sock or tcp://host:port",
        ) from None
    return parts

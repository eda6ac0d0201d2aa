"""What stands between a job's request and the network: judgement, look-up, connection, and the name in the TLS."""

import asyncio
import ipaddress
from typing import Final

from steps.addresses import Address, AddressError, Endpoint, UnresolvedError, permitted_addresses
from steps.allowlist import HTTPS_PORT
from steps.sandbox.client_hello import HiddenNameError, NotTlsError, server_name
from steps.sandbox.protocol import Network
from steps.sandbox.proxy_request import HTTP_PORT, Plain, Tunnel
from steps.sandbox.relay import Budget, Server
from steps.sandbox.streams import Stream

MAX_ADDRESSES: Final = 4
"""How many of a host's addresses are tried."""
LOOK_UPS: Final = 4
"""Of one job at once: a name server that hangs holds up this job's requests, and few threads of the process."""


class NotMadeError(Exception):
    """A request that isn't made. ``permitted``: policy would have let it through, but it can't be made.

    ``status`` is the proxy's answer to it; ``reason`` and ``fix`` are for a person.
    """

    def __init__(self, status: int, code: str, reason: str, *, fix: str, permitted: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code
        self.reason = reason
        self.fix = fix
        self.permitted = permitted


class Gate:
    """Lets a job's requests through to what its network allows, and raises :class:`NotMadeError` for all others."""

    def __init__(self, network: Network, budget: Budget) -> None:
        self._network = network
        self._budget = budget
        self._look_ups = asyncio.Semaphore(LOOK_UPS)

    def judge(self, asked: Tunnel | Plain) -> None:
        """Hold a request against the step's allowlist, before anything is asked about its host."""
        endpoint = asked.endpoint
        ports = self._network.allow.ports(endpoint.host)
        entry = endpoint.host if endpoint.port == HTTPS_PORT else str(endpoint)
        if _is_address(endpoint.host):
            raise _not_allowed("an address, where a step reaches names only", "use the name of the host")
        if not ports:
            fix = f'add it to the step: network: {{allow: ["{entry}"]}}'
            if endpoint.host == "localhost":
                fix += "; servers of the step itself are at 127.0.0.1"
            raise _not_allowed("not in network.allow of this step", fix)
        closed = endpoint.port not in ports
        if closed and self._network.allow.everywhere:
            fix = f'use https://{endpoint.host}, or name the host: network: {{allow: ["{entry}"]}}'
            raise _not_allowed("`network: full` is https at port 443 only", fix)
        if isinstance(asked, Plain) and (endpoint.port == HTTPS_PORT or (endpoint.port == HTTP_PORT and closed)):
            fix = f"use https://{endpoint.host}, or allow {endpoint.host}:80"
            raise _not_allowed("http:// is without encryption", fix)
        if closed:
            listed = ", ".join(map(str, sorted(ports)))
            fix = f'add it to the step: network: {{allow: ["{entry}"]}}'
            raise _not_allowed(f"network.allow of this step has port {listed} of it only", fix)

    async def deny(self, endpoint: Endpoint) -> None:
        """Hold a request against the domains that are denied now, whatever the step's allowlist has."""
        pattern = await self._network.denied_by(endpoint.host)
        if pattern is not None:
            fix = f"an admin of the workspace denies `{pattern}`: stepbox policy show"
            raise NotMadeError(403, "denied_domain", "denied by the policy of the workspace", fix=fix)

    async def connect(self, endpoint: Endpoint) -> tuple[Server, Address]:
        """Resolve the host once, and connect to one of the addresses that were judged."""
        addresses = (await self._addresses(endpoint))[:MAX_ADDRESSES]
        loop, why = asyncio.get_running_loop(), ""
        end = loop.time() + self._network.timeouts.connect
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            try:
                async with asyncio.timeout((end - loop.time()) / left):
                    reader, writer = await asyncio.open_connection(str(address), endpoint.port)
            except TimeoutError:
                why = "no answer"
            except OSError as error:
                why = error.strerror or str(error)
            else:
                return Server(reader, writer, self._budget, idle=self._network.timeouts.idle), address
        raise _unreachable(why, "look whether the server is up, and try again later")

    async def hello(self, stream: Stream, endpoint: Endpoint, first: bytes) -> bytes:
        """The first bytes of a tunnel, once they say that they are TLS for the host that the tunnel is to."""
        try:
            async with asyncio.timeout(self._network.timeouts.head):
                name, data = await _hello(stream, first)
        except (NotTlsError, TimeoutError) as error:
            why = str(error) or "nothing more came"
            raise NotMadeError(
                403,
                "not_tls",
                f"no TLS in the tunnel: {why}",
                fix="use https; without encryption, ask for the http:// URL through the proxy",
            ) from None
        except HiddenNameError as error:
            fix = "let the client send the host's name as SNI, and no encrypted ClientHello (ECH)"
            raise NotMadeError(403, "hidden_name", str(error), fix=fix) from None
        if name.lower().removesuffix(".") != endpoint.host:
            reason = f"the TLS connection in the tunnel is for {name[:200]!r}"
            raise NotMadeError(403, "other_name", reason, fix="ask for a tunnel to the host that the client names")
        return data

    async def _addresses(self, endpoint: Endpoint) -> tuple[Address, ...]:
        network = self._network
        seconds = network.timeouts.look_up
        try:
            async with asyncio.timeout(seconds), self._look_ups:
                return await permitted_addresses(
                    endpoint.host, endpoint.port, internal=network.internal, resolver=network.resolver
                )
        except TimeoutError:
            raise _unreachable(f"its name was not resolved within {seconds:g} s", "try again later") from None
        except UnresolvedError as error:
            raise _unreachable(error.message, error.fix or "check the host name") from None
        except AddressError as error:
            fix = error.fix or "use another host"
            raise NotMadeError(403, "internal", "not on the public Internet", fix=fix) from None


async def _hello(stream: Stream, data: bytes) -> tuple[str, bytes]:
    """The server's name, and the bytes that it was found in."""
    while (name := server_name(data)) is None:
        more = await stream.read()
        if not more:
            raise NotTlsError("it ended before it began")
        data += more
    return name, data


def _not_allowed(reason: str, fix: str) -> NotMadeError:
    return NotMadeError(403, "not_allowed", reason, fix=fix)


def _unreachable(reason: str, fix: str) -> NotMadeError:
    return NotMadeError(502, "unreachable", reason, fix=fix, permitted=True)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

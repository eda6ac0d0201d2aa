"""Which network addresses code and tools may reach.

A destination is resolved once, every address it has is judged, and the connection goes to an address that was judged:
a name that resolves differently the second time (DNS rebinding) gains nothing.
"""

import asyncio
import ipaddress
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from queue import SimpleQueue
from typing import Any, Final, Self

import idna

from flows.errors import StepboxError

Address = IPv4Address | IPv6Address
Resolver = Callable[[str, int], Awaitable[tuple[Address, ...]]]
"""From an ASCII host name and a port to its addresses, in the order in which to try them."""

MAX_PORT: Final = 65535
_MAX_HOST: Final = 253

_NON_PUBLIC_4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's metadata, at an otherwise public address
        "169.254.0.0/16",  # link-local, metadata included
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)

_GLOBAL_UNICAST_6: Final = IPv6Network("2000::/3")
"""All that is public. Loopback, ULA, link-local, multicast and IPv4-mapped, -compatible and NAT64 lie outside."""

_NON_PUBLIC_6: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)

_ISATAP: Final = (0x0000_5EFE, 0x0200_5EFE)
"""Upper halves of the interface identifiers that carry an IPv4 address."""

_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")


class AddressError(StepboxError):
    """A destination that can't be reached from here, by its form or by policy."""

    code = "egress_denied"


class UnresolvedError(StepboxError):
    """A host name that has no address."""

    code = "unresolved_host"


@dataclass(frozen=True, order=True)
class Endpoint:
    """A host, as A-labels or an address in its normal form, and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``host:port`` (``[address]:port`` for IPv6).

        Raises:
            ValueError: it isn't one.
        """
        host, colon, port = text.strip().rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"{text!r} is no host:port pair; write an IPv6 address in brackets: [::1]:8080")
        if not colon or not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) <= MAX_PORT:
            raise ValueError(f"{text!r} is no host:port pair; write it like db.internal:5432")
        try:
            return cls(normal_host(host), int(port))
        except AddressError as error:
            raise ValueError(str(error)) from None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_public(address: Address) -> bool:
    """Whether an address is on the public Internet, and stands for no other address that might not be."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NON_PUBLIC_4)
    if address.scope_id is not None or address not in _GLOBAL_UNICAST_6:
        return False
    if (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
        return False
    return not any(address in network for network in _NON_PUBLIC_6)


def normal_host(host: str) -> str:
    """The one way to write a host: lower-case A-labels without a final dot, or a canonical IP address.

    Raises:
        AddressError: it is no host name, or an address in one of the notations (octal, hexadecimal, shortened,
            with a zone) that programs read differently.
    """
    text = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        pass
    else:
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            raise AddressError(f"{host!r} names a network interface", fix="leave out the part from % on")
        return str(address)
    name = text.removesuffix(".")
    try:
        ascii_name = idna.encode(name, uts46=True, std3_rules=True).decode("ascii").lower()
    except idna.IDNAError as error:
        raise AddressError(f"{host!r} is no host name: {error}", fix="write it like api.example.com") from None
    if len(ascii_name) > _MAX_HOST or _NUMERIC_LABEL.fullmatch(ascii_name.rpartition(".")[2]):
        raise AddressError(
            f"{host!r} is neither a host name nor an IP address in its usual form",
            fix="write an address like 192.0.2.1 or [2001:db8::1]",
        )
    return ascii_name


class _LookUps:
    """Asks the system for addresses, in threads of its own.

    Such a question can't be broken off: where no name server answers, it goes on long after whoever asked has given up.
    In the event loop's threads it would hold up everything else there, and the end of the process.
    """

    def __init__(self, threads: int) -> None:
        self._questions: SimpleQueue[tuple[Future[list[Any]], str, int]] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._left = threads
        self._starting = threading.Lock()

    async def ask(self, host: str, port: int) -> list[Any]:
        """What ``getaddrinfo`` gives."""
        answer: Future[list[Any]] = Future()
        self._questions.put((answer, host, port))
        with self._starting:
            if not self._idle.acquire(blocking=False) and self._left:
                self._left -= 1
                threading.Thread(target=self._work, name="look-up", daemon=True).start()
        return await asyncio.wrap_future(answer)

    def _work(self) -> None:
        while True:
            answer, host, port = self._questions.get()
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
                except Exception as error:  # noqa: BLE001 - whoever asked gets it
                    answer.set_exception(error)
            self._idle.release()


_look_ups: Final = _LookUps(threads=16)


async def resolve(host: str, port: int) -> tuple[Address, ...]:
    """The system's answer, as :data:`Resolver`.

    Raises:
        UnresolvedError: the host has no address.
    """
    try:
        found = await _look_ups.ask(host, port)
    except (OSError, UnicodeError) as error:
        raise UnresolvedError(f"{host!r} can't be resolved: {error}", fix="check the host name") from error
    return tuple(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))


async def permitted_addresses(
    host: str, port: int, *, internal: Collection[Endpoint] = (), resolver: Resolver = resolve
) -> tuple[Address, ...]:
    """Resolve a host once and give its addresses, all of which may be connected to.

    ``host`` is as :func:`normal_host` gives it. A host and port that the administrator lists as internal may have any
    address; any other one is refused if only one of its addresses isn't public.

    Raises:
        AddressError: policy refuses it. The message doesn't tell which addresses the name has.
        UnresolvedError: the host has no address.
    """
    try:
        addresses: tuple[Address, ...] = (ipaddress.ip_address(host),)
    except ValueError:
        addresses = await resolver(host, port)
    if not addresses:
        raise UnresolvedError(f"{host!r} has no address", fix="check the host name")
    endpoint = Endpoint(host, port)
    if endpoint not in internal and not all(is_public(address) for address in addresses):
        raise AddressError(
            f"{endpoint} isn't on the public Internet",
            fix=f'only an administrator can open it: `internal: ["{endpoint}"]` in the policy of the workspace, or '
            f"STEPBOX_INTERNAL={endpoint}",
        )
    return addresses

"""The hosts of ``network.allow``: the grammar of an entry, and what it lets through."""

import re
from dataclasses import dataclass
from typing import Final

HTTPS_PORT: Final = 443
"""The port of an entry that names none."""

_MAX_PORT: Final = 65535
_MAX_NAME: Final = 253
"""Characters of the longest name that DNS allows."""
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ENTRY: Final = re.compile(rf"(?P<name>(?:\*\.)?(?:{_LABEL}\.)*{_LABEL})(?::(?P<port>[0-9]{{1,5}}))?")
_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True)
class Allowlist:
    """The entries of a step's ``network.allow``, each of which has no :func:`host_problem`.

    ``everywhere`` is ``network: full``: any host, at the port of https.
    """

    entries: tuple[str, ...]
    everywhere: bool = False

    def allows(self, host: str, port: int) -> bool:
        """Whether an entry has this host and port. ``host`` is as :func:`steps.addresses.normal_host` gives it."""
        return port in self.ports(host)

    def ports(self, host: str) -> frozenset[int]:
        """The ports at which the host may be reached."""
        if self.everywhere:
            return frozenset({HTTPS_PORT})
        parts = (entry.partition(":") for entry in self.entries)
        return frozenset(int(port or HTTPS_PORT) for name, _, port in parts if _covers(name, host))

    def __str__(self) -> str:
        return "every public host" if self.everywhere else ", ".join(self.entries) or "empty"


EVERYWHERE: Final = Allowlist((), everywhere=True)
"""That of ``network: full``."""


def _covers(name: str, host: str) -> bool:
    if name.startswith("*."):
        # Something must stand before the dot: the domain itself is another host.
        return host.endswith(name[1:]) and len(host) > len(name) - 1
    return host == name


def host_problem(host: str) -> tuple[str, str] | None:
    """Why an entry of the allowlist isn't one, and the fix; None where it is.

    An entry is a host name in A-labels and lower case, or ``*.`` before one of at least two labels, with an optional
    ``:port``.
    """
    shown = host[:100]
    match = _ENTRY.fullmatch(host)
    if match is None or len(match["name"]) > _MAX_NAME:
        return _not_a_host(host)
    labels = match["name"].split(".")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        return f"`{shown}` is an IP address", "write the host's name; addresses can't be allowed"
    if labels[0] == "*" and len(labels) < 3:  # noqa: PLR2004 - the star and two labels
        return f"`{shown}` is a whole top-level domain", "write `*.` before a domain, such as `*.example.org`"
    if match["port"] is not None and not 1 <= int(match["port"]) <= _MAX_PORT:
        return f"`{shown}` has no valid port", "write a port from 1 to 65535"
    return None


def _not_a_host(host: str) -> tuple[str, str]:
    shown = host[:100]
    if "/" in host:
        bare = host.partition("://")[2].partition("/")[0] or host.partition("/")[0]
        return f"`{shown}` is an address, not a host", f"write only the host: `{bare[:100]}`"
    if host == "*":
        return "`*` is every host", "name the hosts, or write `network: full`"
    if not host.isascii():
        return f"`{shown}` is not in ASCII", "write the name as DNS has it (`xn--…`)"
    if host != host.lower():
        return f"`{shown}` has capitals", f"write `{shown.lower()}`"
    return f"`{shown}` is not a host", "write a name such as `api.example.com`, `*.example.org` or `example.com:8443`"

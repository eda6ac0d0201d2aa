"""Network and communication between sandboxes"""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flows.values import Json, StepStatus
from steps.sandbox.protocol import Runner
from tests.sandbox.conftest import RecordingHost, RunStep
from tests.sandbox.snippets import SYSCALL

attack = pytest.mark.attack
pytestmark = pytest.mark.every_runner


def of_ipv6(runner: Runner, error: str) -> str:
    """What IPv6 gives where the jail gives ``error``: the loopback of a container has no address of it."""
    return error if runner.isolation == "jail" else "EADDRNOTAVAIL"


@attack("open a netlink, packet, vsock, raw, AF_ALG, TIPC, bluetooth or XDP socket", "`EPERM`")
async def test_sockets_are_denied(run_step: RunStep) -> None:
    code = """
import errno, socket
def failure(family, kind):
    try: return socket.socket(family, kind).family
    except OSError as error: return errno.errorcode[error.errno]
stream, datagram, raw, packets = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET
netlink, packet, vsock, algorithm, tipc, can, bluetooth, xdp = 16, 17, 40, 38, 30, 29, 31, 44
return [
    failure(*kind)
    for kind in (
        *((netlink, raw), (netlink, datagram), (packet, raw), (packet, datagram), (vsock, stream), (algorithm, packets)),
        *((tipc, stream), (can, raw), (bluetooth, stream), (xdp, raw)),
        *((socket.AF_INET, raw), (socket.AF_INET6, raw), (socket.AF_UNIX, raw)),
    )
]
"""
    assert (await run_step(code)).result == ["EPERM"] * 13


@attack("open ICMP, SCTP, DCCP, UDP-Lite or MPTCP over IPv4 and IPv6", "`EPERM`")
async def test_protocols_other_than_tcp_and_udp_are_denied(run_step: RunStep) -> None:
    kinds = [(2, 1), (1, 132), (5, 132), (6, 33), (2, 136), (1, 262), (4, 0), (10, 0)]
    code = f"{SYSCALL}\nreturn [call(41, family, *kind) for family in (2, 10) for kind in {kinds}]"
    assert (await run_step(code)).result == ["EPERM"] * 16


@attack("make a pair of sockets of a family that can't be opened", "`EPERM`")
async def test_pairs_of_other_families_are_denied(run_step: RunStep) -> None:
    code = f"{SYSCALL}\npair = (ctypes.c_int * 2)()\nreturn [call(53, family, 1, 0, pair) for family in (30, 2, 16, 38, 40, 1)]"
    assert (await run_step(code)).result == ["EPERM"] * 5 + [0]


@pytest.mark.both_users
@attack("reach an address: public, private, of metadata services; IPv4 and IPv6", "`ENETUNREACH`, `EADDRNOTAVAIL`")
async def test_no_network_is_reachable(run_step: RunStep, runner: Runner) -> None:
    code = """
import errno, socket
def failure(address):
    try: return socket.create_connection((address, 80), 5)
    except OSError as error: return errno.errorcode[error.errno]
return [failure(address) for address in inputs["addresses"]]
"""
    addresses: list[Json] = [
        *("1.1.1.1", "10.0.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1"),
        *("2606:4700:4700::1111", "fd00::1", "::ffff:1.1.1.1", "64:ff9b::101:101"),
    ]
    ipv6 = of_ipv6(runner, "ENETUNREACH")
    outcome = await run_step(code, inputs={"addresses": addresses})
    assert outcome.result == [*["ENETUNREACH"] * 5, ipv6, ipv6, "ENETUNREACH", ipv6]


@pytest.mark.both_users
@attack("send datagrams, broadcast, multicast", "`ENETUNREACH`, `EADDRNOTAVAIL`")
async def test_no_datagram_leaves(run_step: RunStep, runner: Runner) -> None:
    code = """
import errno, socket
def sent(family, address, *options):
    line = socket.socket(family, socket.SOCK_DGRAM)
    for option in options: line.setsockopt(*option)
    try: return line.sendto(b"x", address)
    except OSError as error: return errno.errorcode[error.errno]
broadcast = (socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
return [
    sent(socket.AF_INET, ("8.8.8.8", 53)),
    sent(socket.AF_INET, ("224.0.0.251", 5353)),
    sent(socket.AF_INET, ("255.255.255.255", 67), broadcast),
    sent(socket.AF_INET6, ("2001:4860:4860::8888", 53)),
    sent(socket.AF_INET6, ("ff02::1", 5353)),
]
"""
    assert (await run_step(code)).result == ["ENETUNREACH"] * 3 + [of_ipv6(runner, "ENETUNREACH")] * 2


@pytest.mark.both_users
@attack("resolve a name", "it can't be resolved")
async def test_no_name_is_resolved(run_step: RunStep) -> None:
    outcome = await run_step("curl -sS -m 5 https://example.com", "shell")
    assert outcome.status is StepStatus.FAILED
    assert "Could not resolve host" in outcome.stderr


@pytest.mark.both_users
@attack("see or change interfaces and routes", "loopback alone, which can't be changed")
async def test_loopback_is_the_only_interface_and_is_the_sandboxs_own(run_step: RunStep) -> None:
    code = """
import errno, fcntl, socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
try: fcntl.ioctl(client, 0x8914, b"lo".ljust(16, b"\\0") + b"\\0" * 24)
except OSError as error: change = errno.errorcode[error.errno]
return open("/proc/self/net/dev").read().count(":"), change
"""
    outcome = await run_step(code)
    assert outcome.result == [1, "EPERM"]


@pytest.fixture
def services_of_the_host(tmp_path: Path) -> Iterator[dict[str, object]]:
    """Listens on the host's loopback, IPv4 and IPv6, on an abstract Unix socket and on one with a path."""
    with ExitStack() as opened:
        ipv4 = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        ipv6 = opened.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
        abstract, named = (opened.enter_context(socket.socket(socket.AF_UNIX)) for _number in range(2))
        abstract.bind(f"\0stepbox-test-{ipv4.getsockname()[1]}")
        named.bind(str(tmp_path / "socket"))
        abstract.listen()
        named.listen()
        yield {
            "ports": [ipv4.getsockname()[1], ipv6.getsockname()[1]],
            "abstract": abstract.getsockname()[1:].decode(),
            "path": str(tmp_path / "socket"),
        }


@pytest.mark.both_users
@attack("reach services of the host: its loopback, its abstract and its named Unix sockets", "`ECONNREFUSED`, `ENOENT`")
async def test_services_of_the_host_are_out_of_reach(
    run_step: RunStep, runner: Runner, services_of_the_host: dict[str, object]
) -> None:
    code = """
import errno, socket
def reached(family, address):
    try: socket.socket(family).connect(address)
    except OSError as error: return errno.errorcode[error.errno]
four, six = inputs["ports"]
return [
    reached(socket.AF_INET, ("127.0.0.1", four)),
    reached(socket.AF_INET6, ("::1", six)),
    reached(socket.AF_UNIX, "\\0" + inputs["abstract"]),
    reached(socket.AF_UNIX, inputs["path"]),
]
"""
    outcome = await run_step(code, inputs=services_of_the_host)
    assert outcome.result == ["ECONNREFUSED", of_ipv6(runner, "ECONNREFUSED"), "ECONNREFUSED", "ENOENT"]


@pytest.mark.both_users
@attack("reach another sandbox: loopback, abstract sockets, POSIX message queues, semaphores", "each has its own")
async def test_sandboxes_at_the_same_time_do_not_reach_each_other(run_step: RunStep, runner: Runner) -> None:
    meeting = asyncio.Barrier(2)

    async def meet(name: str, arguments: object) -> None:
        async with asyncio.timeout(20):
            await meeting.wait()

    host = RecordingHost(tools={"demo.meet": lambda _given: None})
    host.call_tool = meet  # type: ignore[method-assign]
    code = f"""{SYSCALL}
import socket
from multiprocessing import shared_memory
def reached(family, address):
    try: socket.socket(family).connect(address)
    except OSError as error: return errno.errorcode[error.errno]
if inputs["serves"]:
    serving = [socket.create_server(("127.0.0.1", 4321)), socket.socket(socket.AF_UNIX)]
    serving[1].bind("\\0meeting")
    serving[1].listen()
    made = [call(240, b"queue", 0o102, 0o600, 0) != "EPERM", shared_memory.SharedMemory("memory", create=True, size=1).size]
    tools.meet()
    tools.meet()
    return made
tools.meet()
try: shared_memory.SharedMemory("memory")
except FileNotFoundError: memory = "ENOENT"
found = [
    reached(socket.AF_INET, ("127.0.0.1", 4321)),
    reached(socket.AF_UNIX, "\\0meeting"),
    call(240, b"queue", 2, 0o600, 0),
    memory,
]
tools.meet()
return found
"""
    serving, looking = await asyncio.gather(
        *(run_step(code, inputs={"serves": serves}, host=host) for serves in (True, False))
    )
    # Containers have one user outside, and so one limit of message queues, together: theirs are denied.
    jailed = runner.isolation == "jail"
    assert (serving.result, serving.error) == ([jailed, 1], None)
    assert looking.result == ["ECONNREFUSED", "ECONNREFUSED", "ENOENT" if jailed else "EPERM", "ENOENT"]

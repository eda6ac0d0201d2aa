"""Guarantees about the network of a step that declares none."""

from steps.sandbox.doctor.guarantee import Guarantee, Reading, Trial, broken, held, some

REACH = """
import select, socket, threading
reached, wanted = [], {}
def outward(family, address):
    probe = socket.socket(family, socket.SOCK_STREAM)
    probe.setblocking(False)
    code = probe.connect_ex((address, 80))
    wanted[probe] = address
    return code
for kind, port in inputs["ports"].items():
    if kind == "HTTP":
        continue
    family = socket.AF_INET6 if "6" in kind else socket.AF_INET
    address = "::1" if "6" in kind else "127.0.0.1"
    try:
        probe = socket.socket(family, socket.SOCK_DGRAM if kind == "UDP" else socket.SOCK_STREAM)
        probe.settimeout(1)
        probe.connect((address, port))
        probe.send(b"x")
    except OSError:
        pass
try:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.connect("\\0" + inputs["socket"])
except OSError:
    pass
nowhere = (1, 13, 22, 97, 99, 101)
beyond = ["169.254.169.254", "10.0.0.1", "1.1.1.1", "2606:4700:4700::1111", "fd00:ec2::254"]
for address in [*inputs["addresses"], *beyond]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        code = outward(family, address)
    except OSError as problem:
        code = problem.errno
    if code not in nowhere:
        reached.append(address)
try:
    with open("/proc/self/net/dev") as file:
        interfaces = [line.partition(":")[0].strip() for line in file if ":" in line]
except OSError:
    interfaces = []
look()
return {"reached": reached, "interfaces": interfaces}
"""


def _read_reach(trial: Trial) -> Reading:
    found = trial.result
    if contacts := sorted(set(trial.canaries.contacts) - {"HTTP"}):
        return broken(f"this machine was reached over {some(contacts, most=4)}")
    if found["reached"]:
        return broken(f"the code has a way to {some(found['reached'])}")
    if others := [name for name in found["interfaces"] if name != "lo"]:
        return broken(f"the code has the interfaces {some(others)}")
    return held(f"{len(trial.canaries.ports)} listeners heard nothing; IPv4, IPv6 lead nowhere")


NAMES = """
import socket
socket.setdefaulttimeout(2)
found = []
for name in ("example.com", "localhost.localdomain", "metadata.google.internal"):
    try:
        found += [entry[4][0] for entry in socket.getaddrinfo(name, 80)]
    except OSError:
        pass
return [address for address in found if not address.startswith(("127.", "::1"))]
"""


def _read_names(trial: Trial) -> Reading:
    if found := trial.result:
        return broken(f"the code resolves names ({some(found)})")
    return held("no name is resolved")


SOCKETS = """
import socket
opened, count = [], 0
families = {
    "netlink": (16, 3), "packet": (17, 3), "raw IPv4": (2, 3), "raw IPv6": (10, 3), "vsock": (40, 1), "alg": (38, 5),
    "key": (15, 3), "bluetooth": (31, 3), "can": (29, 3), "xdp": (44, 3), "tipc": (30, 1), "rds": (21, 5),
    "ax25": (3, 2), "smc": (43, 1), "nfc": (39, 3), "ieee802154": (36, 2),
}
for name, (family, kind) in families.items():
    protocol = {"netlink": 0, "raw IPv4": 1, "raw IPv6": 58, "packet": 0}.get(name, 0)
    count += 1
    try:
        socket.socket(family, kind, protocol).close()
        opened.append(name)
    except OSError:
        pass
return {"opened": opened, "count": count}
"""


def _read_sockets(trial: Trial) -> Reading:
    if opened := trial.result["opened"]:
        return broken(f"the code opens sockets of {some(opened)}")
    return held(f"{trial.result['count']} kinds refused: netlink, packet, raw, vsock …")


GUARANTEES = (
    Guarantee(
        id="network",
        subject="network",
        promise="neither this machine nor anything beyond can be reached",
        code=REACH,
        read=_read_reach,
    ),
    Guarantee(
        id="names",
        subject="network",
        promise="no name is resolved",
        code=NAMES,
        read=_read_names,
    ),
    Guarantee(
        id="socket_kinds",
        subject="network",
        promise="sockets are Unix, IPv4 and IPv6 only: no raw ones, no netlink",
        code=SOCKETS,
        read=_read_sockets,
    ),
)

"""What the host puts in the way of attacks, so that a broken guarantee shows: secrets, listeners, a process.

All of it ends with the process that planted it, however that ends, but for the two files.
"""

import asyncio
import ctypes
import os
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from flows.values import Json
from steps.sandbox.doctor.mounts import Mount, mounts

VARIABLE = "STEPBOX_DOCTOR_SECRET"
SCRATCH = ("/tmp", "/dev/shm", "/var/tmp")  # noqa: S108 - the host's own, in which nothing of a sandbox may show
DOCUMENTED = (
    *("/usr", "/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin"),
    *("/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/alternatives", "/etc/ld.so.cache"),
    *("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"),
    *("/opt/stepbox", "/opt/python", "/opt/packages", "/opt/deno"),
    *("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"),
)
"""The places in a sandbox that may come from a file system of this machine (docs/sandbox.md)."""
_TEMPTING = (
    *("/etc/shadow", "/etc/sudoers", "/etc/machine-id", "/etc/ssh", "/root", "/home", "/boot", "/srv", "/media"),
    *("/var/log", "/var/lib", "/var/spool", "/run", "/run/docker.sock", "/run/containerd", "/run/dbus", "/run/systemd"),
    *("/sys/kernel", "/sys/fs/cgroup", "/dev/kmsg", "/dev/mem", "/dev/kvm", "/dev/fuse", "/dev/net/tun"),
)
_TEMPTING_AT_HOME = (
    *(".ssh", ".aws", ".azure", ".kube", ".docker", ".config", ".local", ".netrc", ".pgpass", ".git-credentials"),
    *(".bash_history", ".gnupg", ".pypirc", ".npmrc"),
)
_IPC_CREATE, _IPC_REMOVE = 0o1000, 0
_SEGMENT_SIZE = 4096


@dataclass(kw_only=True)
class Canaries:
    """Everything planted. ``contacts`` fills with the listeners that somebody has reached.

    ``token`` is the secret in all of them; ``paths`` are the host's files by the device and inode that they have;
    ``segment`` is the id of a System V shared memory segment, -1 where this machine has none; ``keys`` are those under
    which attacks make their own; ``ports`` are those of the listeners on loopback by kind, ``socket`` the name of the
    abstract one; ``addresses`` are this machine's.
    """

    token: str
    files: Sequence[Path]
    descriptor: Sequence[int]
    paths: Mapping[str, Sequence[int]]
    mounts: Sequence[Mount]
    process: asyncio.subprocess.Process
    segment: int
    keys: Sequence[int]
    ports: Mapping[str, int]
    socket: str
    addresses: Sequence[str]
    contacts: list[str] = field(default_factory=list)

    def inputs(self) -> dict[str, Json]:
        """What the attacks are told."""
        return {
            "token": self.token,
            "files": [str(path) for path in self.files],
            "descriptor": list(self.descriptor),
            "paths": {path: list(identity) for path, identity in self.paths.items()},
            "process": self.process.pid,
            "segment": self.segment,
            "keys": list(self.keys),
            "ports": dict(self.ports),
            "socket": self.socket,
            "addresses": list(self.addresses),
        }


@asynccontextmanager
async def plant(*homes: Path) -> AsyncIterator[Canaries]:
    """Plant the canaries; ``homes`` are directories of the installation whose files no code may see."""
    token = secrets.token_hex(16)
    contacts: list[str] = []
    async with AsyncExitStack() as stack:
        stack.enter_context(_variable(token))
        files = [path for place in SCRATCH if (path := stack.enter_context(_file(Path(place), token))) is not None]
        descriptor = stack.enter_context(_inheritable(files)) if files else (0, 0)
        name = f"stepbox-doctor-{token}"
        yield Canaries(
            token=token,
            files=files,
            descriptor=descriptor,
            paths=_identities([*files, *_of_installation(homes), *_worth_stealing()]),
            mounts=mounts(),
            process=await stack.enter_async_context(_process(token)),
            segment=stack.enter_context(_segment(token)),
            keys=stack.enter_context(_keys()),
            ports=await stack.enter_async_context(_listeners(name, contacts)),
            socket=name,
            addresses=_own_addresses(),
            contacts=contacts,
        )


def _of_installation(homes: Sequence[Path]) -> Iterator[Path]:
    """What no sandbox may have wherever it lies: below /usr, which sandboxes see, it lies wrongly."""
    for home in homes:
        yield home
        yield from (home / name for name in ("stepbox.db", "files", "shared"))


def _worth_stealing() -> Iterator[Path]:
    """What is interesting on most machines, unless it lies where sandboxes may look."""
    found = [*map(Path, _TEMPTING), Path(__file__)]
    with suppress(RuntimeError):
        own = Path.home()
        found += [own, *(own / name for name in _TEMPTING_AT_HOME)]
    yield from (path for path in found if not documented(os.path.realpath(path)))


def documented(place: str) -> bool:
    """Whether a sandbox may have something of this machine there."""
    return any(Path(place).is_relative_to(folder) for folder in DOCUMENTED)


def _identities(paths: Sequence[Path]) -> dict[str, tuple[int, int]]:
    """The device and inode of each path that is there."""
    found = {}
    for path in paths:
        with suppress(OSError):
            status = path.stat()
            found[str(path)] = (status.st_dev, status.st_ino)
    return found


@contextmanager
def _variable(token: str) -> Iterator[None]:
    os.environ[VARIABLE] = token
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)


@contextmanager
def _file(place: Path, token: str) -> Iterator[Path | None]:
    """A file that every user may read, in a directory of its own; None where the place can't be written."""
    try:
        folder = tempfile.TemporaryDirectory(prefix=f"stepbox-doctor-{os.getpid()}-", dir=place)
    except OSError:
        yield None
        return
    with folder as name:
        os.chmod(name, 0o755)  # noqa: PTH101, S103 - the sandbox's user must fail for another reason than this
        path = Path(name) / "secret"
        path.write_text(token)
        yield path


@contextmanager
def _inheritable(files: Sequence[Path]) -> Iterator[tuple[int, int]]:
    """Hold a file open in a way that careless programs pass on; gives its device and inode."""
    descriptor = os.open(files[0], os.O_RDONLY)
    try:
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - the call has one argument
        status = os.fstat(descriptor)
        yield status.st_dev, status.st_ino
    finally:
        os.close(descriptor)


@asynccontextmanager
async def _process(token: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of this user whose command line has the token. It ends with its stdin, so with us at the latest."""
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", "read -r _line", token, stdin=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


@contextmanager
def _segment(token: str) -> Iterator[int]:
    """A System V shared memory segment with the token.

    It is removed as soon as it is made: until we detach it, it is there for everybody who knows its id (shmctl(2)).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    libc.shmdt.argtypes = [ctypes.c_void_p]
    number = libc.shmget(0, _SEGMENT_SIZE, _IPC_CREATE | 0o666)
    if number < 0:
        yield -1
        return
    address = libc.shmat(number, None, 0)
    libc.shmctl(number, _IPC_REMOVE, None)
    if address is None or address == ctypes.c_void_p(-1).value:
        yield -1
        return
    ctypes.memmove(address, token.encode(), len(token))
    try:
        yield number
    finally:
        libc.shmdt(address)


@contextmanager
def _keys() -> Iterator[tuple[int, int]]:
    """Two keys of shared memory that nobody uses; what attacks leave under them on this machine is removed."""
    first = secrets.randbelow(2**30) + 2**30 - 1
    keys = (first, first + 1)
    try:
        yield keys
    finally:
        libc = ctypes.CDLL(None)
        for key in keys:
            if (number := libc.shmget(key, 0, 0)) >= 0:
                libc.shmctl(number, _IPC_REMOVE, None)


@asynccontextmanager
async def _listeners(name: str, contacts: list[str]) -> AsyncIterator[dict[str, int]]:
    """Listen on loopback, over TCP and UDP, and on an abstract Unix socket; gives the ports.

    ``HTTP`` is one more that only JavaScript tries.
    """

    def contacted(kind: str) -> "type[asyncio.Protocol]":
        class Contact(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                contacts.append(kind)
                transport.close()

        return Contact

    class Datagram(asyncio.DatagramProtocol):
        def datagram_received(self, _data: bytes, _address: object) -> None:
            contacts.append("UDP")

    loop = asyncio.get_running_loop()
    ports: dict[str, int] = {}
    async with AsyncExitStack() as stack:
        for kind, address in (("TCP", "127.0.0.1"), ("TCP over IPv6", "::1"), ("HTTP", "127.0.0.1")):
            with suppress(OSError):
                server = await loop.create_server(contacted(kind), address, 0)
                await stack.enter_async_context(server)
                ports[kind] = server.sockets[0].getsockname()[1]
        transport, _protocol = await loop.create_datagram_endpoint(Datagram, local_addr=("127.0.0.1", 0))
        stack.callback(transport.close)
        ports["UDP"] = transport.get_extra_info("sockname")[1]
        await stack.enter_async_context(await loop.create_unix_server(contacted("Unix socket"), f"\0{name}"))
        yield ports


def _own_addresses() -> list[str]:
    """The addresses by which this machine reaches others; nothing is sent to find out."""
    found = []
    for family, remote in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((remote, 9))
            found.append(str(probe.getsockname()[0]))
    return found
